//! The session without a socket: transcripts of the protocol, and random clients against a model.
//!
//! In: frames, and what a host would do between them. Out: the frames of the session.
//! Invariant: the model is the rule itself: what a client has after a Transition is what its
//! queries give at the Transition's timestamp, asked by whoever it was at that identity version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use database::error::Refusal;
use database::limits;
use database::record::{FunctionError, Identity, RequestKey, UserIdentity};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::Authenticated;
use crate::convex::sync::{self, Writer, timestamp};
use crate::session::{
    Answer, Answered, Ask, Close, Effect, Job, Kind, Ran, Round, Say, Session, TokenRefused,
};

const ID: &str = "00000000-0000-4000-8000-000000000001";

fn answer(result: Result<String, FunctionError>) -> Arc<Answer> {
    let text = format!("{result:?}");
    Arc::new(Answer {
        result: result.map(Arc::from),
        log_lines: [].into(),
        journal: None,
        request_id: "1d".into(),
        digest: Sha256::digest(text)[..16].try_into().unwrap(),
        wire: OnceLock::new(),
    })
}

fn answered(text: &str, looked_at_identity: bool) -> Answered<()> {
    Answered { answer: answer(Ok(text.into())), looked_at_identity, watch: Some(()) }
}

/// The end of a request whose arguments are `[{}]`.
fn ran(kind: Kind, request: u32) -> Ran {
    Ran { kind, request, bytes: 4 }
}

fn user(name: &str) -> Authenticated {
    let user = UserIdentity { token_identifier: name.into(), attributes: "{}".into() };
    Authenticated { identity: Identity::User(Arc::new(user)), expires: None }
}

/// A session and what it said: `S` frames, `!` closes.
#[derive(Default)]
struct Script {
    session: Session<()>,
    newest: u64,
    round: Option<Round>,
    jobs: Vec<Job>,
    said: Vec<String>,
}

