//! Which modules a snapshot cannot hold, and what of their imports it can.
//!
//! In: an entry and the modules that must be absent. Out: a [`Plan`]. Invariant: the order in which
//! modules are evaluated is the one that ECMAScript gives: a snapshot takes from the front of it
//! what comes before the first absent module, never something behind.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::modules;

/// What of one entry goes into the snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The modules that are evaluated before the first absent one, in order.
    pub(crate) first: Vec<Arc<str>>,
    /// Whether the entry itself stays outside.
    pub(crate) is_late: bool,
}

impl Plan {
    /// The plan of `entry`. `None`: a module does not compile; an exception is pending.
    pub(crate) fn of(
        scope: &mut v8::PinScope<'_, '_>,
        entry: &Arc<str>,
        absent: &BTreeSet<Arc<str>>,
    ) -> Option<Self> {
        let mut imports = BTreeMap::new();
        let mut unseen = vec![Arc::clone(entry)];
        while let Some(path) = unseen.pop() {
            if let Entry::Vacant(place) = imports.entry(path) {
                let requests = modules::requests(scope, place.key())?;
                unseen.extend(requests.iter().cloned());
                place.insert(requests);
            }
        }
        Some(Self::from_imports(entry, &imports, absent))
    }

    fn from_imports(entry: &Arc<str>, imports: &Imports, absent: &BTreeSet<Arc<str>>) -> Self {
        let late = importers(imports, absent);
        if !late.contains(entry) {
            return Self { first: Vec::new(), is_late: false };
        }
        let mut order = Vec::new();
        in_order(entry, imports, &mut BTreeSet::new(), &mut order);
        let first = order.into_iter().take_while(|path| !late.contains(path)).collect();
        Self { first, is_late: true }
    }
}

/// What each module imports, in order.
type Imports = BTreeMap<Arc<str>, Vec<Arc<str>>>;

/// `absent` and everything that imports one of them, directly or through others.
fn importers(imports: &Imports, absent: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let mut late = absent.clone();
    loop {
        let before = late.len();
        for (path, requests) in imports {
            if requests.iter().any(|request| late.contains(request)) {
                late.insert(Arc::clone(path));
            }
        }
        if late.len() == before {
            return late;
        }
    }
}

/// The order of evaluation: a module after what it imports.
fn in_order(
    path: &Arc<str>,
    imports: &Imports,
    seen: &mut BTreeSet<Arc<str>>,
    order: &mut Vec<Arc<str>>,
) {
    if !seen.insert(Arc::clone(path)) {
        return;
    }
    for request in imports.get(path).into_iter().flatten() {
        in_order(request, imports, seen, order);
    }
    order.push(Arc::clone(path));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(absent: &[&str]) -> (String, bool) {
        let modules = [
            ("entry", "a glue b"),
            ("a", "c"),
            ("glue", "c d"),
            ("b", "c e"),
            ("c", ""),
            ("d", ""),
            ("e", "b"),
        ];
        let names = |text: &str| text.split_whitespace().map(Arc::from).collect::<Vec<Arc<str>>>();
        let imports = modules.iter().map(|(path, list)| (Arc::from(*path), names(list))).collect();
        let absent = absent.iter().map(|path| Arc::from(*path)).collect();
        let Plan { first, is_late } = Plan::from_imports(&"entry".into(), &imports, &absent);
        (first.join(" "), is_late)
    }

    #[test]
    fn a_snapshot_takes_what_comes_before_the_first_absent_module() {
        assert_eq!(plan(&[]), (String::new(), false));
        assert_eq!(plan(&["elsewhere"]), (String::new(), false));
        assert_eq!(plan(&["glue"]), ("c a d".to_owned(), true));
        assert_eq!(plan(&["entry"]), ("c a d glue e b".to_owned(), true));
        assert_eq!(plan(&["c"]), (String::new(), true));
        // A cycle is late as a whole.
        assert_eq!(plan(&["e"]), ("c a d glue".to_owned(), true));
    }
}
