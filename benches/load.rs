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
    let queue = Rc::new(RefCell::new(requests.clone()));
    let local = tokio::task::LocalSet::new();
    let start = Instant::now();
    local
        .run_until(async {
            let tasks: Vec<_> = (0..connections)
                .map(|_| {
                    let queue = Rc::clone(&queue);
                    tokio::task::spawn_local(async move {
                        let mut socket = connect(port).await;
                        loop {
                            let Some(request) = queue.borrow_mut().pop_front() else { break };
                            answer(&mut socket, &request).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        })
        .await;
    #[expect(clippy::cast_precision_loss, reason = "thousands of requests")]
    let sent = requests.len() as f64;
    sent / start.elapsed().as_secs_f64()
}