impl Script {
    fn says(&mut self, frame: Value) {
        match sync::read(&frame.to_string()) {
            Ok(said) => self.session.said(said, Timestamp(self.newest), 0),
            Err(error) => self.session.fail(error),
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.session.next() {
            match effect {
                Effect::Send(say) => {
                    let frames = Writer::default().frames(&say, 0);
                    let frames = frames.messages().into_iter().map(|frame| {
                        let frame = frame.replace(r#","clientClockSkew":null,"serverTs":0"#, "");
                        let frame = frame.replace(r#""logLines":[]"#, "L");
                        (0..20).fold(frame, |frame, ts| {
                            frame.replace(
                                &format!("\"{}\"", timestamp(Timestamp(ts))),
                                &format!("T{ts}"),
                            )
                        })
                    });
                    self.said.extend(frames);
                }
                Effect::Close(Close { code, reason }) => {
                    self.said.push(format!("! {code:?} {reason}"));
                }
                Effect::Run(job) => self.jobs.push(job),
                Effect::Verify(_) => self.said.push("verify".into()),
            }
        }
    }

    /// Begins a round at the newest timestamp; which queries run.
    fn begin(&mut self) -> Vec<u32> {
        assert!(self.session.wants_round());
        let round = self.session.begin(Timestamp(self.newest));
        let asks = round.asks.iter().map(|ask| ask.query).collect();
        self.round = Some(round);
        asks
    }

    fn finish(&mut self, answers: &[(u32, &str)]) {
        let answers = answers.iter().map(|(query, text)| (*query, answered(text, false)));
        self.session.finish(answers.collect());
        self.drain();
    }

    fn took(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
}

fn connected() -> Script {
    let mut script = Script { newest: 1, ..Script::default() };
    script
        .says(json!({"type":"Connect","sessionId":ID,"connectionCount":0,"lastCloseReason":null}));
    script
}

fn add(query: u32, path: &str) -> Value {
    json!({"type":"Add","queryId":query,"udfPath":path,"args":[{}]})
}

fn change(base: u32, new: u32, changes: &[Value]) -> Value {
    let kind = "ModifyQuerySet";
    json!({"type":kind,"baseVersion":base,"newVersion":new,"modifications":changes})
}

fn mutation(request: u32) -> Value {
    json!({"type":"Mutation","requestId":request,"udfPath":"m:send","args":[{}]})
}

#[test]
fn the_transcript_of_the_reference() {
    let mut script = connected();
    script.says(change(0, 1, &[]));
    assert!(script.begin().is_empty());
    script.finish(&[]);
    script.says(change(1, 2, &[add(0, "messages:list")]));
    script.newest = 2;
    assert_eq!(script.begin(), [0]);
    script.finish(&[(0, "[]")]);
    script.says(mutation(0));
    let once = script.jobs[0].once.unwrap();
    let session = *b"\0\0\0\0\0\0\x40\0\x80\0\0\0\0\0\0\x01";
    assert_eq!(once, RequestKey { session, request: 0 });
    script.newest = 3;
    script.session.ended(0, 2, Timestamp(3));
    script.session.ran(ran(Kind::Mutation, 0), Ok((answer(Ok("null".into())), Timestamp(3))));
    script.newest = 4;
    assert_eq!(script.begin(), [0]);
    script.finish(&[(0, "[1]")]);
    script.says(json!({"type":"Authenticate","baseVersion":0,"tokenType":"User","value":"jwt"}));
    assert!(!script.session.listens() && !script.session.wants_round());
    script.session.verified(Ok(user("u")));
    script.newest = 5;
    assert!(script.begin().is_empty(), "no query looked at who asks");
    script.finish(&[]);
    let t = |a: &str, b: &str, m: &str| {
        let start = format!(r#"{{"type":"Transition","startVersion":{{{a}}},"#);
        format!(r#"{start}"endVersion":{{{b}}},"modifications":[{m}]}}"#)
    };
    let v = |set, who, ts| format!(r#""querySet":{set},"identity":{who},"ts":T{ts}"#);
    let updated = |value: &str| {
        format!(r#"{{"type":"QueryUpdated","queryId":0,"value":{value},L,"journal":null}}"#)
    };
    let expected = [
        t(&v(0, 0, 0), &v(1, 0, 1), ""),
        t(&v(1, 0, 1), &v(2, 0, 2), &updated("[]")),
        r#"{"type":"MutationResponse","requestId":0,"success":true,"result":null,L,"ts":T3}"#
            .into(),
        t(&v(2, 0, 2), &v(2, 0, 4), &updated("[1]")),
        "verify".into(),
        t(&v(2, 0, 4), &v(2, 1, 5), ""),
    ];
    assert_eq!(script.took(), expected);
    assert!(!script.session.wants_round());
}

#[test]
fn several_changes_fold_into_one_transition() {
    let mut script = connected();
    script.says(change(0, 1, &[add(0, "a:b"), add(1, "a:b")]));
    script.says(json!({"type":"Authenticate","baseVersion":0,"tokenType":"None"}));
    script.says(change(1, 3, &[json!({"type":"Remove","queryId":0}), add(2, "a:b")]));
    assert_eq!(script.begin(), [1, 2]);
    script.finish(&[(1, "1"), (2, "2")]);
    let [transition] = &script.took()[..] else { panic!() };
    assert!(transition.contains(r#""endVersion":{"querySet":3,"identity":1,"ts":T1}"#));
    let order = [r#""QueryRemoved","queryId":0"#, r#""queryId":1"#, r#""queryId":2"#];
    let places = order.map(|part| transition.find(part).unwrap());
    assert!(places.is_sorted(), "{transition}");
}

#[test]
fn equal_results_are_not_sent_again() {
    let mut script = connected();
    script.says(change(0, 1, &[add(0, "a:b"), add(1, "a:b")]));
    script.begin();
    script.finish(&[(0, "1"), (1, "1")]);
    script.took();
    script.newest = 2;
    script.session.ended(0, 1, Timestamp(2));
    script.session.ended(1, 1, Timestamp(3));
    assert_eq!(script.begin(), [0], "the other one ends after this timestamp");
    script.finish(&[(0, "1")]);
    assert!(script.took()[0].ends_with(r#""modifications":[]}"#));
    script.newest = 3;
    assert_eq!(script.begin(), [1]);
    script.finish(&[(1, "2")]);
    assert!(script.took()[0].contains(r#""queryId":1,"value":2"#));
    assert!(!script.session.wants_round());
}

#[test]
fn an_answer_that_ends_while_its_round_runs_is_run_again() {
    let mut script = connected();
    script.says(change(0, 1, &[add(0, "a:b"), add(1, "a:b")]));
    script.begin();
    script.session.ended(0, 1, Timestamp(2));
    script.finish(&[(0, "1"), (1, "1")]);
    script.newest = 2;
    assert_eq!(script.begin(), [0]);
    script.session.ended(0, 1, Timestamp(9));
    script.finish(&[(0, "2")]);
    assert!(!script.session.wants_round(), "that was news of an older answer");
}

#[test]
fn mutations_run_one_at_a_time_and_actions_side_by_side() {
    let mut script = connected();
    for request in 0..3 {
        script.says(mutation(request));
    }
    let action =
        |request: u32| json!({"type":"Action","requestId":request,"udfPath":"a:b","args":[]});
    script.says(action(7));
    script.says(action(8));
    let running = |script: &Script| script.jobs.iter().map(|job| job.request).collect::<Vec<_>>();
    assert_eq!(running(&script), [0, 7, 8]);
    assert!(script.jobs[1].once.is_none(), "an action is not repeated");
    script.session.set_ready(false);
    script.session.ran(ran(Kind::Mutation, 0), Ok((answer(Ok("1".into())), Timestamp(1))));
    script.drain();
    assert_eq!(running(&script), [0, 7, 8], "a client that takes nothing waits");
    assert!(!script.session.wants_round());
    script.session.set_ready(true);
    script.drain();
    assert_eq!(running(&script), [0, 7, 8, 1]);
    let error = FunctionError { message: "no".into(), data: None };
    script.session.ran(ran(Kind::Action, 8), Ok((answer(Err(error)), Timestamp(0))));
    script.drain();
    let said = script.took();
    assert!(said[0].contains("MutationResponse") && said[1].contains(r#""success":false"#));
    script.begin();
    script.finish(&[]);
    assert!(script.took()[0].contains("Transition"), "one follows each of both");
}

#[test]
fn a_round_past_a_commit_that_answers_after_it_covers_it() {
    let mut script = connected();
    script.says(change(0, 1, &[add(0, "a:b")]));
    script.says(mutation(0));
    script.newest = 5;
    script.begin();
    script.session.ran(ran(Kind::Mutation, 0), Ok((answer(Ok("1".into())), Timestamp(5))));
    script.drain();
    script.finish(&[(0, "1")]);
    assert!(!script.session.wants_round(), "that Transition came after the response");
}

#[test]
fn who_asks_decides_what_runs_again() {
    let mut script = connected();
    script.says(change(0, 1, &[add(0, "a:b"), add(1, "a:b")]));
    script.begin();
    script.session.finish(vec![(0, answered("1", true)), (1, answered("1", false))]);
    let none = |base: u32| json!({"type":"Authenticate","baseVersion":base,"tokenType":"None"});
    script.says(none(0));
    assert!(script.begin().is_empty(), "the same nobody");
    script.finish(&[]);
    let admin = json!({"type":"Authenticate","baseVersion":1,"tokenType":"Admin","value":"k"});
    script.says(admin);
    let who = Authenticated { identity: Identity::Admin, expires: None };
    script.session.verified(Ok(who));
    assert_eq!(script.begin(), [0, 1], "for the operator other functions exist");
    // Meanwhile it becomes somebody else: the round's answers are the operator's.
    script.says(none(2));
    script.session.finish(vec![(0, answered("2", true)), (1, answered("1", false))]);
    script.drain();
    assert!(script.took().last().unwrap().contains(r#""querySet":1,"identity":2"#));
    assert_eq!(script.begin(), [0, 1]);
}

#[test]
fn tokens_that_do_not_hold() {
    let mut script = connected();
    let token = json!({"type":"Authenticate","baseVersion":0,"tokenType":"User","value":"x"});
    script.says(token.clone());
    script.session.verified(Err(TokenRefused::Token("bad".into())));
    script.drain();
    let refused =
        r#"{"type":"AuthError","error":"bad","baseVersion":0,"authUpdateAttempted":true}"#;
    assert_eq!(script.took(), ["verify", refused, "! None "]);

    let mut script = connected();
    script.says(token.clone());
    script.session.verified(Ok(Authenticated { expires: Some(50), ..user("u") }));
    script.session.tick(49);
    assert!(script.session.listens());
    script.session.tick(50);
    script.drain();
    let said = script.took();
    assert!(said[1].contains(r#""baseVersion":1,"authUpdateAttempted":false"#), "{said:?}");
    assert!(script.session.is_closed());

    let mut script = connected();
    script.says(token);
    let close = Close { code: Some(Close::BUSY), reason: "JwksUnavailable".into() };
    script.session.verified(Err(TokenRefused::Host(close)));
    script.drain();
    assert_eq!(script.took(), ["verify", "! Some(1013) JwksUnavailable"]);
    let mut script = connected();
    script.says(json!({"type":"Authenticate","baseVersion":3,"tokenType":"None"}));
    assert!(script.took()[0].starts_with("! Some(1011) InternalServerError"));
}

#[test]
fn a_client_that_breaks_the_rules_is_told_which() {
    let fatal = |frames: &[Value], named: &str| {
        let mut script = connected();
        frames.iter().for_each(|frame| script.says(frame.clone()));
        let said = script.took();
        let [.., error, close] = &said[..] else { panic!("{said:?}") };
        assert!(error.contains("FatalError") && error.contains(named), "{said:?}");
        assert_eq!(close, "! None ");
        assert!(!script.session.listens() && !script.session.wants_round());
    };
    fatal(&[change(1, 2, &[])], "BaseVersionMismatch");
    fatal(&[change(0, 0, &[])], "BaseVersionMismatch");
    fatal(&[change(0, 1, &[add(4, "a:b"), add(4, "a:b")])], "Query 4 is in");
    fatal(&[change(0, 1, &[json!({"type":"Remove","queryId":4})])], "Query 4 is not in");
    fatal(&[json!({"type":"Connect","sessionId":ID})], "once");
    fatal(&[json!({"type":"Unheard"})], "Unheard");
    let many = u32::try_from(limits::SESSION_QUERIES).unwrap();
    let adds: Vec<_> = (0..=many).map(|query| add(query, "a:b")).collect();
    fatal(&[change(0, 1, &adds)], "Too many queries");
    let mut script = connected();
    script.says(change(0, 1, &adds[..many as usize]));
    assert_eq!(script.begin().len(), many as usize, "as many as the limit fit");
}

#[test]
fn who_has_as_many_calls_as_one_may_is_not_listened_to_until_one_is_done() {
    let mut script = connected();
    // The first one runs, and does not wait.
    for request in 0..=u32::try_from(limits::SESSION_MUTATIONS).unwrap() {
        assert!(script.session.listens(), "{request}");
        script.says(mutation(request));
    }
    for request in 0..3_000 {
        assert!(!script.session.listens());
        script
            .session
            .ran(ran(Kind::Mutation, request), Ok((answer(Ok("1".into())), Timestamp(1))));
        script.drain();
        assert!(script.session.listens());
        script.says(mutation(request + u32::try_from(limits::SESSION_MUTATIONS).unwrap() + 1));
    }
    let order: Vec<u32> = script.jobs.iter().map(|job| job.request).collect();
    assert_eq!(order, (0..=3_000).collect::<Vec<_>>(), "in the order they came, each once");

    let mut script = connected();
    let action = |n| json!({"type":"Action","requestId":n,"udfPath":"a:b","args":[]});
    for request in 0..limits::SESSION_ACTIONS {
        assert!(script.session.listens(), "{request}");
        script.says(action(request));
    }
    assert!(!script.session.listens() && script.took().is_empty());
    script.session.ran(ran(Kind::Action, 7), Ok((answer(Ok("1".into())), Timestamp(1))));
    assert!(script.session.listens());

    let mut script = connected();
    let text = "x".repeat(limits::SESSION_CALL_BYTES as usize / 2);
    for request in 0..2 {
        assert!(script.session.listens());
        let call = json!({"type":"Action","requestId":request,"udfPath":"a:b","args":[{"x":text}]});
        script.says(call);
    }
    assert!(!script.session.listens());
    let ended = script.jobs[0].ran();
    script.session.ran(ended, Ok((answer(Ok("1".into())), Timestamp(1))));
    assert!(script.session.listens());
}

#[test]
fn the_hosts_own_troubles_close_with_a_code() {
    let busy = Refusal::Overloaded { code: "TooManyConcurrentRequests", message: "m".into() };
    let broken = Refusal::Broken("secret".into());
    for (refusal, close) in [
        (busy, "! Some(1013) TooManyConcurrentRequests: m"),
        (broken, "! Some(1011) InternalServerError"),
    ] {
        let mut script = connected();
        script.says(mutation(0));
        script.session.ran(ran(Kind::Mutation, 0), Err(refusal));
        script.drain();
        assert_eq!(script.took(), [close]);
    }
    let mut script = Script { newest: 4, ..Script::default() };
    let observed = timestamp(Timestamp(5));
    script.says(json!({"type":"Connect","sessionId":ID,"maxObservedTimestamp":observed}));
    assert!(script.took()[0].starts_with("! Some(1011) InternalServerError"));
}

#[test]
fn an_abandoned_round_loses_nothing() {
    let mut script = connected();
    script.says(change(0, 1, &[add(0, "a:b"), add(1, "a:b")]));
    script.begin();
    script.finish(&[(0, "0"), (1, "1")]);
    script.says(change(1, 2, &[json!({"type":"Remove","queryId":0}), add(2, "a:b")]));
    script.session.ended(1, 1, Timestamp(1));
    script.took();
    assert_eq!(script.begin(), [1, 2]);
    script.says(change(2, 3, &[json!({"type":"Remove","queryId":2}), add(3, "a:b")]));
    script.session.abandon();
    script.newest = 2;
    assert_eq!(script.begin(), [1, 3]);
    script.finish(&[(1, "1"), (3, "3")]);
    let said = script.took().remove(0);
    for part in [r#""QueryRemoved","queryId":0"#, r#""QueryRemoved","queryId":2"#] {
        assert!(said.contains(part), "{said}");
    }
}

/// What may happen between two looks at the session.
#[derive(Clone, Debug)]
enum Step {
    Add {
        query: u32,
        key: u8,
    },
    Remove {
        query: u32,
    },
    Mutate {
        key: u8,
    },
    /// A commit of somebody else.
    Commit {
        key: u8,
    },
    /// The running mutation commits, or fails.
    End {
        fails: bool,
    },
    Authenticate {
        user: u8,
    },
    Begin,
    Finish,
    Deliver,
    Ready(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u32..6, 0u8..4).prop_map(|(query, key)| Step::Add { query, key }),
        1 => (0u32..6).prop_map(|query| Step::Remove { query }),
        2 => (0u8..4).prop_map(|key| Step::Mutate { key }),
        3 => (0u8..4).prop_map(|key| Step::Commit { key }),
        2 => any::<bool>().prop_map(|fails| Step::End { fails }),
        1 => (0u8..3).prop_map(|user| Step::Authenticate { user }),
        3 => Just(Step::Begin),
        3 => Just(Step::Finish),
        2 => Just(Step::Deliver),
        1 => any::<bool>().prop_map(Step::Ready),
    ]
}

/// A database of four keys whose values are the timestamps of their last commits, a client, and the
/// session between them.
struct Model {
    script: Session<()>,
    newest: u64,
    commits: Vec<(u64, u8)>,
    /// Watches: query, round, key.
    watches: Vec<(u32, u64, u8)>,
    mail: Vec<(u32, u64, u64)>,
    running: Option<Round>,
    jobs: Vec<u32>,
    request: u32,
    // The client.
    wanted: BTreeMap<u32, u8>,
    sets: Vec<BTreeMap<u32, u8>>,
    users: Vec<u8>,
    has: BTreeMap<u32, String>,
    version: crate::session::Version,
    /// Commits of responses that no Transition has covered.
    uncovered: BTreeSet<u64>,
    responses: usize,
    mutations: BTreeMap<u32, u8>,
}

impl Model {
    fn new() -> Self {
        Self {
            script: Session::default(),
            newest: 10,
            commits: Vec::new(),
            watches: Vec::new(),
            mail: Vec::new(),
            running: None,
            jobs: Vec::new(),
            request: 0,
            wanted: BTreeMap::new(),
            sets: vec![BTreeMap::new()],
            users: vec![0],
            has: BTreeMap::new(),
            version: Default::default(),
            uncovered: BTreeSet::new(),
            responses: 0,
            mutations: BTreeMap::new(),
        }
    }

    /// Odd keys look at who asks; key 3 forgets odd commits, so that some results are equal.
    fn value(&self, key: u8, at: u64, user: u8) -> String {
        let last = self.commits.iter().rev().find(|(ts, k)| *k == key && *ts <= at);
        let last = last.map_or(0, |(ts, _)| if key == 3 { ts / 8 } else { *ts });
        if key % 2 == 1 { format!("{last}{user}") } else { last.to_string() }
    }

    fn says(&mut self, frame: &Value) {
        let said = sync::read(&frame.to_string()).unwrap();
        self.script.said(said, Timestamp(self.newest), 0);
        self.drain();
    }

    fn query_set(&mut self, modification: Value) {
        let base = u32::try_from(self.sets.len()).unwrap() - 1;
        self.sets.push(self.wanted.clone());
        self.says(&change(base, base + 1, &[modification]));
    }

    fn commit(&mut self, key: u8) -> u64 {
        self.newest += 1;
        self.commits.push((self.newest, key));
        let (ended, rest) = self.watches.iter().copied().partition(|watch| watch.2 == key);
        self.watches = rest;
        let ended: Vec<(u32, u64, u8)> = ended;
        self.mail.extend(ended.into_iter().map(|(query, round, _)| (query, round, self.newest)));
        self.newest
    }

    fn deliver(&mut self) {
        for (query, round, at) in std::mem::take(&mut self.mail) {
            self.script.ended(query, round, Timestamp(at));
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Add { query, key } if !self.wanted.contains_key(&query) => {
                self.wanted.insert(query, key);
                self.query_set(add(query, &format!("k{key}:q")));
            }
            Step::Remove { query } if self.wanted.contains_key(&query) => {
                self.wanted.remove(&query);
                self.query_set(json!({"type":"Remove","queryId":query}));
            }
            Step::Mutate { key } => {
                self.mutations.insert(self.request, key);
                self.request += 1;
                self.says(&mutation(self.request - 1));
            }
            Step::Commit { key } => drop(self.commit(key)),
            Step::End { fails } => self.end(fails),
            Step::Authenticate { user: who } => {
                let base = self.users.len() - 1;
                self.users.push(who);
                let frame = json!({
                    "type":"Authenticate","baseVersion":base,"tokenType":"User","value":"jwt"
                });
                self.says(&frame);
                self.script.verified(Ok(user(&who.to_string())));
            }
            Step::Begin if self.running.is_none() => {
                let at = self.newest;
                self.deliver();
                if self.script.wants_round() {
                    self.running = Some(self.script.begin(Timestamp(at)));
                }
            }
            Step::Finish => self.finish(),
            Step::Deliver => self.deliver(),
            Step::Ready(ready) => {
                self.script.set_ready(ready);
                self.drain();
            }
            _ => {}
        }
    }

    fn end(&mut self, fails: bool) {
        let Some(request) = self.jobs.pop() else { return };
        let result = if fails {
            let message = "no".into();
            (answer(Err(FunctionError { message, data: None })), Timestamp(self.newest))
        } else {
            let ts = self.commit(self.mutations[&request]);
            (answer(Ok(ts.to_string())), Timestamp(ts))
        };
        self.script.ran(ran(Kind::Mutation, request), Ok(result));
        self.drain();
    }

    fn finish(&mut self) {
        let Some(Round { number, at, identity, asks }) = self.running.take() else { return };
        let who = match identity {
            Identity::User(user) => user.token_identifier.parse().unwrap(),
            _ => 0,
        };
        let answers = asks.into_iter().map(|Ask { query, asked, .. }| {
            let key: u8 = asked.unwrap().path.module[1..2].parse().unwrap();
            // Computed at the round's timestamp, watched from then on.
            match self.commits.iter().find(|(ts, k)| *k == key && *ts > at.0) {
                Some((ended, _)) => self.mail.push((query, number, *ended)),
                None => self.watches.push((query, number, key)),
            }
            (query, answered(&self.value(key, at.0, who), key % 2 == 1))
        });
        let answers = answers.collect();
        self.script.finish(answers);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.script.next() {
            match effect {
                Effect::Run(job) => self.jobs.push(job.request),
                Effect::Send(Say::Response(Kind::Mutation, request, answer, ts)) => {
                    assert_eq!(request as usize, self.responses, "in the order they came");
                    self.responses += 1;
                    if answer.result.is_ok() {
                        self.uncovered.insert(ts.0);
                    }
                }
                Effect::Send(Say::Transition { start, end, changes, .. }) => {
                    assert_eq!(start, self.version);
                    assert!(end.ts >= start.ts && end.identity >= start.identity);
                    self.version = end;
                    self.uncovered.retain(|ts| *ts > end.ts.0);
                    for change in changes {
                        match change {
                            crate::session::Changed::Removed(query) => {
                                drop(self.has.remove(&query))
                            }
                            crate::session::Changed::Answered(query, answer) => {
                                let text = answer.result.as_ref().unwrap().to_string();
                                let before = self.has.insert(query, text.clone());
                                assert_ne!(before, Some(text), "nothing is sent twice");
                            }
                        }
                    }
                    self.check();
                }
                Effect::Verify(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(self.jobs.len() <= 1);
    }

    /// The client has what its queries give at its version.
    fn check(&self) {
        let at = self.version;
        let set = &self.sets[at.query_set as usize];
        let who = self.users[at.identity as usize];
        let expected = set.iter().map(|(query, key)| (*query, self.value(*key, at.ts.0, who)));
        assert_eq!(self.has, expected.collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_client_has_what_its_queries_give(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.step(step));
        // Let everything come to rest.
        model.step(&Step::Ready(true));
        for _ in 0..100 {
            model.step(&Step::End { fails: false });
            model.step(&Step::Begin);
            model.step(&Step::Finish);
        }
        model.deliver();
        prop_assert!(!model.script.wants_round() && model.script.is_idle());
        prop_assert!(model.uncovered.is_empty(), "a Transition covers every commit");
        prop_assert_eq!(model.responses, model.request as usize);
        prop_assert_eq!(model.version.query_set as usize, model.sets.len() - 1);
        prop_assert_eq!(model.version.identity as usize, model.users.len() - 1);
        model.check();
    }
}
