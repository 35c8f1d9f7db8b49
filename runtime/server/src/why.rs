//! Why queries re-ran and mutations ran again: the last causes, and `GET /api/concave/why`.
//!
//! In: conflicts and invalidations, as they are acted upon. Out: for the operator, who read which
//! range, who wrote which key, and on which lines of TypeScript.
//! Invariant: memory is bounded by the limits table; remembering runs nothing. Lines are found when
//! somebody asks, by running the recorded calls again, off the threads that serve.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use database::commit::{Conflict, Writer};
use database::error::Refusal;
use database::limits::{CAUSE_BYTES, CAUSE_SITES, CAUSES};
use database::probe::{Place, Probe, Site};
use database::record::{Caller, Functions, Timestamp};
use database::subscriptions::Invalidation;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::host::Host;
use crate::recording::argument;
use crate::refusal::Failure;
use crate::{convex, request};

/// How many causes are shown where nobody says.
const SHOWN: usize = 20;

/// A record larger than this share of the memory is not kept: one call must not push out the rest.
const LARGEST_SHARE: u64 = 16;

/// `GET /api/concave/why?n=20&sites=true`: the newest causes, newest first.
pub(crate) async fn why(State(host): State<Arc<Host>>, head: Parts) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Asked {
        n: Option<usize>,
        #[serde(default)]
        sites: bool,
    }
    host.admin_key.require(&head, None)?;
    let Asked { n, sites } = request::parameters(&head.uri)?;
    let causes = host.why.newest(n.unwrap_or(SHOWN));
    if sites {
        host.why.locate(&host.functions, causes.clone()).await?;
    }
    let shown: Vec<_> = causes.iter().map(|cause| cause.json()).collect();
    Ok(convex::json(Value::Array(shown).to_string()))
}

/// The last causes.
#[derive(Default)]
pub(crate) struct Why {
    kept: Mutex<Kept>,
    /// Held while calls run again: one request at a time.
    locating: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Kept {
    /// Each with its estimated bytes, oldest first.
    causes: VecDeque<(Arc<Cause>, u64)>,
    bytes: u64,
}

/// One reason for which a call ran again.
struct Cause {
    /// `invalidation` or `conflict`.
    kind: &'static str,
    /// When the writer committed.
    at: Timestamp,
    reader: Party,
    writer: Party,
    index: String,
    table: Arc<str>,
    range: String,
    key: String,
    document: Option<String>,
    /// The cause in one sentence.
    text: String,
    /// Where the two met.
    place: Option<Place>,
}

/// One of the two calls.
struct Party {
    who: Writer,
    /// Its line, or why there is none; empty until somebody asks.
    site: OnceLock<Result<Site, String>>,
}

impl Why {
    /// A query ran again because a commit wrote into what it had read. `reader` is its earlier run,
    /// the one that is out of date.
    pub(crate) fn invalidated(&self, reader: Writer, cause: &Invalidation) {
        let text = cause.cause(&reader.function);
        let said = cause.explained();
        let part = |part: fn(&_) -> &String| said.as_ref().map(part).cloned().unwrap_or_default();
        self.keep(Cause {
            kind: "invalidation",
            at: cause.at,
            reader: Party::new(reader),
            writer: Party::new(cause.writer.clone()),
            index: part(|said| &said.index),
            table: said.as_ref().map_or_else(|| "".into(), |said| Arc::clone(&said.table)),
            range: part(|said| &said.range),
            key: part(|said| &said.key),
            document: cause.document.as_ref().map(|document| document.id.encode()),
            text,
            place: cause.place(),
        });
    }

    /// A mutation ran again because of these conflicts, oldest first.
    pub(crate) fn retried(&self, retries: &[Conflict]) {
        for conflict in retries {
            self.keep(Cause {
                kind: "conflict",
                at: conflict.at,
                reader: Party::new(conflict.reader.clone()),
                writer: Party::new(conflict.writer.clone()),
                index: conflict.index.clone(),
                table: Arc::clone(&conflict.table),
                range: conflict.range.clone(),
                key: conflict.key.clone(),
                document: conflict.document.clone(),
                text: conflict.cause(),
                place: conflict.place.clone(),
            });
        }
    }

    /// The newest causes, newest first.
    fn newest(&self, count: usize) -> Vec<Arc<Cause>> {
        let kept = self.kept();
        kept.causes.iter().rev().take(count).map(|(cause, _)| Arc::clone(cause)).collect()
    }

