//! The part that a file grows in, when its name is taken.

use pget::ErrorKind;

#[test]
fn a_file_named_as_the_part_is_not_destroyed_by_reading_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("x.pget-part");
    let linked = folder.path().join("other");
    std::fs::write(&source, b"all there is").expect("written");
    std::fs::hard_link(&source, &linked).expect("linked");
    for name in [&source, &linked] {
        let address = name.to_str().expect("a path");
        let result = pget::builder(address).get_file_blocking(&folder.path().join("x"));
        assert_eq!(
            result.expect_err("it would have to be emptied").kind(),
            ErrorKind::Destination
        );
        assert_eq!(std::fs::read(&source).expect("it is there"), b"all there is");
    }
    let copy = folder.path().join("y");
    let stats = pget::builder(source.to_str().expect("a path")).get_file_blocking(&copy);
    assert_eq!(stats.expect("another name is free").delivered, 12);
}
