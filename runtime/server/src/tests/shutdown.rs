//! Stopping: what is in flight is answered, within the deadline.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::{Gate, Listeners, Stopped, serve};

/// A server on a socket, whose calls wait for the test, with one call in flight.
struct Serving {
    fake: Arc<Fake>,
    client: TcpStream,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<Stopped>>,
}

async fn serving() -> Serving {
    let (mut server, fake, _) = server(false, Box::new(|_| Ok(Ok("\"late\"".into()))));
    *fake.held.lock().unwrap() = Some(Vec::new());
    server.config.drain = Duration::from_secs(30);
    serving_with(server, fake).await
}

async fn serving_with(server: Server, fake: Arc<Fake>) -> Serving {
    let cloud = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(cloud.local_addr().unwrap()).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let signal = async move { drop(stopped.await) };
    let listeners = Listeners { cloud, site: Some(site), gate: None };
    let served = tokio::spawn(serve(server, listeners, signal));
    let body = json!({ "path": "a:b", "args": {} }).to_string();
    let head = format!("POST /api/query HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    client.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    while fake.held.lock().unwrap().as_ref().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    Serving { fake, client, stop, served }
}

#[tokio::test]
async fn what_is_in_flight_is_answered() {
    let Serving { fake, mut client, stop, served } = serving().await;
    stop.send(()).unwrap();
    // The listener is closed before the answer goes out: nobody new gets in.
    tokio::task::yield_now().await;
    for (reply, outcome) in fake.held.lock().unwrap().take().unwrap() {
        reply(Ok(outcome));
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with(r#"{"status":"success","value":"late"}"#), "{answer}");
    assert_eq!(served.await.unwrap().unwrap(), Stopped::Drained);
}

#[tokio::test]
async fn the_deadline_ends_the_wait() {
    let (server, fake, _) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    *fake.held.lock().unwrap() = Some(Vec::new());
    let Serving { fake, client: _open, stop, served } = serving_with(server, fake).await;
    stop.send(()).unwrap();
    assert_eq!(served.await.unwrap().unwrap(), Stopped::CutOff);
    assert_eq!(fake.held.lock().unwrap().as_ref().unwrap().len(), 1, "still unanswered");
}

#[tokio::test]
async fn clients_wait_at_the_gate_and_the_operator_does_not() {
    let (server, _, _) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let cloud = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let operator = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ask = async |to: std::net::SocketAddr| {
        let mut client = TcpStream::connect(to).await.unwrap();
        client.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        client
    };
    let early = ask(cloud.local_addr().unwrap()).await;
    let mut operators = ask(operator.local_addr().unwrap()).await;
    let (open, opened) = oneshot::channel();
    let listeners = Listeners { cloud, site: None, gate: Some(Gate { operator, opened }) };
    tokio::spawn(serve(server, listeners, std::future::pending()));
    let mut first = [0; 15];
    operators.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let nothing = early.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    open.send(()).unwrap();
    let mut early = early;
    early.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
}