    /// Finds the lines of the first causes whose lines nobody has asked for before.
    async fn locate(
        &self,
        functions: &Arc<dyn Functions>,
        mut causes: Vec<Arc<Cause>>,
    ) -> Result<(), Failure> {
        let turn = Arc::clone(&self.locating).lock_owned().await;
        causes.retain(|cause| !cause.is_located());
        causes.truncate(usize::try_from(CAUSE_SITES).unwrap_or(usize::MAX));
        let functions = Arc::clone(functions);
        let work = move || {
            causes.iter().for_each(|cause| cause.locate(&*functions));
            // Not before: a client that leaves must not let the next one run beside this.
            drop(turn);
        };
        let ended = tokio::task::spawn_blocking(work).await;
        ended.map_err(|_| Failure::broken("looking for the lines of a call panicked"))
    }

    fn keep(&self, cause: Cause) {
        let bytes = cause.bytes();
        let mut kept = self.kept();
        kept.causes.push_back((Arc::new(cause), bytes));
        kept.bytes += bytes;
        while (kept.causes.len() as u64 > CAUSES || kept.bytes > CAUSE_BYTES)
            && kept.causes.len() > 1
            && let Some((_, bytes)) = kept.causes.pop_front()
        {
            kept.bytes -= bytes;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing of anybody else's runs under this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cause {
    fn locate(&self, functions: &dyn Functions) {
        self.reader.locate(functions, self.place.clone().map(Probe::Read));
        self.writer.locate(functions, self.place.clone().map(Probe::Write));
    }

    fn is_located(&self) -> bool {
        self.reader.site.get().is_some() && self.writer.site.get().is_some()
    }

    fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "at": self.at.to_string(),
            "reader": self.reader.json(),
            "index": self.index,
            "table": &*self.table,
            "range": self.range,
            "key": self.key,
            "document": self.document,
            "writer": self.writer.json(),
            "text": self.text,
        })
    }

    /// Estimated memory that it keeps alive, with room for both lines.
    fn bytes(&self) -> u64 {
        let texts = [&self.index, &self.range, &self.key, &self.text].map(String::len);
        let place = self.place.as_ref().map_or(0, |place| place.key.len());
        let parties = self.reader.bytes() + self.writer.bytes();
        let bytes = size_of::<Self>() + texts.iter().sum::<usize>() + place + parties + 256;
        bytes as u64
    }
}

impl Party {
    fn new(mut who: Writer) -> Self {
        let site = OnceLock::new();
        if who.record.as_ref().is_some_and(|call| call.bytes() as u64 > LARGEST_RECORD) {
            who.record = None;
            let note = "the call is not kept: its arguments are too large".to_owned();
            site.get_or_init(|| Err(note));
        }
        Self { who, site }
    }

    /// Runs the call again to find its line, unless that is known.
    fn locate(&self, functions: &dyn Functions, probe: Option<Probe>) {
        self.site.get_or_init(|| {
            let Some(record) = &self.who.record else {
                return Err("it is not a function".to_owned());
            };
            let probe = probe.ok_or("no key says where the two met")?;
            let call = record.call().map_err(|error| error.message)?;
            match functions.locate(&call, &record.given, &probe) {
                Ok(Some(site)) => Ok(site),
                Ok(None) => Err("no line did it: every call depends on it".to_owned()),
                Err(Refusal::OutOfRetention(_)) => {
                    Err("no longer kept: the history has moved on".to_owned())
                }
                Err(refusal) => Err(refusal.to_string()),
            }
        });
    }

    fn json(&self) -> Value {
        let Writer { function, request_id, record } = &self.who;
        let mut party = json!({
            "function": &**function,
            "args": record.as_ref().and_then(|record| argument(&record.args)),
            "requestId": &**request_id,
        });
        match record.as_ref().map(|record| record.caller) {
            Some(Caller::Scheduler) => party["job"] = "scheduled".into(),
            Some(Caller::Cron) => party["job"] = "cron job".into(),
            _ => {}
        }
        match self.site.get() {
            None => {}
            Some(Ok(Site { file, line, column, function, exact })) => {
                party["site"] = json!({
                    "file": file, "line": line, "column": column, "function": function,
                    "exact": exact,
                });
            }
            Some(Err(note)) => {
                party["site"] = Value::Null;
                party["note"] = note.as_str().into();
            }
        }
        party
    }

