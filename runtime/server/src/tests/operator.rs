//! Who may do what, and the small endpoints (`convex-compat.md` sections 4.2 to 4.4, 6.1, 6.9).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::record::Identity;
use serde_json::json;

use super::*;

/// `/api/function` as somebody.
async fn as_(bench: &Bench, auth: &str) -> Got {
    let body = r#"{"path":"a:who","args":{},"format":"json"}"#.to_owned();
    bench.authorized(Method::POST, "/api/function", (auth, body)).await
}

fn who() -> Bench {
    bench(false, |call| {
        Ok(Ok(match &call.identity {
            Identity::ActingAs(user) => {
                json!([user.token_identifier, user.attributes.to_string()]).to_string()
            }
            Identity::Admin => "\"operator\"".into(),
            _ => "null".into(),
        }))
    })
}

#[tokio::test]
async fn the_admin_key_in_its_forms() {
    let who = who();
    for auth in [format!("Convex {KEY}"), format!("convex  {KEY}"), format!("CONVEX prod:{KEY}")] {
        assert_eq!(as_(&who, &auth).await.json()["value"], "operator", "{auth}");
    }
    let wrong = as_(&who, "Convex test|0123456789abcdee").await;
    assert_eq!(wrong.failure(), (403, "BadDeployKey".into()));
    assert_eq!(as_(&who, "Convex").await.failure(), (400, "InvalidHeaderFailure".into()));
    assert_eq!(as_(&who, "Basic abc").await.failure(), (400, "InvalidHeaderFailure".into()));
    let token = as_(&who, "Bearer a.b.c").await;
    assert_eq!(token.failure(), (403, "Forbidden".into()));

    let call = r#"{"path":"a:who","args":{}}"#;
    let open = who.post("/api/function", call).await;
    assert_eq!(open.failure(), (401, "MissingAdminKey".into()));
    let key = KEY.replace('|', "%7C");
    let by_url = who.post(&format!("/api/function?adminKey={key}"), call).await;
    assert_eq!(by_url.json()["value"], "operator");
    let by_url = who.post("/api/function?adminKey=nope", call).await;
    assert_eq!(by_url.failure(), (403, "BadDeployKey".into()));
    let anybody = who.post("/api/query", call).await;
    assert_eq!(anybody.json()["value"], json!(null));
}

