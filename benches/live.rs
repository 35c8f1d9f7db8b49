//! Live queries over WebSocket on loopback: how soon, to how many, and what idle ones cost.
//!
//! In: the built program and `examples/transfer`. Out: lines on standard output. Bounded: each part
//! makes a fixed number of commits and connections. The load client and the host are processes of
//! their own on the same cores, so the client's work is part of every figure.
//!
//!   make modules && cargo bench --profile fast --bench live
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and dies when it fails"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const KEY: &str = "concave|abababababababababababababababababababababababababababababababab";
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/transfer");
const PORT: u16 = 3395;
/// Clients of one query.
const AUDIENCE: usize = 1_000;
/// Clients that do nothing.
const IDLE: usize = 5_000;
/// Clients that share out the many subscriptions; each follows both accounts that are written.
const FOLLOWERS: usize = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut host = Host::serve();
        host.ready().await;
        seed(20_000).await;
        seen_by_one().await;
        seen_by_many().await;
        many_subscriptions().await;
        host.end();
        let mut host = Host::dev();
        host.ready().await;
        seed(10).await;
        executions(&host).await;
        host.end();
        let mut host = Host::serve();
        host.ready().await;
        seed(10).await;
        idle(&host).await;
        host.end();
    });
}

/// From the mutation's frame to the frame with the query's new result.
async fn seen_by_one() {
    for (who, other) in [("the client itself", false), ("another client", true)] {
        let mut writer = Client::connect().await;
        let mut reader = if other { Some(Client::connect().await) } else { None };
        reader.as_mut().unwrap_or(&mut writer).follow([1]).await;
        let mut times = Vec::new();
        for _ in 0..3_000 {
            let start = Instant::now();
            writer.send_transfer(1, 2).await;
            let seen = reader.as_mut().unwrap_or(&mut writer).updated().await;
            assert_eq!(seen, 1);
            times.push(start.elapsed());
            if other {
                writer.answered().await;
            }
        }
        let (p50, p99) = percentiles(&mut times);
        println!("mutation until {who} sees it, one at a time: p50 {p50:?}, p99 {p99:?}");
    }
}

/// One query, many clients: each commit waits until all have seen the last.
async fn seen_by_many() {
    let mut writer = Client::connect().await;
    let mut audience = audience().await;
    for round in 0..3 {
        let commits = 60;
        let start = Instant::now();
        for _ in 0..commits {
            writer.transfer(1, 2).await;
            let seen = join_all(audience.iter_mut().map(Client::updated)).await;
            assert!(seen.iter().all(|seen| *seen == 1));
        }
        #[expect(clippy::cast_precision_loss, reason = "thousands of updates")]
        let rate = (commits * AUDIENCE) as f64 / start.elapsed().as_secs_f64();
        println!("{AUDIENCE} clients on one query, round {round}: {rate:.0} updates/s delivered");
    }
}

