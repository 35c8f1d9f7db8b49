//! The worlds of `concave test` share one thread for all that they ask: none of them holds it while
//! it waits.
//!
//! In: a world; a builder that waits for the test, a thread that has taken the turn to commit. Out:
//! what goes on meanwhile. Invariant: time decides only how long a failure takes.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use concave::testing::deploy::Ready;
use concave::testing::world::{Clock, Opening, World};
use database::commit::Writer;
use database::record::{Arguments, FunctionPath, Functions as _};
use database::scheduling::{self, NewJob};
use database::snapshot::Deployment;
use functions::{Elsewhere, Visit};
use tokio::runtime::Builder;

use crate::deployed::{Deployed, Made, NoActions, bundle};
use crate::restored::waiting;

const MODULE: &str = r#"
import { query } from "./abi.js";
const mode = process.env.MODE ?? "none";
export const f = query(() => mode);
"#;

/// Nothing runs elsewhere here.
struct Nobody;

impl Elsewhere for Nobody {
    fn run(&self, _visit: Visit) {
        panic!("the functions are in the deployment");
    }
}

/// A world of the module.
fn world(deployed: &Deployed) -> World {
    let bundle = Arc::new(bundle(&[("m", MODULE)]));
    let analysis = deployed.host.analyze(Arc::clone(&bundle)).unwrap();
    let ready = Ready::of(Arc::new(Deployment { bundle, analysis }));
    let opening = Opening {
        id: 1,
        clock: Arc::new(Clock::new(1_700_000_000_000.0, 1)),
        actions: Arc::new(NoActions),
        elsewhere: Arc::new(Nobody),
        budget: None,
        twice: false,
    };
    World::open(&deployed.host, &ready, opening).unwrap()
}

#[test]
fn a_world_whose_code_is_evaluated_again_holds_nobody_up() {
    let root = tempfile::tempdir().unwrap();
    let gate = root.path().join("gate");
    let empty = Deployed::empty();
    let deployed =
        Deployed::over(Made::default(), empty.database.clone(), waiting(root.path(), &gate));
    let world = world(&deployed);
    fs::write(&gate, "").unwrap();
    let change = world.set_environment(BTreeMap::from([("MODE".into(), "other".into())]));
    let others = async {
        assert!(gate.exists(), "the world held the only thread while its builder waited");
        fs::remove_file(&gate).unwrap();
    };
    let thread = Builder::new_current_thread().build().unwrap();
    let (changed, ()) = thread.block_on(async { tokio::join!(change, others) });
    changed.unwrap();
    let outcome = thread.block_on(world.call(deployed.make("m:f", "{}"))).unwrap();
    assert_eq!(outcome.result.as_deref(), Ok("\"other\""));
}

#[test]
fn a_world_that_waits_for_its_turn_holds_nobody_up() {
    let deployed = Deployed::empty();
    let world = world(&deployed);
    let path = FunctionPath::parse("m:f").unwrap();
    let args = Arguments::parse(&path, "{}").unwrap();
    let job = NewJob { from: "".into(), path, args, at: 1_700_000_000.0, by: None };
    let (writer, clock) = (Writer::new("test", "1"), world.clock.clone());
    let row = scheduling::schedule(&world.database, &*clock, job, writer).unwrap();
    let (give_back, wanted) = mpsc::channel();
    let (taken, waits) = mpsc::channel();
    let database = world.database.clone();
    let thread = std::thread::spawn(move || {
        let _turn = database.turn();
        taken.send(()).unwrap();
        wanted.recv_timeout(Duration::from_secs(20)).is_ok()
    });
    waits.recv().unwrap();
    // It is a query: that it failed is a commit.
    let fired = world.fire(row, "1".into());
    let others = async {
        // If the thread has given up, it says so below.
        let _ = give_back.send(());
    };
    let runtime = Builder::new_current_thread().build().unwrap();
    let (fired, ()) = runtime.block_on(async { tokio::join!(fired, others) });
    assert!(thread.join().unwrap(), "the world held the only thread while it waited");
    fired.unwrap();
    assert_eq!(scheduling::pending(&world.database.newest()).count(), 0);
}
