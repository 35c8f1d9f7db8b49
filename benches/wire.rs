//! A host under load: started, spoken to over plain sockets.
//!
//! In: an app of the repository. Out: a host with it pushed; requests and their answers. Invariant:
//! an answer that is no success ends the bench.
#![allow(dead_code, clippy::unwrap_used, reason = "each bench uses a part; it dies when it fails")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The operator's key.
const KEY: &str = "concave|abababababababababababababababababababababababababababababababab";

/// One request; gives the body of its answer.
pub async fn answer(socket: &mut TcpStream, request: &[u8]) -> String {
    socket.write_all(request).await.unwrap();
    let mut buffer = Vec::with_capacity(1024);
    loop {
        assert!(socket.read_buf(&mut buffer).await.unwrap() > 0, "the connection was closed");
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let length: usize = length.expect("an answer says how long it is");
        if buffer.len() < end + 4 + length {
            continue;
        }
        let body = String::from_utf8_lossy(&buffer[end + 4..]);
        assert!(head.starts_with("HTTP/1.1 200") && !body.contains(r#""error""#), "{head}\n{body}");
        return body.into_owned();
    }
}

/// The bytes of a request.
pub fn post(port: u16, path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A connection that sends at once.
pub async fn connect(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Waits until somebody listens.
pub async fn wait_for(port: u16) {
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing listens on port {port}");
}

/// `concave serve` with an app pushed; `app` is its path in the repository.
pub fn start_host(app: &str, port: u16, options: &[&str]) -> Child {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(app);
    let mut host = Command::new(env!("CARGO_BIN_EXE_concave"))
        .args(["serve", "--in-memory", "--admin-key", KEY])
        .args(options)
        .args(["--port", &port.to_string(), "--site-port", &(port - 1).to_string(), "--push"])
        .arg(folder)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first push is done when the host says that it serves.
    let mut lines = BufReader::new(host.stderr.take().unwrap()).lines();
    let pushed = lines.by_ref().take(20).map_while(Result::ok).find(|l| l.contains("pushed"));
    assert!(pushed.is_some(), "the host did not push {app}: run `make modules`");
    std::thread::spawn(move || lines.for_each(drop));
    host
}
