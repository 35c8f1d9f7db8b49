//! What actions ask the host while they run (`convex-compat.md` section 1.8).
//!
//! In: an operation and its arguments. Out: JSON text, or the error that the action sees.
//! Invariant: a function that an action calls runs as its caller, in a transaction of its own.

use std::sync::Arc;

use ::actions::pool::{Callbacks, Line, Reply, Replying, Syscall};
use ::actions::protocol::Thrown;
use database::error::UserError;
use database::limits;
use database::record::{
    Action, Arguments, Call, Caller, Expect, FunctionKind, FunctionPath, Functions, Identity, Job,
};
use functions::address::Address;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use server::{InnerCalls, ProgressEvent};
use tokio::sync::oneshot;

use super::services::{Asking, Services};
use super::{Outside, Version, line};

/// The callbacks of one run.
pub struct Calls {
    /// What it may ask for; `None` while the host shuts down.
    services: Option<Arc<Services>>,
    path: FunctionPath,
    identity: Result<Identity, UserError>,
    request_id: Arc<str>,
    job: Option<Job>,
    /// Actions above the run.
    depth: u8,
    version: Option<Arc<Version>>,
    is_http: bool,
}

#[derive(Deserialize)]
struct RunFunction<'a> {
    #[serde(borrow)]
    args: &'a RawValue,
}

impl Calls {
    /// Those of an action.
    pub(super) fn of_action(
        outside: &Arc<Outside>,
        action: &Action,
        version: &Arc<Version>,
    ) -> Self {
        let version = Some(Arc::clone(version));
        Self { version, ..Self::of_call(outside.services(), &action.call) }
    }

    /// Those of a call of an action, whoever runs it.
    pub fn of_call(services: Option<Arc<Services>>, call: &Call) -> Self {
        Self {
            services,
            path: call.path.clone(),
            identity: Ok(call.identity.clone()),
            request_id: Arc::clone(&call.request_id),
            job: call.job,
            depth: match call.caller {
                Caller::Function { depth } => depth,
                _ => 0,
            },
            version: None,
            is_http: false,
        }
    }

    /// Those of an HTTP action.
    pub(super) fn of_request(
        outside: &Arc<Outside>,
        request: &server::HttpRequest,
        path: FunctionPath,
        version: &Arc<Version>,
    ) -> Self {
        Self {
            services: outside.services(),
            path,
            identity: request.identity.clone(),
            request_id: Arc::clone(&request.request_id),
            job: None,
            depth: 0,
            version: Some(Arc::clone(version)),
            is_http: true,
        }
    }

    fn services(&self) -> Option<Arc<Services>> {
        self.services.clone()
    }

    /// Runs a function for the action.
    fn call(&self, kind: FunctionKind, json: &str) -> Replying {
        let services = self.services();
        let functions = services.as_ref().and_then(|services| services.functions.upgrade());
        let prepared = self.prepare(kind, json);
        Box::pin(async move {
            let (Some(services), Some(functions)) = (services, functions) else {
                return Reply::error("The host is shutting down.");
            };
            match prepared {
                Ok(call) => called(&*functions, call, &services.inner).await,
                Err(error) => thrown(error),
            }
        })
    }

    fn prepare(&self, kind: FunctionKind, json: &str) -> Result<Call, UserError> {
        let services = self.services().ok_or_else(shutting_down)?;
        let snapshot = services.database.snapshot();
        let path = parse::<Address<'_>>(json)?.path(&snapshot, &self.path.component)?;
        let RunFunction { args } = parse(json)?;
        let depth = self.depth.saturating_add(1);
        if kind == FunctionKind::Action && u64::from(depth) >= limits::ACTION_DEPTH {
            return Err(too_deep(&path));
        }
        let args = Arguments::parse(&path, args.get())?;
        Ok(Call {
            path,
            args,
            expect: Expect::Kind(kind),
            // A token that could not be verified makes nobody of its bearer.
            identity: self.identity.clone().unwrap_or(Identity::Anonymous),
            caller: Caller::Function { depth },
            request_id: Arc::clone(&self.request_id),
            at: None,
            journal: None,
            once: None,
            job: self.job,
        })
    }

