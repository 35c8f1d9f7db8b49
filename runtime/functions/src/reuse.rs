//! Which modules' contexts serve more than one call (`runtime.md` section 1.5, tier R).
//!
//! In: what a module asked for, how often it is called, what a proof says, what two executions of
//! one call gave. Out: whether a context of it may be kept. Invariant: a context is kept only where
//! the module asked for it (`experimental_reuseContext`), or where it was proved that nothing of a
//! call can stay in it; once an execution in a kept context was found to differ from one in a fresh
//! context, or the proof failed, the module has fresh contexts for good.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use database::deployment::{Analysis, Bundle};
use database::limits;

use crate::builder::{self, Helper, Source};
use crate::code::Code;
pub use crate::coverage::Ran;

/// Proves of modules that none of their variables outlives a call.
pub trait Purity: Send + Sync {
    /// Looks at the modules at `entries`, which share a context, and all that they import.
    ///
    /// # Errors
    /// What a call could leave behind, and where.
    fn prove(&self, entries: &[Arc<str>], bundle: &Bundle, ran: &Ran) -> Result<(), Impure>;
}

/// What a call could leave behind in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impure {
    /// The module, one of those that the entry imports.
    pub path: String,
    /// Line of its JavaScript, from 1; 0: the whole module is meant.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What stands there.
    pub why: String,
}

/// Which functions of each part run while it is imported, found out once in a child process;
/// nothing of a part where that fails or takes long.
pub(crate) fn ran<'a>(helper: &Helper, code: &'a Arc<Code>) -> &'a Vec<Ran> {
    code.ran.get_or_init(|| watch(helper, code))
}

fn watch(helper: &Helper, code: &Arc<Code>) -> Vec<Ran> {
    let definitions = code.analysis.components.units.iter().map(|unit| &*unit.definition);
    let parts = code.parts().zip(std::iter::once("").chain(definitions));
    let sources: Vec<_> = parts
        .map(|(part, definition)| Source {
            definition,
            bundle: &part.bundle,
            environment: part.analysis.imported_environment.clone(),
        })
        .collect();
    builder::watch(helper, &sources)
}

/// How a context is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// As it is: its author asked for it.
    AsItIs,
    /// With all of its objects frozen.
    Frozen,
}

/// Nobody has looked yet; calls are counted.
const NEW: u8 = 0;
/// Somebody looks.
const LOOKED_AT: u8 = 1;
const AS_IT_IS: u8 = 2;
const FROZEN: u8 = 3;
const NEVER: u8 = 4;
/// Kept as they are, where every call is executed in a fresh one too.
const TRIED: u8 = 5;

/// Where one module of one version stands.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    state: AtomicU8,
    calls: AtomicU64,
    /// Calls in kept contexts in which something was thrown, so that a fresh one decided.
    throws: AtomicU64,
    /// Why its contexts are not kept.
    why: OnceLock<String>,
}

impl Standing {
    fn of(asks: bool) -> Self {
        Self { state: AtomicU8::new(if asks { AS_IT_IS } else { NEW }), ..Self::default() }
    }

    /// Whether a context of the module may serve more than one call, and how.
    pub(crate) fn keeping(&self) -> Option<Keeping> {
        match self.state.load(Ordering::Acquire) {
            AS_IT_IS | TRIED => Some(Keeping::AsItIs),
            FROZEN => Some(Keeping::Frozen),
            _ => None,
        }
    }

