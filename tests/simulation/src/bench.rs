//! Where runs are made: each in a thread and a runtime of its own, one after the other on the same
//! database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use posthaste_shared::chance;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::simulation::SimulatedDatabase;
use posthaste_shared::store::{Store, StoreError, StoreOptions};
use tempfile::TempDir;

use crate::entropy;
use crate::plan::Options;
use crate::run::{Lab, Outcome, run};

/// A place for runs, one at a time.
pub struct Bench {
    lab: Lab,
    _files: TempDir,
}

/// Why there is no bench.
#[derive(Debug)]
pub enum BenchError {
    /// The database cannot be created.
    Store(StoreError),
    /// There is no room for files, or for a runtime.
    Io(std::io::Error),
}

impl From<StoreError> for BenchError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Bench {
    /// A bench with a new database, in memory where the system has a file system for that.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn new() -> Result<Self, BenchError> {
        let memory = Path::new("/dev/shm");
        let files = if memory.is_dir() {
            tempfile::tempdir_in(memory)?
        } else {
            tempfile::tempdir()?
        };
        let path = files.path().join("simulated.db");
        let options = StoreOptions::new(Secret::new(format!("sqlite://{}", path.display())));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let store = Store::connect(&options).await?;
            store.migrate().await?;
            store.close().await;
            Ok::<_, StoreError>(())
        })?;
        let lab = Lab::new(SimulatedDatabase::open(&path)?);
        let bench = Self { lab, _files: files };
        // What is created once for the process is created now, and not within the first run that
        // counts, which would differ by it from the same run later.
        let _ = bench.run(0, &Options::default(), false);
        Ok(bench)
    }

    /// Runs a seed.
    #[must_use = "it says what was found"]
    pub fn run(&self, seed: u64, options: &Options, traced: bool) -> Outcome {
        let lab = self.lab.clone();
        let options = options.clone();
        // A new thread: what the libraries keep for each thread begins anew with it.
        let thread = std::thread::spawn(move || {
            entropy::begin(seed);
            chance::begin(seed);
            catch_unwind(AssertUnwindSafe(|| {
                in_virtual_time(lab, seed, options, traced)
            }))
            .unwrap_or_else(|panic| panicked(panic.as_ref()))
        });
        thread
            .join()
            .unwrap_or_else(|panic| panicked(panic.as_ref()))
    }
}

fn in_virtual_time(lab: Lab, seed: u64, options: Options, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(lab, seed, options, traced)),
        Err(error) => panic!("no runtime: {error}"),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Outcome {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Outcome {
        violations: vec![format!("panicked: {}", text.unwrap_or_default())],
        ..Outcome::default()
    }
}
