//! Runs the examples as programs, and checks their output and their files.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use pget_testkit::content::Pattern;
use tempfile::TempDir;

const PATTERN: Pattern = Pattern::new(7);
const WITHIN: Duration = Duration::from_secs(60);

/// Returns an example. `cargo test` builds them all; if only this test was built, it builds the
/// example itself.
fn example(name: &str) -> Command {
    let test = env::current_exe().expect("this test");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("a folder");
    let program = folder.join("examples").join(name);
    if !program.exists() {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "-q", "--locked", "-p", "libpget", "--example", name])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo runs").success(),
            "{name} is not built"
        );
    }
    Command::new(program)
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let deadline = Instant::now() + WITHIN;
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > deadline {
            child.kill().ok();
            panic!("{command:?} does not end");
        }
        // The standard library has no wait with a deadline.
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("its output")
}

#[track_caller]
fn succeeded(command: &mut Command) -> String {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).expect("written");
        self.path(name)
    }
}

#[test]
fn custom_destination_writes_at_its_offset_and_nowhere_else() {
    let scene = Scene::new();
    let object = scene.put("object", &PATTERN.bytes(0, 3_000_001));
    let disk = scene.put("disk", &vec![0xaa; 4 << 20]);
    let printed = succeeded(example("custom_destination").arg(&object).arg(&disk).arg("4096"));
    assert!(printed.starts_with("3000001 bytes in "), "{printed}");
    let bytes = fs::read(&disk).expect("the file");
    assert_eq!(bytes.len(), 4 << 20);
    let (before, rest) = bytes.split_at(4096);
    let (object_there, after) = rest.split_at(3_000_001);
    assert_eq!(PATTERN.check(0, object_there), Ok(()));
    assert!(before.iter().chain(after).all(|byte| *byte == 0xaa));
    // The object does not fit.
    let refused = run(example("custom_destination")
        .arg(&object)
        .arg(&disk)
        .arg("2000000"));
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && errors.contains("too few"),
        "{errors}"
    );
}

#[test]
fn safetensors_reads_the_tensors_of_a_prefix() {
    let scene = Scene::new();
    let header = br#"{"__metadata__":{"format":"pt"},"a.0":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"a.1":{"dtype":"U8","shape":[0],"data_offsets":[5,5]},"b":{"dtype":"U8","shape":[100],"data_offsets":[5,105]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(&PATTERN.bytes(0, 105));
    let file = scene.put("weights.safetensors", &file);
    let printed = succeeded(example("safetensors").arg(&file).arg("a."));
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(lines[0].starts_with("2 tensors, "), "{printed}");
    assert_eq!(lines[1..], ["a.0: 5 bytes", "a.1: 0 bytes"]);
    let printed = succeeded(example("safetensors").arg(&file));
    assert!(
        printed.contains("b: 100 bytes") && printed.contains("3 tensors"),
        "{printed}"
    );
    // The example refuses a file of another format.
    let other = scene.put("other", &[0xff; 100]);
    let refused = run(example("safetensors").arg(&other));
    assert!(!refused.status.success());
}

#[test]
fn resume_brings_what_is_missing_and_starts_over_when_the_object_has_changed() {
    let scene = Scene::new();
    let object = scene.put("object", &PATTERN.bytes(0, 1_000_003));
    let copy = scene.path("copy");
    let printed = succeeded(example("resume").arg(&object).arg(&copy));
    assert_eq!(printed, "1000003 bytes were missing\n");
    assert_eq!(PATTERN.check(0, &fs::read(&copy).expect("the copy")), Ok(()));
    fs::write(&object, Pattern::new(8).bytes(0, 2_000_003)).expect("written");
    let printed = succeeded(example("resume").arg(&object).arg(&copy));
    assert_eq!(printed, "2000003 bytes were missing\n");
    let bytes = fs::read(&copy).expect("the copy");
    assert_eq!(
        (bytes.len(), Pattern::new(8).check(0, &bytes)),
        (2_000_003, Ok(()))
    );
    let left = fs::read_dir(scene.0.path()).expect("a folder").count();
    assert_eq!(left, 2, "part and journal are gone");
}
