//! A client's frame → what it says (`convex-compat.md` section 5.2).
//!
//! In: text. Out: [`Said`], or a sentence for the FatalError.
//! Invariant: a frame is parsed once. A path or an argument that is wrong is the failure of that
//! one call; everything else that is wrong is the client's end.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::limits;
use database::record::{Arguments, FunctionPath, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::request::Text;
use crate::session::{Asked, Change, Kind, QueryId, Said, Target, Token};

/// Every field of every message; which of them must be there depends on the type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    session_id: Option<Text<'a>>,
    #[serde(borrow)]
    max_observed_timestamp: Option<Text<'a>>,
    client_ts: Option<f64>,
    base_version: Option<u32>,
    new_version: Option<u32>,
    #[serde(borrow)]
    modifications: Option<Vec<Modification<'a>>>,
    request_id: Option<u32>,
    #[serde(borrow)]
    udf_path: Option<Text<'a>>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    component_path: Option<Text<'a>>,
    #[serde(borrow)]
    token_type: Option<Text<'a>>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
    #[serde(borrow, alias = "acting_as", alias = "actingAs")]
    impersonating: Option<&'a RawValue>,
}

/// One change of the query set.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Modification<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    query_id: QueryId,
    #[serde(borrow)]
    udf_path: Option<Text<'a>>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    component_path: Option<Text<'a>>,
    #[serde(borrow)]
    journal: Option<Text<'a>>,
}

/// Reads a frame.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn read(frame: &str) -> Result<Said, String> {
    let message: Message<'_> = serde_json::from_str(frame)
        .map_err(|error| format!("The message cannot be read: {error}."))?;
    let kind = message.kind.0.clone();
    let lacks = |name: &str| format!("The message {kind:?} lacks {name:?}.");
    match &*kind {
        "Connect" => {
            let session = message.session_id.ok_or_else(|| lacks("sessionId"))?;
            let session = uuid(&session.0).ok_or("The sessionId is not a UUID.")?;
            let observed = message.max_observed_timestamp.map(|ts| timestamp(&ts.0)).transpose()?;
            Ok(Said::Connect { session, observed, clock_ms: message.client_ts })
        }
        "Authenticate" => {
            let base = message.base_version.ok_or_else(|| lacks("baseVersion"))?;
            let token_type = message.token_type.ok_or_else(|| lacks("tokenType"))?;
            let value = || message.value.map(|text| text.0.into()).ok_or_else(|| lacks("value"));
            let token = match &*token_type.0 {
                "User" => Token::User(value()?),
                "Admin" => Token::Admin(value()?, message.impersonating.map(ToOwned::to_owned)),
                "None" => Token::Nobody,
                other => return Err(format!("The tokenType {other:?} is not known.")),
            };
            Ok(Said::Authenticate { base, token })
        }
        "ModifyQuerySet" => {
            let base = message.base_version.ok_or_else(|| lacks("baseVersion"))?;
            let new = message.new_version.ok_or_else(|| lacks("newVersion"))?;
            let changes = message.modifications.ok_or_else(|| lacks("modifications"))?;
            let changes = changes.into_iter().map(change).collect::<Result<_, _>>()?;
            Ok(Said::Change { base, new, changes })
        }
        "Mutation" | "Action" => {
            let path = message.udf_path.ok_or_else(|| lacks("udfPath"))?;
            let request = message.request_id.ok_or_else(|| lacks("requestId"))?;
            let asked = asked(&path, message.args, message.component_path.as_ref());
            let kind = if kind == "Mutation" { Kind::Mutation } else { Kind::Action };
            Ok(Said::Run(kind, request, asked))
        }
        "Event" => Ok(Said::Event),
        _ => Err(format!("The message type {kind:?} is not known.")),
    }
}