    /// `ctx.scheduler`: committed when it is answered.
    fn schedule(&self, syscall: Syscall) -> Replying {
        let (services, job) = (self.services(), self.job);
        let (path, request_id) = (self.path.clone(), Arc::clone(&self.request_id));
        let refused = self.refused(&syscall.op);
        Box::pin(async move {
            if let Some(refused) = refused {
                return refused;
            }
            // A commit may have to wait for its turn.
            let work = move || {
                let services = services.ok_or_else(shutting_down)?;
                let asking = Asking { path: &path, request_id: &request_id, job };
                services.scheduler(&asking, &syscall.op, &syscall.json)
            };
            let answer = tokio::task::spawn_blocking(work).await;
            answer.unwrap_or_else(|_| Err(shutting_down())).map_or_else(thrown, Reply::json)
        })
    }

    /// `ctx.storage`.
    fn file(&self, syscall: Syscall) -> Replying {
        let (services, component) = (self.services(), Arc::clone(&self.path.component));
        let refused = self.refused(&syscall.op);
        Box::pin(async move {
            let Some(services) = services else { return thrown(shutting_down()) };
            if let Some(refused) = refused {
                return refused;
            }
            if syscall.op.starts_with("storage/") {
                return services.file(&component, syscall).await;
            }
            let work = move || services.storage(&component, &syscall.op, &syscall.json);
            let answer = tokio::task::spawn_blocking(work).await;
            answer.unwrap_or_else(|_| Err(shutting_down())).map_or_else(thrown, Reply::json)
        })
    }

    /// The refusal of what adds jobs or files while memory is short, as of a call that does.
    fn refused(&self, op: &str) -> Option<Reply> {
        let makes_room = self.identity.as_ref().is_ok_and(Identity::makes_room);
        if makes_room || !matches!(op, "1.0/actions/schedule" | "storage/storeBlob") {
            return None;
        }
        let refusal = self.services()?.database.out_of_memory()?;
        Some(Reply::error(refusal.to_string()))
    }

    /// The id of the scheduled function that it is.
    fn scheduled(&self) -> Option<String> {
        match self.job? {
            Job::Scheduled(id) => Some(id.encode()),
            Job::Cron(_) => None,
        }
    }

    /// Answers what needs no waiting.
    fn answer(&self, op: &str, json: &str) -> Result<String, UserError> {
        match op {
            // Components do not see who calls: the app passes them what they may know.
            "1.0/getUserIdentity" if !self.path.component.is_empty() => Ok("null".to_owned()),
            "1.0/getUserIdentity" => {
                let identity = self.identity.as_ref().map_err(Clone::clone)?;
                let attributes = identity.attributes();
                Ok(attributes.map_or_else(|| "null".to_owned(), |text| text.to_string()))
            }
            "1.0/createFunctionHandle" => {
                let services = self.services().ok_or_else(shutting_down)?;
                let snapshot = services.database.snapshot();
                parse::<Address<'_>>(json)?.handle(&snapshot, &self.path.component)
            }
            "1.0/getFunctionMetadata" => Ok(json!({
                "name": self.path.identifier(),
                "componentPath": &*self.path.component,
            })
            .to_string()),
            "1.0/getDeploymentMetadata" => {
                Ok(json!({ "name": "concave", "region": null, "class": "selfHosted" }).to_string())
            }
            "1.0/getRequestMetadata" => Ok(json!({
                "ip": null,
                "userAgent": null,
                "requestId": &*self.request_id,
                "scheduledFunctionId": self.scheduled(),
                "authToken": null,
            })
            .to_string()),
            _ => Err(unknown(op)),
        }
    }
}

