//! A database that came back from a folder, without what V8 wrote: code is made anew, beside all
//! that must go on meanwhile.
//!
//! In: two pushes, kept in a folder; a builder that waits for the test. Out: answers of both.
//! Invariant: the order of what happens is made by the test; time decides only how long a failure
//! takes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, mpsc};

use concave::durable;
use database::commit::Options;
use database::record::Timestamp;
use functions::Helper;

use crate::deployed::{Answer, Deployed, Made, helper};

const EPOCH: u64 = 1_699_999_999_000_000_000;

fn open(folder: &Path) -> durable::Data {
    let tell: durable::Tell = Arc::new(|text| panic!("nothing is told here: {text}"));
    durable::open(durable::Options {
        folder: folder.to_owned(),
        database: Options::at(EPOCH),
        give_up_after: None,
        history_disk: 16 << 20,
        tell,
    })
    .unwrap()
}

/// Pushes a function that gives 1, and one that gives 2; gives when only the first served.
fn push_twice(folder: &Path) -> Timestamp {
    let data = open(folder);
    let deployed = Deployed::over(Made::default(), Arc::clone(&data.database), helper());
    let module = |result: u8| {
        format!("import {{ query }} from \"./abi.js\"; export const f = query(() => {result});")
    };
    deployed.push(&[("m", &module(1))]).unwrap();
    let before = data.database.snapshot().ts;
    deployed.push(&[("m", &module(2))]).unwrap();
    before
}

/// A builder that waits while there is a file, though not for ever, and removes it then.
pub fn waiting(folder: &Path, gate: &Path) -> Helper {
    let (script, Helper { program, arguments, .. }) = (folder.join("builder"), helper());
    let text = format!(
        "#!/bin/sh\ni=0\nwhile [ -e '{}' ] && [ $i -lt 1000 ]; do i=$((i+1)); sleep 0.01; done\n\
         rm -f '{}'\nexec '{}' \"$@\"\n",
        gate.display(),
        gate.display(),
        program.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    Helper { program: script, arguments, keep: None }
}

#[test]
fn whoever_asks_for_the_past_does_not_wait_for_its_builder() {
    let root = tempfile::tempdir().unwrap();
    let (folder, gate) = (root.path().join("data"), root.path().join("gate"));
    let before = push_twice(&folder);
    let data = open(&folder);
    let builder = waiting(root.path(), &gate);
    let deployed = Deployed::over(Made::default(), Arc::clone(&data.database), builder);
    deployed.host.resume().unwrap();
    fs::write(&gate, "").unwrap();
    let ask = |at: Timestamp| -> Answer {
        let mut call = deployed.make("m:f", "{}");
        call.at = Some(at);
        deployed.start(call)
    };
    let early = [ask(before), ask(before)];
    assert!(gate.exists(), "whoever called has waited for the builder");
    assert_eq!(deployed.value("m:f", "{}"), "2", "what serves goes on");
    let empty = |answer: &Answer| matches!(answer.try_recv(), Err(mpsc::TryRecvError::Empty));
    assert!(gate.exists() && early.iter().all(empty), "the builder waits still");
    fs::remove_file(&gate).unwrap();
    for answer in early.into_iter().chain([ask(before)]) {
        let outcome = answer.recv().unwrap().unwrap();
        assert_eq!(outcome.result.as_deref(), Ok("1"));
    }
}

#[test]
fn an_old_deployment_that_cannot_be_made_any_more_is_as_good_as_gone() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    let before = push_twice(&folder);
    let data = open(&folder);
    let program = root.path().join("there is no such program");
    let builder = Helper { program, arguments: Vec::new(), keep: None };
    let deployed = Deployed::over(Made::default(), Arc::clone(&data.database), builder);
    let mut call = deployed.make("m:f", "{}");
    call.at = Some(before);
    let outcome = deployed.start(call).recv().unwrap().unwrap();
    let error = outcome.result.unwrap_err().message;
    assert!(error.starts_with("Could not find function for 'm:f'"), "{error}");
}