    fn bytes(&self) -> usize {
        let Writer { function, request_id, record } = &self.who;
        let record = record.as_ref().map_or(0, |record| record.bytes());
        function.len() + request_id.len() + record
    }
}

/// The largest record of a call that is kept, bytes.
const LARGEST_RECORD: u64 = CAUSE_BYTES / LARGEST_SHARE;

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use database::commit::{Database, Options};
    use database::record::{Arguments, Call, CallRecord, Expect, FunctionPath, Given, Identity};
    use database::subscriptions::Owner;

    use super::*;

    fn call(args: &str) -> Arc<Call> {
        let path = FunctionPath::parse("shop:getItems").unwrap();
        Arc::new(Call {
            args: Arguments::parse(&path, args).unwrap(),
            path,
            expect: Expect::Any,
            identity: Identity::Anonymous,
            caller: Caller::SyncWorker,
            request_id: "1f".into(),
            at: None,
            journal: None,
            once: None,
            job: None,
        })
    }

    fn reader(args: &str) -> Writer {
        Writer::of(CallRecord::new(&call(args), &Given::default()))
    }

    /// A table was counted, and somebody inserted into it.
    fn invalidation() -> Invalidation {
        let database = Database::new(Options::at(1));
        let insert = |seed: u8| {
            let given = Given { seed: [seed; 32], ..Given::default() };
            let mut transaction = database.begin(database.snapshot(), &given, false);
            transaction.count("", "items").unwrap();
            let item = database::json::decode(r#"{"x":1}"#).unwrap();
            transaction.insert("", "items", item).unwrap();
            let record = CallRecord::new(&call("{}"), &given);
            database.commit(transaction, 1, Writer::of(record)).unwrap()
        };
        insert(1);
        let read = insert(2);
        insert(3);
        let owner = Owner::Cache(Weak::new());
        *database.subscriptions().register(&read.reads, read.ts, owner).unwrap_err()
    }

    #[test]
    fn an_invalidation_is_kept_with_both_calls() {
        let (why, cause) = (Why::default(), invalidation());
        why.invalidated(reader(r#"{"most":5}"#), &cause);
        let shown = why.newest(9).first().unwrap().json();
        assert_eq!(shown["kind"], "invalidation");
        assert_eq!(shown["reader"]["args"]["most"], 5.0);
        assert_eq!(shown["index"], "items.by_id");
        let text = shown["text"].as_str().unwrap();
        assert!(text.starts_with("getItems re-ran: another getItems wrote items[_id="), "{text}");
        assert!(why.newest(9)[0].place.is_some());
    }

    #[test]
    fn a_call_of_the_scheduler_is_told_from_one_of_a_client() {
        let job = |caller| {
            let call = Call { caller, ..Call::clone(&call("{}")) };
            let party = Party::new(Writer::of(CallRecord::new(&call, &Given::default())));
            party.json()["job"].clone()
        };
        assert_eq!(job(Caller::SyncWorker), Value::Null);
        assert_eq!([job(Caller::Scheduler), job(Caller::Cron)], ["scheduled", "cron job"]);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_large() {
        let (why, cause) = (Why::default(), invalidation());
        for _ in 0..CAUSES + 5 {
            why.invalidated(reader("{}"), &cause);
        }
        assert_eq!(why.newest(usize::MAX).len() as u64, CAUSES);
        let large = "x".repeat(usize::try_from(LARGEST_RECORD - 2_000).unwrap());
        for at in 0..100 {
            let args = json!({ "large": large, "at": at }).to_string();
            why.invalidated(reader(&args), &cause);
        }
        let kept = why.newest(usize::MAX);
        assert!((10..20).contains(&kept.len()), "{} are kept", kept.len());
        let bytes = why.kept().bytes;
        assert!(bytes <= CAUSE_BYTES, "{bytes}");
        assert_eq!(bytes, kept.iter().map(|cause| cause.bytes()).sum::<u64>());
    }

    #[test]
    fn a_call_with_huge_arguments_is_named_but_not_kept() {
        let why = Why::default();
        let large = "x".repeat(usize::try_from(LARGEST_RECORD).unwrap());
        let args = json!({ "large": large }).to_string();
        why.invalidated(reader(&args), &invalidation());
        let reader = why.newest(1)[0].reader.json();
        assert_eq!(reader["function"], "shop:getItems");
        assert_eq!(reader["args"], Value::Null);
        assert_eq!(reader["note"], "the call is not kept: its arguments are too large");
    }
}
