//! The worker's script engine: compiled scripts are kept, and a bounded number run at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use posthaste_shared::domain::id::TenantId;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::call::{self, Asked};
use super::work;
use super::{Call, Called, Compiler, Script, ScriptProblem, Uncompiled};
use crate::send::Sender;

/// Sources that are kept compiled: one for each of as many endpoints.
const KEPT_SCRIPTS: usize = 1_024;
/// The most memory that kept scripts take. A script takes some ten times as much as its source.
const KEPT_BYTES: usize = 128 * 1024 * 1024;
/// What a kept source takes beside what was compiled.
const ENTRY_BYTES: usize = 256;

/// Runs scripts; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: Sender,
    compiler: Compiler,
    calls: Arc<work::Shared>,
    kept: Mutex<Kept>,
}

/// The result of compiling a source, once that is known. Everybody who wants the same source waits
/// for the same cell.
type Known = Arc<OnceCell<Result<Script, ScriptProblem>>>;

/// The sources seen so far, by their hash; also those that do not compile, so that they are
/// compiled once and not for each delivery.
#[derive(Debug, Default)]
struct Kept {
    sources: HashMap<[u8; 32], Entry>,
    /// Counts uses, so that the one unused for longest can make room.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    used: u64,
}

impl Engine {
    /// An engine whose scripts make their requests by `sender`, and are compiled by `compiler`.
    #[must_use]
    pub fn new(sender: Sender, compiler: Compiler) -> Self {
        let calls = Arc::new(work::Shared::new());
        Self(Arc::new(Shared {
            sender,
            compiler,
            calls,
            kept: Mutex::default(),
        }))
    }

    /// The compiler of its scripts.
    #[must_use]
    pub fn compiler(&self) -> &Compiler {
        &self.0.compiler
    }

    /// The script of this source, compiled unless it was before; waited for until `until`.
    /// Compiling goes on when nobody waits any more, so that the next who asks finds it done.
    ///
    /// # Errors
    /// What is wrong with it, and where; or that it is not known by then.
    pub async fn script(
        &self,
        tenant: &TenantId,
        source: &str,
        until: Instant,
    ) -> Result<Script, Uncompiled> {
        let key: [u8; 32] = Sha256::digest(source).into();
        let known = self.kept(|kept| kept.of(&key));
        if let Some(result) = known.get() {
            return Ok(result.clone()?);
        }
        let engine = self.clone();
        let tenant = tenant.clone();
        let source = source.to_owned();
        let compiling = tokio::spawn(async move {
            let compile = || async {
                match engine.0.compiler.compile(&tenant, &source).await {
                    Ok(script) => Ok(Ok(script)),
                    Err(Uncompiled::Refused(problem)) => Ok(Err(problem)),
                    Err(busy) => Err(busy),
                }
            };
            let result = known.get_or_try_init(compile).await.cloned();
            engine.kept(Kept::make_room);
            result
        });
        match tokio::time::timeout_at(until, compiling).await {
            Ok(Ok(result)) => Ok(result??),
            Ok(Err(_)) => Err(Uncompiled::Busy("compiling the script was broken off")),
            Err(_) => Err(Uncompiled::Busy("the script is still being compiled")),
        }
    }

    /// Calls the default export for a tenant with `argument`, which is JSON text. The script runs
    /// in a thread of its own; it is stopped at the deadline, and when this future is dropped.
    /// [`ScriptError::Busy`] when it gets no place to compute within a quarter of a second: nothing
    /// of it has run then.
    ///
    /// [`ScriptError::Busy`]: super::ScriptError::Busy
    pub async fn call(
        &self,
        tenant: &TenantId,
        script: &Script,
        argument: &str,
        call: Call,
    ) -> Called {
        let asked = Asked {
            tenant,
            script,
            argument,
            call,
        };
        call::call(self.0.sender.clone(), Arc::clone(&self.0.calls), asked).await
    }