#[tokio::test]
async fn acting_as_a_user() {
    let who = who();
    let as_user = async |identity: &str| {
        let identity = STANDARD.encode(identity);
        as_(&who, &format!("Convex {KEY}:{identity}")).await
    };
    let got = as_user(r#"{"issuer":"https://i","subject":"s","name":"Ünal"}"#).await;
    let value = got.json()["value"].clone();
    assert_eq!(value[0], "https://i|s");
    let attributes: Value = serde_json::from_str(value[1].as_str().unwrap()).unwrap();
    assert_eq!(attributes["name"], "Ünal");
    assert_eq!(attributes["tokenIdentifier"], "https://i|s");
    for wrong in ["[]", "{}", "nonsense"] {
        assert_eq!(as_user(wrong).await.failure(), (400, "InvalidAdminKey".into()), "{wrong}");
    }
    let got = as_(&who, &format!("Convex {KEY}:***")).await;
    assert_eq!(got.failure(), (400, "InvalidAdminKey".into()));
}

#[tokio::test]
async fn small_endpoints() {
    let echo = echo();
    assert_eq!(echo.get("/instance_name").await.body, "bench");
    assert!(echo.get("/version").await.body.starts_with("concave "));
    assert_eq!(echo.get("/").await.status, 200);
    assert_eq!(echo.post("/echo", "back").await.body, "back");
    let open = echo.get("/api/v1/get_canonical_urls").await;
    assert_eq!(open.failure(), (401, "MissingAdminKey".into()));
    let auth = format!("Convex {KEY}");
    let get =
        async |path: &str| echo.authorized(Method::GET, path, (&auth, String::new())).await.json();
    assert_eq!(
        get("/api/v1/get_canonical_urls").await,
        json!({ "convexCloudUrl": "http://127.0.0.1:3210",
                "convexSiteUrl": "http://127.0.0.1:3211" })
    );
    assert_eq!(get("/api/check_admin_key").await["success"], true);
    assert_eq!(get("/api/v1/deployment_info").await["kind"], "selfHosted");
    assert_eq!(get("/api/list_environment_variables").await["environmentVariables"], json!({}));
}

#[tokio::test]
async fn nothing_under_api_is_404() {
    let echo = echo();
    let got = echo.post("/api/streaming_import/get_schema", "{}").await;
    assert_eq!(got.failure(), (400, "NotSupported".into()));
    assert!(
        got.body.contains("POST /api/streaming_import/get_schema is not supported by concave yet")
    );
    let got = echo.get("/api/1.48.0/sync").await;
    assert_eq!(got.failure(), (400, "NoWebSocket".into()));
    assert_eq!(echo.get("/api/mutation").await.failure(), (405, "MethodNotAllowed".into()));
    assert_eq!(echo.get("/nowhere").await.failure(), (404, "NotFound".into()));
}

#[tokio::test]
async fn browsers_of_any_origin_may_call() {
    let echo = echo();
    let preflight = Request::options("/api/query")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,convex-client")
        .body(Body::empty())
        .unwrap();
    let got = echo.send(preflight).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.headers["access-control-allow-origin"], "https://app.example");
    assert_eq!(got.headers["access-control-allow-headers"], "authorization,convex-client");
    assert_eq!(got.headers["access-control-allow-credentials"], "true");
    assert_eq!(got.headers["access-control-max-age"], "86400");
    let methods = got.headers["access-control-allow-methods"].to_str().unwrap();
    assert!(methods.contains("POST") && methods.contains("DELETE"), "{methods}");
    let call = Request::post("/api/query")
        .header("origin", "https://app.example")
        .body(Body::from(r#"{"path":"a:b","args":{}}"#))
        .unwrap();
    let got = echo.send(call).await;
    assert_eq!(got.headers["access-control-allow-origin"], "https://app.example");
    let action = Request::get("/http/x").header("origin", "https://app.example");
    let got = echo.send(action.body(Body::empty()).unwrap()).await;
    assert!(!got.headers.contains_key("access-control-allow-origin"), "the app's own business");
}

#[tokio::test]
async fn http_actions_say_why_there_are_none() {
    let echo = echo();
    let text = "This Convex deployment does not have HTTP actions enabled.";
    let got = echo.get("/http/a/b").await;
    assert_eq!((got.status.as_u16(), &*got.body), (404, text));
    let bare = Bench { cloud: echo.site.clone(), ..echo };
    let got = bare.post("/any/where", "x").await;
    assert_eq!((got.status.as_u16(), &*got.body), (404, text));
}

#[tokio::test]
async fn system_functions_exist_only_for_the_operator() {
    let echo = echo();
    let call = |path: &str| json!({ "path": path, "args": {}, "format": "json" });
    let open = echo.post("/api/query", call("_system/cli/tables").to_string()).await;
    assert!(open.body.contains("Could not find public function for '_system/cli/tables'."));
    let got = echo.admin("/api/query", call("_system/cli/tables")).await;
    assert_eq!(got.json()["value"], json!({ "page": [], "isDone": true, "continueCursor": "end" }));
    let got = echo.admin("/api/query", call("_system/cli/convexUrl:cloudUrl")).await;
    assert_eq!(got.json()["value"], "http://127.0.0.1:3210");
    let got = echo.admin("/api/query", call("_system/frontend/nothing:here")).await;
    assert_eq!(got.json()["status"], "error");
    assert!(got.body.contains("'_system/frontend/nothing:here' is not supported by concave yet"));
}

#[tokio::test]
async fn a_command_line_that_is_too_old_is_told_to_upgrade() {
    let bench = echo();
    let ask = async |client: &str, path: &str| {
        let request = Request::post(path).header("convex-client", client);
        bench.send(request.body(Body::empty()).unwrap()).await
    };
    for path in ["/api/get_config_hashes", "/api/push_config", "/api/deploy2/start_push"] {
        let got = ask("npm-cli-1.29.9", path).await;
        assert_eq!(got.failure(), (400, "UpgradeRequired".into()), "{path}");
        assert_eq!(got.headers["x-convex-deprecation-state"], "Deprecated");
        let message = got.headers["x-convex-deprecation-message"].to_str().unwrap();
        assert!(message.contains("1.29.9") && message.contains("npm install convex@latest"));
        let got = ask("npm-cli-1.30.0", path).await;
        assert_ne!(got.failure().1, "UpgradeRequired", "{path}");
    }
    assert_ne!(ask("npm-1.20.0", "/api/query").await.failure().1, "UpgradeRequired");
}

#[tokio::test]
async fn one_answer_shows_one_moment_of_the_process() {
    let (mut server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    let looks = AtomicU64::new(0);
    server.config.measure = Some(Arc::new(move || {
        let look = looks.fetch_add(1, Ordering::Relaxed);
        let (workers, worker_processes) = (look * 1_000, look);
        crate::Measured { workers, worker_processes, ..crate::Measured::default() }
    }));
    let Routes { cloud, site } = Routes::new(server);
    let bench = Bench { fake, cloud, site, events };
    let auth = format!("Convex {KEY}");
    for look in 0..3 {
        let shown = bench.authorized(Method::GET, "/api/concave/stats", (&auth, String::new()));
        let shown = shown.await.json();
        assert_eq!(shown["memory"]["workers"], look * 1_000, "{shown}");
        assert_eq!(shown["work"]["workerProcesses"], look, "{shown}");
    }
}
