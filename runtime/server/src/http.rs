//! Stop 1 of 8: sockets and routes. Bytes in, bytes out.
//!
//! In: connections. Out: handlers of `convex/`, each given the head and the unread body.
//! Invariant: every path under `/api/` gets an answer that is not 404, because the official CLI
//! repeats a 404 for half a minute; every error is JSON with a code and a message.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::connections::Connections;
use crate::convex::{
    admin, api, client, components, environment, export, import, inline, logs, push, site, storage,
};
use crate::host::Host;
use crate::refusal::Failure;
use crate::{
    Server, admission, calls, copy, essential, fork, history, inspect, invariants, owed, replay,
    scheduler, socket, stats, why,
};

/// The sockets to serve on.
pub struct Listeners {
    /// Functions, deploys, sessions.
    pub cloud: TcpListener,
    /// HTTP actions on an origin of their own.
    pub site: Option<TcpListener>,
    /// Keeps the two closed until there is something to serve.
    pub gate: Option<Gate>,
}

/// Before a host's first deployment is active: clients that connect wait, unanswered, instead of
/// being told that nothing is deployed. The operator comes in by another socket.
pub struct Gate {
    /// Serves the same routes as `cloud`, from the start.
    pub operator: TcpListener,
    /// Opens the others, when it is used or dropped.
    pub opened: oneshot::Receiver<()>,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every request in flight was answered.
    Drained,
    /// The deadline passed first; connections still open are dropped with the runtime.
    CutOff,
}