/// What `dev` tells of the query while many follow it.
async fn executions(host: &Host) {
    let mut writer = Client::connect().await;
    let mut audience = audience().await;
    let commits = 50;
    let ran = || host.said("accounts:get_account", "cached");
    // The terminal writes behind; the last line is there when its number stands still.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = ran();
    for _ in 0..commits {
        writer.transfer(1, 2).await;
        join_all(audience.iter_mut().map(Client::updated)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!(
        "{AUDIENCE} clients on one query: {} executions for {commits} commits",
        ran() - before
    );
}

/// A commit touches 20 subscriptions; how long it takes beside 180 others and beside 19,980.
async fn many_subscriptions() {
    let mut writer = Client::connect().await;
    let mut followers: Vec<Client> = join_all((0..FOLLOWERS).map(|_| Client::connect())).await;
    let others = |follower: usize, from: usize, to: usize| {
        (from..to).map(move |n| (2 + n * FOLLOWERS + follower) as u64)
    };
    for (n, follower) in followers.iter_mut().enumerate() {
        follower.follow([0, 1]).await;
        follower.follow(others(n, 0, 18)).await;
    }
    let mut medians = Vec::new();
    for round in 0..3 {
        let few = commit_times(&mut writer, &mut followers).await;
        for (n, follower) in followers.iter_mut().enumerate() {
            follower.follow(others(n, 18, 1_998)).await;
        }
        let many = commit_times(&mut writer, &mut followers).await;
        for follower in &mut followers {
            follower.forget(1_980).await;
        }
        println!(
            "a commit that touches 20 of 200, of 20,000 subscriptions, round {round}: p50 {:?}, \
             {:?}; p99 {:?}, {:?}",
            few.0, many.0, few.1, many.1
        );
        medians.push(many.0.as_secs_f64() / few.0.as_secs_f64());
    }
    medians.sort_by(f64::total_cmp);
    println!("  ratio of the medians: {:.2}, {:.2}, {:.2}", medians[0], medians[1], medians[2]);
}

/// p50 and p99 of the answer to a mutation that every follower then sees.
async fn commit_times(writer: &mut Client, followers: &mut [Client]) -> (Duration, Duration) {
    let mut times = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        writer.send_transfer(0, 1).await;
        writer.answered().await;
        times.push(start.elapsed());
        let seen = join_all(followers.iter_mut().map(Client::updated)).await;
        assert!(seen.iter().all(|seen| *seen == 2));
    }
    percentiles(&mut times)
}

/// What clients that do nothing cost, first without a query, then with one that all share.
async fn idle(host: &Host) {
    let mut clients = vec![Client::connect().await];
    clients[0].follow([1]).await;
    let before = host.resident_kb();
    while clients.len() <= IDLE {
        clients.extend(join_all((0..100).map(|_| Client::connect())).await);
    }
    let each = |now: u64| (now - before) / IDLE as u64;
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{IDLE} idle clients without a query: {} KB each", each(host.resident_kb()));
    for client in &mut clients[1..] {
        client.follow([1]).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{IDLE} idle clients with a query: {} KB each", each(host.resident_kb()));
    clients[0].transfer(1, 2).await;
    join_all(clients[1..].iter_mut().map(Client::updated)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("  after an update to all of them: {} KB each", each(host.resident_kb()));
}

async fn audience() -> Vec<Client> {
    let mut audience = Vec::new();
    for _ in 0..AUDIENCE {
        let mut client = Client::connect().await;
        client.follow([1]).await;
        audience.push(client);
    }
    audience
}

/// Makes the accounts 0 to `count`.
async fn seed(count: u64) {
    let mut client = Client::connect().await;
    for start in (0..count).step_by(2_000) {
        let some = (count - start).min(2_000);
        let args = format!(r#"{{"start":{start},"count":{some},"initial":1000000}}"#);
        client.mutation("seed:seed_range", &args).await;
        client.answered().await;
    }
}

fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// One WebSocket client, as bare as the protocol allows.
struct Client {
    socket: WebSocketStream<TcpStream>,
    query_set: u64,
    queries: u64,
    requests: u64,
}

impl Client {
    /// Connects and says hello.
    async fn connect() -> Self {
        let stream = TcpStream::connect(("127.0.0.1", PORT)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let url = format!("ws://127.0.0.1:{PORT}/api/1.48.0/sync");
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let connected = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        let (socket, _) = connected.await.unwrap();
        let mut client = Self { socket, query_set: 0, queries: 0, requests: 0 };
        let session = unique();
        client
            .say(
                format!(r#"{{"type":"Connect","sessionId":"{session}","connectionCount":0,"#,)
                    + r#""lastCloseReason":"InitialConnect","clientTs":0}"#,
            )
            .await;
        client.change(&[]).await;
        client.hear(r#""type":"Transition""#).await;
        client
    }

    /// Follows accounts, and waits for their first results.
    async fn follow(&mut self, accounts: impl IntoIterator<Item = u64>) {
        let mut changes = Vec::new();
        for account in accounts {
            let query = self.queries;
            self.queries += 1;
            let asked = format!(r#""udfPath":"accounts:get_account","args":[{{"id":{account}}}]"#);
            changes.push(format!(r#"{{"type":"Add","queryId":{query},{asked}}}"#));
        }
        self.change(&changes).await;
        let mut missing = changes.len();
        while missing > 0 {
            missing -= self.updated().await;
        }
    }

    /// Follows the newest `count` queries no more.
    async fn forget(&mut self, count: u64) {
        let newest = self.queries - count..self.queries;
        let changes: Vec<_> =
            newest.map(|query| format!(r#"{{"type":"Remove","queryId":{query}}}"#)).collect();
        self.change(&changes).await;
        self.hear("QueryRemoved").await;
    }

    /// Changes the query set.
    async fn change(&mut self, changes: &[String]) {
        let (base, changes) = (self.query_set, changes.join(","));
        self.query_set += 1;
        let versions = format!(r#""baseVersion":{base},"newVersion":{}"#, base + 1);
        let changes = format!(r#""modifications":[{changes}]"#);
        self.say(format!(r#"{{"type":"ModifyQuerySet",{versions},{changes}}}"#)).await;
    }

    async fn send_transfer(&mut self, from: u64, to: u64) {
        // Back and forth, so that nobody runs out of money.
        let (from, to) = if self.requests.is_multiple_of(2) { (from, to) } else { (to, from) };
        let args = format!(r#"{{"amount":1,"from_id":{from},"to_id":{to}}}"#);
        self.mutation("transfer:transfer", &args).await;
    }

    async fn transfer(&mut self, from: u64, to: u64) {
        self.send_transfer(from, to).await;
        self.answered().await;
    }

    async fn mutation(&mut self, path: &str, args: &str) {
        let request = self.requests;
        self.requests += 1;
        self.say(format!(
            r#"{{"type":"Mutation","requestId":{request},"udfPath":"{path}","args":[{args}]}}"#
        ))
        .await;
    }

    /// Waits for the answer to a mutation.
    async fn answered(&mut self) {
        let answer = self.hear(r#""type":"MutationResponse""#).await;
        assert!(answer.contains(r#""success":true"#), "{answer}");
    }

    /// Waits for new results; how many came in one frame.
    async fn updated(&mut self) -> usize {
        self.hear("QueryUpdated").await.matches("QueryUpdated").count()
    }

    async fn say(&mut self, text: String) {
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next frame with `what` in it.
    async fn hear(&mut self, what: &str) -> String {
        loop {
            match self.socket.next().await.expect("the host goes on").unwrap() {
                Message::Text(text) if text.contains(what) => return text.to_string(),
                Message::Text(text) => assert!(!text.contains("FatalError"), "{text}"),
                _ => {}
            }
        }
    }
}

/// A session's id that no other client has.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{:08x}-0000-4000-8000-000000000000", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The program under test.
struct Host {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// Of `dev`, which writes into the folder that it serves.
    _folder: Option<tempfile::TempDir>,
}

impl Host {
    fn serve() -> Self {
        Self::start(&["serve", "--in-memory", "--push", EXAMPLE, "--admin-key", KEY], None)
    }

    fn dev() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["convex", "node_modules", "package.json"] {
            symlink(Path::new(EXAMPLE).join(name), folder.path().join(name)).unwrap();
        }
        let path = folder.path().to_str().unwrap().to_owned();
        Self::start(&["dev", &path], Some(folder))
    }

    fn start(arguments: &[&str], folder: Option<tempfile::TempDir>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_concave"))
            .args(arguments)
            .args(["--port", &PORT.to_string(), "--site-port", &(PORT - 1).to_string()])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (read, told) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in read.lines().map_while(Result::ok) {
                told.lock().unwrap().push(line);
            }
        });
        Self { child, lines, _folder: folder }
    }

    /// Waits until the first push is done.
    async fn ready(&self) {
        for _ in 0..400 {
            if self.said("pushed", "\0") > 0
                && TcpStream::connect(("127.0.0.1", PORT)).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the host does not serve: run `make modules`\n{:?}", self.lines.lock().unwrap());
    }

    /// How many lines it printed with one text and without another.
    fn said(&self, what: &str, without: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(what) && !line.contains(without)).count()
    }

    fn resident_kb(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