impl Callbacks for Calls {
    fn syscall(&self, syscall: Syscall) -> Replying {
        match syscall.op.as_str() {
            "1.0/actions/query" => self.call(FunctionKind::Query, &syscall.json),
            "1.0/actions/mutation" => self.call(FunctionKind::Mutation, &syscall.json),
            "1.0/actions/action" => self.call(FunctionKind::Action, &syscall.json),
            "1.0/actions/schedule" | "1.0/actions/cancel_job" => self.schedule(syscall),
            op if op.starts_with("storage/") || op.starts_with("1.0/storage") => self.file(syscall),
            op => {
                let reply = self.answer(op, &syscall.json).map_or_else(thrown, Reply::json);
                Box::pin(std::future::ready(reply))
            }
        }
    }

    fn logged(&self, line: &Line) {
        let (Some(services), Some(version)) = (self.services(), &self.version) else { return };
        let name = if self.is_http { self.path.export.to_string() } else { self.path.identifier() };
        services.inner.progress(ProgressEvent {
            request_id: Arc::clone(&self.request_id),
            path: name,
            component: Arc::clone(&self.path.component),
            is_http: self.is_http,
            line: version.log_line(line.clone()),
        });
    }
}

async fn called(functions: &dyn Functions, call: Call, inner: &InnerCalls) -> Reply {
    let (done, outcome) = oneshot::channel();
    let told = inner.begin(&call);
    functions.call(
        call,
        Box::new(move |answer| {
            told.end(&answer);
            // An action that has ended hears nothing.
            let _ = done.send(answer);
        }),
    );
    let outcome = match outcome.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(refusal)) => return Reply::error(refusal.to_string()),
        Err(_) => return Reply::error("The host is shutting down."),
    };
    let lines = outcome.log_lines.iter().map(line).collect();
    let result = match outcome.result {
        Ok(text) => Ok(text.to_string()),
        Err(error) => Err(Thrown { message: error.message, stack: None, data: error.data }),
    };
    Reply { result, body: None, lines }
}

pub(crate) fn thrown(error: UserError) -> Reply {
    let thrown = Thrown { message: error.message, stack: None, data: error.data };
    Reply { result: Err(thrown), body: None, lines: Vec::new() }
}

fn too_deep(path: &FunctionPath) -> UserError {
    let limit = limits::ACTION_DEPTH;
    let text = format!(
        "{path} was called by an action that was called by an action, and so on: {limit} deep, and \
         each of them waits. Do you have an infinite loop in your app? Call a plain TypeScript \
         function instead, or schedule the next step with ctx.scheduler.runAfter."
    );
    UserError::new("ActionDepth", text)
}

fn shutting_down() -> UserError {
    UserError::new("ShuttingDown", "The host is shutting down.")
}

/// What is not done says so, with the name its user knows.
fn unknown(op: &str) -> UserError {
    let name = match op {
        "1.0/actions/vectorSearch" => "ctx.vectorSearch",
        "1.0/createServiceToken" | "1.0/getServiceUrl" => "the AI gateway",
        "1.0/auditLog" => {
            let message = "Audit logging is not yet supported in actions";
            return UserError::new("NotSupportedYet", message);
        }
        _ => {
            let message = format!("Unknown async operation {op}");
            return UserError::new("UnknownAsyncOperation", message);
        }
    };
    UserError::new(
        "NotSupportedYet",
        format!("{name} is not supported by this version of concave yet."),
    )
}

pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, UserError> {
    serde_json::from_str(json).map_err(|e| {
        UserError::new(
            "SyscallArgsInvalidJson",
            format!("Invalid arguments of an action's call: {e}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_calls_itself_is_told_what_to_do_instead() {
        let path = FunctionPath::parse("acts:again").unwrap();
        let told = too_deep(&path).message;
        let wanted = format!("on: {} deep, and each of them waits.", limits::ACTION_DEPTH);
        assert!(told.starts_with("acts:again was called") && told.contains(&wanted), "{told}");
    }
}
