//! The worker's script engine: compiled scripts are kept, and only so many run at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::call::{self, Places};
use super::turns::Turns;
use super::{Call, Called, MAX_RUNNING, Script, ScriptProblem, compile};
use crate::send::Sender;

/// Compiled scripts that are kept: one for each of as many endpoints.
const KEPT_SCRIPTS: usize = 1_024;

/// Runs scripts; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: Sender,
    running: Arc<Semaphore>,
    turns: Arc<Turns>,
    kept: Mutex<Kept>,
}

/// The scripts that were compiled, by the hash of their source.
#[derive(Debug, Default)]
struct Kept {
    scripts: HashMap<[u8; 32], (Script, u64)>,
    /// Counts uses, so that the one unused for longest can make room.
    uses: u64,
}

impl Engine {
    /// An engine whose scripts make their requests by `sender`.
    #[must_use]
    pub fn new(sender: Sender) -> Self {
        let running = Arc::new(Semaphore::new(MAX_RUNNING));
        // Half of the processors, at most, go to scripts that compute for long.
        let turns = std::thread::available_parallelism().map_or(1, |processors| processors.get() / 2);
        let turns = Arc::new(Turns::new(turns));
        Self(Arc::new(Shared { sender, running, turns, kept: Mutex::default() }))
    }

    /// The script of this source, compiled unless it was before; not on this thread, as that may take a while.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub async fn script(&self, source: &str) -> Result<Script, ScriptProblem> {
        let key: [u8; 32] = Sha256::digest(source).into();
        if let Some(script) = self.kept(|kept| kept.get(&key)) {
            return Ok(script);
        }
        // Not under the lock: other deliveries need not wait for it.
        let source = source.to_owned();
        let compiled = tokio::task::spawn_blocking(move || compile(&source)).await;
        let script =
            compiled.unwrap_or_else(|_| Err(ScriptProblem::of_all("the script cannot be compiled".to_owned())))?;
        self.kept(|kept| kept.put(key, script.clone()));
        Ok(script)
    }

    /// Calls the default export with `argument`, which is JSON text. The script runs in a thread of its own; it
    /// is stopped at the deadline, and when this future is dropped. Waiting for one of the [`MAX_RUNNING`]
    /// places counts as time of the call.
    pub async fn call(&self, script: &Script, argument: &str, call: Call) -> Called {
        let places = Places { running: Arc::clone(&self.0.running), turns: Arc::clone(&self.0.turns) };
        call::call(self.0.sender.clone(), places, script, argument, call).await
    }

    fn kept<R>(&self, act: impl FnOnce(&mut Kept) -> R) -> R {
        act(&mut self.0.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn get(&mut self, key: &[u8; 32]) -> Option<Script> {
        self.uses += 1;
        let (script, used) = self.scripts.get_mut(key)?;
        *used = self.uses;
        Some(script.clone())
    }

    fn put(&mut self, key: [u8; 32], script: Script) {
        self.uses += 1;
        self.scripts.insert(key, (script, self.uses));
        if self.scripts.len() > KEPT_SCRIPTS {
            let oldest = self.scripts.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            oldest.and_then(|key| self.scripts.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_is_compiled_once() {
        let engine = Engine::new(Sender::new(posthaste_shared::egress::EgressPolicy::default()).unwrap());
        let first = engine.script("export default () => 1").await.unwrap();
        let again = engine.script("export default () => 1").await.unwrap();
        let other = engine.script("export default () => 2").await.unwrap();
        assert!(Arc::ptr_eq(&first.0, &again.0));
        assert!(!Arc::ptr_eq(&first.0, &other.0));
    }

    #[test]
    fn the_script_unused_for_longest_makes_room() {
        let script = compile("export default () => 1").unwrap();
        let mut kept = Kept::default();
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        for number in 0..KEPT_SCRIPTS {
            kept.put(key(number), script.clone());
        }
        assert!(kept.get(&key(0)).is_some());
        kept.put(key(KEPT_SCRIPTS), script);
        assert_eq!(kept.scripts.len(), KEPT_SCRIPTS);
        assert!(kept.get(&key(0)).is_some(), "used since");
        assert!(kept.get(&key(1)).is_none(), "unused for longest");
    }
}