/// Serves until `shutdown` resolves, then answers what is in flight, within the configured time.
///
/// # Errors
/// A listener that cannot be used, or no thread for the scheduler.
pub async fn serve(
    server: Server,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Stopped> {
    let drain = server.config.drain;
    let (host, mut scheduler) = begin(server).await?;
    let (routes, warn) = (Routes::of(&host), &host.config.warn);
    let (stop, stopping) = watch::channel(());
    let (open, opened) = watch::channel(listeners.gate.is_none());
    let connections = Connections::new();
    let start = |listener: TcpListener, router, opened| {
        listener.local_addr()?;
        let serving = connections.clone().serve(listener, router, stopping.clone());
        let serving = once_open(opened, stopping.clone(), serving);
        io::Result::Ok(essential::task("listener", warn, serving))
    };
    let mut serving = vec![start(listeners.cloud, routes.cloud.clone(), opened.clone())?];
    if let Some(site) = listeners.site {
        serving.push(start(site, routes.site, opened)?);
    }
    if let Some(gate) = listeners.gate {
        let (_, now) = watch::channel(true);
        serving.push(start(gate.operator, routes.cloud, now)?);
        tokio::spawn(async move {
            // Used or dropped: both open.
            let _ = gate.opened.await;
            open.send_replace(true);
        });
    }
    drop(stopping);
    let mut tending = vec![
        essential::task("collection of files", warn, host.files.clone().tend()),
        essential::task("care for imports", warn, import::tend(host.clone())),
        essential::task("care for answers", warn, owed::tend(host.clone())),
    ];
    if host.config.invariants {
        let checks = invariants::tend(host.clone());
        tending.push(essential::task("check of invariants", warn, checks));
    }
    shutdown.await;
    tending.into_iter().for_each(|tending| tending.abort());
    // Dropping the sender is the signal: every receiver sees the channel close.
    drop(stop);
    let drained = async {
        host.logs.stop();
        host.forks.stop();
        host.sockets.stop().await;
        if let Some(scheduler) = &mut scheduler {
            scheduler.stop().await;
        }
        let mut finished = Ok(());
        for listener in serving {
            finished = finished.and(listener.await);
        }
        finished
    };
    match tokio::time::timeout(drain.max(Duration::from_millis(1)), drained).await {
        Ok(finished) => finished.map(|()| Stopped::Drained).map_err(io::Error::other),
        Err(_) => Ok(Stopped::CutOff),
    }
}

/// Makes the host and starts its scheduler, on a thread that may wait: both commit, and code may
/// have to be evaluated anew for the host's origins.
async fn begin(server: Server) -> io::Result<(Arc<Host>, Option<scheduler::Thread>)> {
    let work = move || {
        let host = Arc::new(Host::new(server));
        host.config.inner.connect(&host);
        let schedules = host.config.schedules;
        let scheduler = schedules.then(|| scheduler::Thread::start(&host)).transpose()?;
        Ok((host, scheduler))
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Begins to serve when it may, unless it is to stop before.
async fn once_open(
    mut opened: watch::Receiver<bool>,
    mut stopping: watch::Receiver<()>,
    serving: impl Future<Output = ()>,
) {
    let opens = async {
        // An error means that nobody is left to open it later than now.
        let _ = opened.wait_for(|open| *open).await;
    };
    tokio::select! {
        Err(_) = stopping.changed() => {}
        () = opens => serving.await,
    }
}

/// The two origins of a deployment.
pub struct Routes {
    /// Functions, deploys, sessions.
    pub cloud: Router,
    /// HTTP actions.
    pub site: Router,
}

impl Routes {
    /// Builds the routes, for serving or for tests that call them without a socket.
    pub fn new(server: Server) -> Self {
        Self::of(&Arc::new(Host::new(server)))
    }

    /// The routes of one host.
    pub(crate) fn of(host: &Arc<Host>) -> Self {
        let actions = Router::new()
            .route("/http", any(site::mounted))
            .route("/http/", any(site::mounted))
            .route("/http/{*path}", any(site::mounted))
            .route_layer(from_fn_with_state(host.clone(), admission::begin))
            .route_layer(from_fn_with_state(host.clone(), owed::count));
        let cloud = calls(host)
            .merge(files(host))
            .merge(deploys())
            .merge(operator())
            .merge(backups())
            .fallback(unknown)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(host.clone(), owed::count))
            .layer(from_fn(client::supported))
            .layer(cors())
            .merge(actions)
            .with_state(host.clone());
        let site = Router::new().fallback(site::request).with_state(host.clone());
        let site = site
            .layer(from_fn_with_state(host.clone(), admission::begin))
            .layer(from_fn_with_state(host.clone(), owed::count));
        Self { cloud, site }
    }
}

/// `convex-compat.md` section 4.1, and the sync protocol's place.
fn calls(host: &Arc<Host>) -> Router<Arc<Host>> {
    Router::new()
        .route("/api/query", post(api::query).get(api::query_by_url))
        .route("/api/query_ts", post(api::query_ts))
        .route("/api/query_at_ts", post(api::query_at_ts))
        .route("/api/query_batch", post(api::query_batch))
        .route("/api/mutation", post(api::mutation))
        .route("/api/action", post(api::action))
        .route("/api/function", post(api::function))
        .route("/api/run_test_function", post(inline::run))
        .route("/api/run/{*id}", post(api::run))
        .route("/api/{version}/sync", any(socket::upgrade))
        .route("/api/sync", any(socket::upgrade))
        .route_layer(from_fn_with_state(host.clone(), admission::hold))
        .route_layer(from_fn(admission::plain))
        .route_layer(from_fn_with_state(host.clone(), admission::begin))
}

/// `convex-compat.md` section 4.5.
fn files(host: &Arc<Host>) -> Router<Arc<Host>> {
    Router::new()
        .route("/api/storage/upload", post(storage::upload))
        .route("/api/storage/{uuid}", get(storage::download))
        .route_layer(from_fn_with_state(host.clone(), admission::begin))
}

/// `convex-compat.md` section 6.2.
fn deploys() -> Router<Arc<Host>> {
    Router::new()
        .route("/api/get_config_hashes", post(push::get_config_hashes))
        .route("/api/deploy2/evaluate_schema", post(push::evaluate_schema))
        .route("/api/deploy2/evaluate_push", post(push::evaluate_push))
        .route("/api/deploy2/start_push", post(push::start_push))
        .route("/api/deploy2/wait_for_schema", post(push::wait_for_schema))
        .route("/api/deploy2/finish_push", post(push::finish_push))
        .route("/api/deploy2/report_push_completed", post(push::report_push_completed))
}

/// `convex-compat.md` sections 4.4 and 6.14, and what is concave's own.
fn operator() -> Router<Arc<Host>> {
    Router::new()
        .route("/", get(admin::root))
        .route("/health", get(admin::health))
        .route("/ready", get(admin::ready))
        .route("/version", get(admin::version))
        .route("/instance_name", get(admin::instance_name))
        .route("/instance_version", get(admin::version))
        .route("/metrics", get(stats::metrics))
        .route("/api/concave/stats", get(stats::stats))
        .route("/api/concave/why", get(why::why))
        .route("/api/concave/history", get(history::history))
        .route("/api/concave/calls", get(calls::calls))
        .route("/api/concave/replay", post(replay::replay))
        .route("/api/concave/inspect", any(inspect::inspect))
        .route("/api/stream_function_logs", get(logs::stream))
        .route("/api/stream_udf_execution", get(logs::stream))
        .route("/echo", post(admin::echo))
        .route("/api/check_admin_key", get(admin::check_admin_key))
        .route("/api/v1/get_canonical_urls", get(admin::get_canonical_urls))
        .route("/api/v1/deployment_info", get(admin::deployment_info))
        .route("/api/v1/list_environment_variables", get(environment::list))
        .route("/api/list_environment_variables", get(environment::list))
        .route("/api/v1/update_environment_variables", plain(post(environment::update)))
        .route("/api/update_environment_variables", plain(post(environment::update)))
        .route("/api/delete_component", plain(post(components::delete)))
}

/// `convex-compat.md` sections 6.12 and 6.13.
fn backups() -> Router<Arc<Host>> {
    Router::new()
        .route("/api/export/request/zip", post(export::request))
        .route("/api/export/zip/{ts}", get(export::download))
        .route("/api/export/cancel/{id}", post(export::cancel))
        .route("/api/export/set_expiration/{id}", plain(post(export::set_expiration)))
        .route("/api/import", post(import::once))
        .route("/api/import/start_upload", post(import::start_upload))
        .route("/api/import/upload_part", post(import::upload_part))
        .route("/api/import/finish_upload", plain(post(import::finish_upload)))
        .route("/api/perform_import", plain(post(import::perform)))
        .route("/api/cancel_import", plain(post(import::cancel)))
        .route("/api/concave/copy", get(copy::copy))
        .route("/api/concave/fork", post(fork::fork))
}

/// For what reads JSON as it comes: encoded bodies are told so.
fn plain(route: MethodRouter<Arc<Host>>) -> MethodRouter<Arc<Host>> {
    route.layer(from_fn(admission::plain))
}

/// Browsers of any origin may call, with credentials (`convex-compat.md` section 4.3).
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .allow_credentials(true)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::OPTIONS,
            Method::PATCH,
            Method::DELETE,
            Method::PUT,
        ])
        .max_age(Duration::from_secs(86_400))
}

async fn unknown(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    if path.starts_with("/api/") {
        return Failure::unsupported(format!("The endpoint {method} {path}")).into_response();
    }
    let message = format!("There is nothing at {path}. Functions are called under /api/.");
    Failure::new(StatusCode::NOT_FOUND, "NotFound", message).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("{path} does not take {method}.");
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).into_response()
}
