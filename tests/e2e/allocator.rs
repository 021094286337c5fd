//! The allocator of the built program.

use crate::support::{Backend, Place, process};

/// Without it each delivery takes longer; nobody would notice that it is gone.
#[tokio::test]
async fn the_program_runs_on_mimalloc() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let verbose = [("MIMALLOC_VERBOSE", "1")];
    let said = process::run(&place, &["--version"], &verbose, None).await;
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.status.success() && errors.contains("mimalloc: process init"),
        "{errors}"
    );
}
