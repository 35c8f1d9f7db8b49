//! While memory is short: who is turned away before anything is read, and who is not.

use database::limits;
use database::memory::{OUT_OF_MEMORY, Pressure};

use super::*;
use crate::host::Host;

const CALL: &str = r#"{"path":"a:list","args":{"n":1}}"#;

fn full() -> Pressure {
    Pressure::Full("The host is out of memory: 9 of 8 MiB".to_owned())
}

#[tokio::test]
async fn new_work_is_turned_away_with_the_reason_and_the_operator_is_not() {
    let bench = echo();
    assert_eq!(bench.get("/ready").await.status, 200);
    bench.fake.database.press(full());
    let refused = [
        bench.post("/api/query", CALL).await,
        bench.post("/api/mutation", CALL).await,
        bench.get("/api/1.48.0/sync").await,
        bench.get("/http/anything").await,
        bench.post("/api/storage/upload?token=x", "bytes").await,
        bench.get("/ready").await,
    ];
    for got in refused {
        assert_eq!(got.failure(), (503, OUT_OF_MEMORY.to_owned()));
        assert_eq!(got.headers["retry-after"], "1");
        assert_eq!(got.json()["message"], "The host is out of memory: 9 of 8 MiB");
    }
    let site = Request::get("/anything").body(Body::empty()).unwrap();
    assert_eq!(bench.site.clone().oneshot(site).await.unwrap().status(), 503);
    let key = (&*format!("Convex {KEY}"), String::new());
    let stats = bench.authorized(Method::GET, "/api/concave/stats", key).await.json();
    // That it is not ready is an answer.
    assert_eq!(stats["calls"]["unknown"]["refused"], 6, "{stats}");
    assert_eq!(bench.get("/health").await.status, 200);
    let operators = bench.admin("/api/mutation", serde_json::from_str(CALL).unwrap()).await;
    assert_eq!(operators.json()["status"], "success");
    bench.fake.database.press(Pressure::Tight);
    assert_eq!(bench.post("/api/query", CALL).await.json()["status"], "success");
}

#[tokio::test]
async fn bodies_in_flight_have_room_together() {
    let (mut server, fake, _) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    assert_eq!(server.config.body_bytes, limits::HTTP_BODIES_BYTES);
    server.config.body_bytes = 1_000;
    *fake.held.lock().unwrap() = Some(Vec::new());
    let host = Arc::new(Host::new(server));
    let cloud = Routes::of(&host).cloud;
    let post = async |declared: Option<&str>| {
        let mut request = Request::post("/api/query");
        if let Some(length) = declared {
            request = request.header(header::CONTENT_LENGTH, length);
        } else {
            request = request.header(header::TRANSFER_ENCODING, "chunked");
        }
        let request = request.body(Body::from(CALL)).unwrap();
        let response = cloud.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, to_bytes(response.into_body(), usize::MAX).await.unwrap())
    };
    let first = tokio::spawn({
        let cloud = cloud.clone();
        let request = Request::post("/api/query").header(header::CONTENT_LENGTH, "700");
        let request = request.body(Body::from(CALL)).unwrap();
        async move { cloud.oneshot(request).await.unwrap().status().as_u16() }
    });
    while fake.held.lock().unwrap().as_ref().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(host.bodies.held(), 700);
    let (status, body) = post(Some("400")).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, 503);
    assert!(text.contains("holds 700 bytes of request bodies and may hold 1000"), "{text}");
    assert_eq!(post(None).await.0, 503, "it may become as long as a body can");
    let held = fake.held.lock().unwrap().take().unwrap();
    held.into_iter().for_each(|(reply, outcome)| reply(Ok(outcome)));
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(host.bodies.held(), 0);
    assert_eq!(post(Some("400")).await.0, 200);
}
