//! The thread of the crate is started by the first poll of a stream. This test has a process of its
//! own, because any other read would start it.

use pget_object_store::v0_14::{
    PgetStore,
    object_store::{ObjectStoreExt as _, memory::InMemory, path::Path},
};

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let names = tasks.filter_map(|task| {
        // A thread may end between the list and the look.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.trim() == "pget-store").count()
}

#[tokio::test]
async fn no_thread_is_started_before_the_first_poll() {
    let path = Path::from("object");
    let stores = [InMemory::new(), InMemory::new()].map(|store| PgetStore::new(store).with_threshold(0));
    let mut results = Vec::new();
    for store in stores {
        store.put(&path, vec![7; 4 << 20].into()).await.expect("stored");
        results.push(store.get(&path).await.expect("there"));
    }
    assert_eq!(threads(), 0);
    for result in results {
        assert_eq!(result.bytes().await.expect("right").len(), 4 << 20);
        // Stores share the thread.
        assert_eq!(threads(), 1);
    }
}
