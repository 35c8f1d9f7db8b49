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
pub const KEY: &str = "concave|abababababababababababababababababababababababababababababababab";

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

/// One request; gives everything until the other side closes.
pub async fn whole(socket: &mut TcpStream, request: &[u8]) -> std::io::Result<String> {
    socket.write_all(request).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether anybody is there, and answers a request with success.
pub async fn is_answered(port: u16, request: &[u8]) -> bool {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let head = b"HTTP/1.1 200";
    let mut answer = [0; 12];
    let asked = socket.write_all(request).await;
    asked.is_ok() && socket.read_exact(&mut answer).await.is_ok() && answer == *head
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

/// `concave serve` in memory with an app pushed; `app` is its path in the repository.
pub fn start_host(app: &str, port: u16, options: &[&str]) -> Child {
    start_host_with(Some(app), port, &[&["--in-memory"], options].concat())
}

/// `concave serve` with more arguments, and perhaps an app pushed.
pub fn start_host_with(app: Option<&str>, port: u16, arguments: &[&str]) -> Child {
    // Another build can be measured with the same bench.
    let program = std::env::var_os("CONCAVE_BINARY");
    let mut host = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_concave").into()));
    host.arg("serve").args(arguments).args(["--admin-key", KEY]);
    host.args(["--port", &port.to_string(), "--site-port", &(port - 1).to_string()]);
    if let Some(app) = app {
        host.arg("--push").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(app));
    }
    let mut host = host.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(host.stderr.take().unwrap()).lines();
    if let Some(app) = app {
        // The first push is done when the host says that it serves.
        let pushed = lines.by_ref().take(20).map_while(Result::ok).find(|l| l.contains("pushed"));
        assert!(pushed.is_some(), "the host did not push {app}: run `make modules`");
    }
    std::thread::spawn(move || lines.for_each(drop));
    host
}