    /// Keeps contexts as they are although nobody asked for it: where every call is executed in a
    /// fresh one too, and that execution counts.
    pub(crate) fn try_it(&self) {
        let _ = self.state.compare_exchange(NEW, TRIED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether nobody asked for what is tried.
    pub(crate) fn is_tried(&self) -> bool {
        self.state.load(Ordering::Acquire) == TRIED
    }

    /// Counts a call in a fresh context. Says whether it is time for a proof, once.
    pub(crate) fn is_due(&self) -> bool {
        if self.state.load(Ordering::Acquire) != NEW {
            return false;
        }
        let calls = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        let looks =
            || self.state.compare_exchange(NEW, LOOKED_AT, Ordering::AcqRel, Ordering::Acquire);
        calls >= limits::CALLS_BEFORE_PROOF && looks().is_ok()
    }

    /// Counts a call in a kept context. Says whether it is to be executed again in a fresh one: the
    /// first ones, then one in [`limits::CALLS_PER_CANARY`].
    pub(crate) fn is_sampled(&self) -> bool {
        let calls = self.calls.fetch_add(1, Ordering::AcqRel);
        calls < limits::CALLS_BEFORE_PROOF + FIRST_SAMPLES
            || calls.is_multiple_of(limits::CALLS_PER_CANARY)
    }

    /// Something was thrown in a kept context, and a fresh one came to the same. Where that is the
    /// rule, each call runs twice: then its contexts are not worth keeping.
    pub(crate) fn threw(&self) {
        let throws = self.throws.fetch_add(1, Ordering::AcqRel) + 1;
        let calls = self.calls.load(Ordering::Acquire);
        if throws >= THROWS_BEFORE_VERDICT && throws * CALLS_PER_THROW > calls {
            self.refuse(format!(
                "something was thrown in {throws} of its last {calls} calls, and each of those \
                 runs again in a fresh context"
            ));
        }
    }

    /// What a proof said.
    pub(crate) fn proved(&self, verdict: Result<(), String>) {
        match verdict {
            Ok(()) => self.state.store(FROZEN, Ordering::Release),
            Err(why) => self.refuse(why),
        }
    }

    /// No context of the module is kept from now on; the first reason stays.
    pub(crate) fn refuse(&self, why: String) {
        let _ = self.why.set(why);
        self.state.store(NEVER, Ordering::Release);
    }

    fn shown(&self) -> Reuse {
        match self.state.load(Ordering::Acquire) {
            AS_IT_IS => Reuse::AskedFor,
            FROZEN => Reuse::Proved,
            NEVER => Reuse::Never(self.why.get().cloned().unwrap_or_default()),
            _ => Reuse::NotYet,
        }
    }
}

/// A module whose contexts are kept is judged by so many calls in which something was thrown,
const THROWS_BEFORE_VERDICT: u64 = 64;
/// and may have one among so many.
const CALLS_PER_THROW: u64 = 3;

/// Calls in kept contexts that are executed twice before it is only samples.
const FIRST_SAMPLES: u64 = 8;

/// How contexts of a module are used, for whoever operates the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Called too seldom to be looked at.
    NotYet,
    /// Again: the module exports `experimental_reuseContext`.
    AskedFor,
    /// Again: nothing of a call can stay in one.
    Proved,
    /// Once, for this reason.
    Never(String),
}

impl fmt::Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet => f.write_str("a fresh one a call, so far"),
            Self::AskedFor => f.write_str("used again, as experimental_reuseContext asks"),
            Self::Proved => f.write_str("used again: nothing of a call can stay in one"),
            Self::Never(why) => write!(f, "a fresh one a call: {why}"),
        }
    }
}

/// Where the modules of one part of a version stand.
#[derive(Debug, Default)]
pub(crate) struct Standings(BTreeMap<Arc<str>, Standing>);

impl Standings {
    /// Those of a freshly loaded version.
    pub(crate) fn of(analysis: &Analysis) -> Self {
        let modules = analysis.modules.iter();
        Self(modules.map(|(path, m)| (Arc::clone(path), Standing::of(m.reuse_context))).collect())
    }

    /// That of the module at `path`.
    pub(crate) fn get(&self, path: &str) -> Option<&Standing> {
        self.0.get(path)
    }

    /// All of them.
    pub(crate) fn shown(&self) -> BTreeMap<Arc<str>, Reuse> {
        self.0.iter().map(|(path, standing)| (Arc::clone(path), standing.shown())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_looked_at_once_when_it_is_called_often() {
        let standing = Standing::of(false);
        let due = (0..100).filter(|_| standing.is_due()).count();
        assert_eq!((due, standing.keeping()), (1, None));
        assert_eq!(standing.shown(), Reuse::NotYet);
        standing.proved(Ok(()));
        assert_eq!(standing.keeping(), Some(Keeping::Frozen));
        standing.refuse("first".to_owned());
        standing.refuse("second".to_owned());
        assert_eq!(standing.keeping(), None);
        assert_eq!(standing.shown(), Reuse::Never("first".to_owned()));
        assert!(!standing.is_due(), "for good");
    }

    #[test]
    fn a_module_that_throws_in_most_calls_has_fresh_contexts() {
        let (seldom, often) = (Standing::of(false), Standing::of(false));
        for standing in [&seldom, &often] {
            standing.proved(Ok(()));
        }
        for call in 0..1_000 {
            seldom.is_sampled();
            often.is_sampled();
            if call % 5 == 0 {
                seldom.threw();
            }
            if call % 2 == 0 {
                often.threw();
            }
        }
        assert_eq!(seldom.keeping(), Some(Keeping::Frozen));
        assert_eq!(often.keeping(), None);
        assert!(matches!(often.shown(), Reuse::Never(why) if why.contains("was thrown in 64")));
    }

    #[test]
    fn a_module_that_asks_is_kept_at_once_and_sampled() {
        let standing = Standing::of(true);
        assert_eq!(standing.keeping(), Some(Keeping::AsItIs));
        let sampled =
            (0..1_000 * limits::CALLS_PER_CANARY).filter(|_| standing.is_sampled()).count();
        assert!((1_000..1_050).contains(&sampled), "{sampled}");
    }
}