fn change(modification: Modification<'_>) -> Result<Change, String> {
    let Modification { kind, query_id, udf_path, args, component_path, journal } = modification;
    match &*kind.0 {
        "Add" => {
            let path = udf_path.ok_or(r#"The modification "Add" lacks "udfPath"."#)?;
            let journal = journal.map(|journal| journal.0.into());
            Ok(Change::Add(query_id, asked(&path, args, component_path.as_ref()), journal))
        }
        "Remove" => Ok(Change::Remove(query_id)),
        other => Err(format!("The modification {other:?} is not known.")),
    }
}

fn asked(path: &Text<'_>, args: Option<&RawValue>, component: Option<&Text<'_>>) -> Asked {
    let component: Arc<str> = component.map_or("", |component| &*component.0).into();
    let path = FunctionPath::parse(&path.0)?.within(&component);
    let text = args.map_or("{}", RawValue::get);
    let args = Arguments::parse(&path, text)?;
    if text.len() as u64 > limits::ARGUMENT_BYTES {
        // They would only wait for the same answer, and take memory.
        args.value.check_argument_size(&path)?;
    }
    Ok(Arc::new(Target { path, args }))
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    let bytes: Option<[u8; 8]> = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or("The maxObservedTimestamp is not base64 of 8 bytes.")?;
    Ok(Timestamp(u64::from_le_bytes(bytes)))
}

/// 16 bytes from `8-4-4-4-12` hex digits.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let lengths = text.split('-').map(str::len);
    if !lengths.eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>()?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] * 16 + pair[1]).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_npm_client_sends_is_read() {
        let connect = r#"{"type":"Connect","sessionId":"00010203-0405-4607-8809-0a0b0c0d0eff",
            "connectionCount":0,"lastCloseReason":"InitialConnect","clientTs":17.5,
            "maxObservedTimestamp":"AAAqNv6clxc="}"#;
        let Ok(Said::Connect { session, observed, clock_ms }) = read(connect) else { panic!() };
        assert_eq!((session[1], session[15], clock_ms), (1, 255, Some(17.5)));
        assert_eq!(observed, Some(Timestamp(1_700_000_000_000_000_000)));
        let change = r#"{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[
            {"type":"Add","queryId":3,"udfPath":"a:b","args":[{"x":"\u00fc"}],"journal":null},
            {"type":"Add","queryId":4,"udfPath":"a b","args":[{}],"journal":"\"j\""},
            {"type":"Remove","queryId":1}]}"#;
        let Ok(Said::Change { base: 0, new: 1, changes }) = read(change) else { panic!() };
        let [Change::Add(3, Ok(one), None), Change::Add(4, Err(bad), Some(j)), Change::Remove(1)] =
            &changes[..]
        else {
            panic!("{changes:?}")
        };
        assert_eq!(&*one.args.json, r#"[{"x":"ü"}]"#);
        assert_eq!((bad.code, &**j), ("InvalidFunctionPath", r#""j""#));
        let token = r#"{"type":"Authenticate","baseVersion":2,"tokenType":"Admin","value":"k",
            "impersonating":{"subject":"s"}}"#;
        let Ok(Said::Authenticate { base: 2, token: Token::Admin(key, Some(user)) }) = read(token)
        else {
            panic!()
        };
        assert_eq!((&*key, user.get()), ("k", r#"{"subject":"s"}"#));
        assert!(matches!(read(r#"{"type":"Event","eventType":"x","event":[]}"#), Ok(Said::Event)));
    }

    #[test]
    fn garbage_is_named() {
        for (frame, named) in [
            ("", "cannot be read"),
            ("[]", "cannot be read"),
            (r#"{"type":"Hello"}"#, "\"Hello\""),
            (r#"{"type":"Connect"}"#, "sessionId"),
            (r#"{"type":"Connect","sessionId":"x-y"}"#, "UUID"),
            (r#"{"type":"Connect","sessionId":"0001020304-05-4607-8809-0a0b0c0d0eff"}"#, "UUID"),
            (r#"{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1}"#, "modifications"),
            (r#"{"type":"ModifyQuerySet","baseVersion":-1}"#, "cannot be read"),
            (r#"{"type":"Mutation","udfPath":"a:b"}"#, "requestId"),
            (r#"{"type":"Authenticate","baseVersion":0,"tokenType":"Cat"}"#, "\"Cat\""),
            (r#"{"type":"Authenticate","baseVersion":0,"tokenType":"User"}"#, "value"),
        ] {
            let said = read(frame).unwrap_err();
            assert!(said.contains(named), "{frame}: {said}");
        }
    }
}
