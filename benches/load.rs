//! Many connections that send what one queue holds.
//!
//! In: a port, requests. Out: requests a second. Invariant: each request is answered with success,
//! or the bench ends.
#![allow(clippy::unwrap_used, reason = "a bench dies when it fails")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::wire::{answer, connect};

/// Sends `requests` over `connections` kept alive; every answer must be a 200. Gives requests a
/// second.
pub async fn storm(port: u16, connections: usize, requests: &VecDeque<Vec<u8>>) -> f64 {
    let start = Instant::now();
    let sent = timed(port, connections, requests).await.len();
    #[expect(clippy::cast_precision_loss, reason = "thousands of requests")]
    let sent = sent as f64;
    sent / start.elapsed().as_secs_f64()
}

/// The same; gives when each was sent, and when its answer was there.
pub async fn timed(
    port: u16,
    connections: usize,
    requests: &VecDeque<Vec<u8>>,
) -> Vec<(Instant, Instant)> {
    let queue = Rc::new(RefCell::new(requests.clone()));
    let times = Rc::new(RefCell::new(Vec::with_capacity(requests.len())));
    let one = || {
        let (queue, times) = (Rc::clone(&queue), Rc::clone(&times));
        async move {
            let mut socket = connect(port).await;
            loop {
                let Some(request) = queue.borrow_mut().pop_front() else { break };
                let sent = Instant::now();
                answer(&mut socket, &request).await;
                times.borrow_mut().push((sent, Instant::now()));
            }
        }
    };
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let tasks: Vec<_> = (0..connections).map(|_| tokio::task::spawn_local(one())).collect();
            for task in tasks {
                task.await.unwrap();
            }
        })
        .await;
    times.take()
}