    /// How many calls of a tenant wait for the network or a timer, without a place.
    #[must_use]
    pub fn waiting(&self, tenant: &TenantId) -> usize {
        self.0.calls.waiting.of(tenant)
    }

    fn kept<R>(&self, act: impl FnOnce(&mut Kept) -> R) -> R {
        act(&mut self.0.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn of(&mut self, key: &[u8; 32]) -> Known {
        self.uses += 1;
        let used = self.uses;
        if let Some(entry) = self.sources.get_mut(key) {
            entry.used = used;
            return Arc::clone(&entry.known);
        }
        let known = Known::default();
        self.sources.insert(
            *key,
            Entry {
                known: Arc::clone(&known),
                used,
            },
        );
        // Looks at every entry: only for a source that is new, and once more when it is compiled.
        self.make_room();
        known
    }

    /// Forgets what was unused for longest, until the rest is within its bounds.
    fn make_room(&mut self) {
        let mut bytes: usize = self.sources.values().map(Entry::bytes).sum();
        while self.sources.len() > KEPT_SCRIPTS || (bytes > KEPT_BYTES && self.sources.len() > 1) {
            let oldest = self
                .sources
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| *key);
            let Some(forgotten) = oldest.and_then(|key| self.sources.remove(&key)) else {
                return;
            };
            bytes -= forgotten.bytes();
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let compiled = match self.known.get() {
            Some(Ok(script)) => script.0.bytes(),
            Some(Err(problem)) => problem.message.len(),
            None => 0,
        };
        ENTRY_BYTES + compiled
    }
}

#[cfg(test)]
mod tests {
    use posthaste_shared::egress::EgressPolicy;
    use std::time::Duration;

    use super::*;

    fn engine() -> Engine {
        Engine::new(
            Sender::new(EgressPolicy::default()).unwrap(),
            Compiler::in_threads(),
        )
    }

    fn tenant() -> TenantId {
        TenantId::parse("acme").unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_source_is_compiled_once() {
        let engine = engine();
        let first = engine
            .script(&tenant(), "export default () => 1", soon())
            .await
            .unwrap();
        let again = engine
            .script(&tenant(), "export default () => 1", soon())
            .await
            .unwrap();
        let other = engine
            .script(&tenant(), "export default () => 2", soon())
            .await
            .unwrap();
        assert!(Arc::ptr_eq(&first.0, &again.0));
        assert!(!Arc::ptr_eq(&first.0, &other.0));
    }

    #[tokio::test]
    async fn compiling_goes_on_without_the_one_who_asked_and_a_refusal_is_kept() {
        let engine = engine();
        // One that is through before anybody has looked is as well; not all of them are.
        let mut asked = 0;
        let source = loop {
            asked += 1;
            assert!(asked < 100, "nothing is ever compiled for nobody");
            let source = format!("export default () => {asked}");
            match engine.script(&tenant(), &source, Instant::now()).await {
                Err(Uncompiled::Busy(_)) => break source,
                other => assert!(other.is_ok(), "{other:?}"),
            }
        };
        let compiled = engine.script(&tenant(), &source, soon()).await;
        assert!(compiled.is_ok(), "{compiled:?}");
        for _ in 0..2 {
            let refused = engine.script(&tenant(), "export default 1", soon()).await;
            assert!(
                matches!(refused, Err(Uncompiled::Refused(_))),
                "{refused:?}"
            );
        }
        assert_eq!(engine.kept(|kept| kept.sources.len()), asked + 1);
    }

    #[test]
    fn the_source_unused_for_longest_makes_room() {
        let mut kept = Kept::default();
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        for number in 0..KEPT_SCRIPTS {
            kept.of(&key(number));
        }
        kept.of(&key(0));
        kept.of(&key(KEPT_SCRIPTS));
        assert_eq!(kept.sources.len(), KEPT_SCRIPTS);
        assert!(kept.sources.contains_key(&key(0)), "used since");
        assert!(!kept.sources.contains_key(&key(1)), "unused for longest");
    }
}
