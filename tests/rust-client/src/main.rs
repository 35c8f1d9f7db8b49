//! Subscribes, mutates and sees the update, through crates.io's unmodified `convex` client.
//!
//! In: the host's address as the first argument; it serves tests/live. Out: exit code 0 and one
//! line, or a panic. Invariant: every wait ends by an update, or the caller's time limit ends us.

use std::collections::BTreeMap;

use convex::{ConvexClient, FunctionResult, QuerySubscription, Value};
use futures::StreamExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).expect("the host's address");
    let mut client = ConvexClient::new(&url).await.expect("it connects");
    client.set_auth(None).await;

    let mut updates = client.subscribe("notes:bodies", notes(&[])).await.unwrap();
    assert_eq!(updates.next().await, Some(list(&[])));
    for (at, body) in ["a", "b", "c"].into_iter().enumerate() {
        let added = client.mutation("notes:add", notes(&[("body", body)])).await.unwrap();
        let count = Value::Float64(at as f64 + 1.0);
        assert_eq!(added, FunctionResult::Value(count));
    }
    let on_the_way = [list(&[]), list(&["a"]), list(&["a", "b"])];
    wait_for(&mut updates, &list(&["a", "b", "c"]), &on_the_way).await;

    let mut other = ConvexClient::new(&url).await.expect("it connects");
    other.mutation("notes:drop", notes(&[("body", "b")])).await.unwrap();
    wait_for(&mut updates, &list(&["a", "c"]), &[list(&["a", "b", "c"])]).await;
    drop(updates);

    match client.mutation("notes:fail", notes(&[])).await.unwrap() {
        FunctionResult::ConvexError(error) => {
            let data = object(&[("code", "Refused"), ("list", "rust")]);
            assert_eq!(error.data, Value::Object(data));
        }
        other => panic!("a mutation that throws is a ConvexError, not {other:?}"),
    }
    let acted = client.action("people:act", BTreeMap::new()).await.unwrap();
    assert_eq!(acted, FunctionResult::Value(Value::String("done".into())));
    let subject = client.query("people:subject", BTreeMap::new()).await.unwrap();
    assert_eq!(subject, FunctionResult::Value(Value::Null));
    println!("crates.io convex: subscribed, mutated, saw the update");
}

/// This client tells a value again whenever anything that it follows may have changed.
async fn wait_for(
    updates: &mut QuerySubscription,
    wanted: &FunctionResult,
    on_the_way: &[FunctionResult],
) {
    loop {
        let seen = updates.next().await.expect("the subscription goes on");
        if seen == *wanted {
            return;
        }
        assert!(on_the_way.contains(&seen), "{seen:?}");
    }
}

/// Arguments of a function of `notes`.
fn notes(more: &[(&str, &str)]) -> BTreeMap<String, Value> {
    object(&[&[("list", "rust")], more].concat())
}

fn object(fields: &[(&str, &str)]) -> BTreeMap<String, Value> {
    fields.iter().map(|(name, text)| ((*name).into(), Value::String((*text).into()))).collect()
}

fn list(bodies: &[&str]) -> FunctionResult {
    let bodies = bodies.iter().map(|body| Value::String((*body).into())).collect();
    FunctionResult::Value(Value::Array(bodies))
}
