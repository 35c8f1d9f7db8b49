//! What went wrong with an exchange, and what to do about it.
//!
//! In: hyper's errors, with all that caused them. Out: one or two sentences. Invariant: a URL in a
//! message is without what may be secret: its query.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::network::ConnectError;

/// A URL as messages name it.
pub(crate) fn named(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?..."),
        None => url.to_owned(),
    }
}

/// Cause and cure.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let deepest = || format!("{}.", causes(error).last().unwrap_or(error));
    causes(error).find_map(explain_one).unwrap_or_else(deepest)
}

/// Whether the operator does not allow the exchange: trying again is in vain.
pub(crate) fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let refused = |error: &ConnectError| matches!(error, ConnectError::Refused { .. });
    causes(error).any(|error| error.downcast_ref().is_some_and(refused))
}

/// What Node calls it, where that is known.
pub(crate) fn code(error: &(dyn Error + 'static)) -> Option<&'static str> {
    causes(error).find_map(|error| {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return match error {
                ConnectError::NotFound(..) => Some("ENOTFOUND"),
                ConnectError::Refused { .. } => Some("EACCES"),
                ConnectError::TimedOut(..) => Some("ETIMEDOUT"),
                ConnectError::Failed(_, error) => code_of_system(error),
            };
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message().then_some("ECONNRESET");
        }
        error.downcast_ref().and_then(code_of_system)
    })
}

fn code_of_system(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => "ECONNREFUSED",
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => "ECONNRESET",
        ErrorKind::ConnectionAborted => "ECONNABORTED",
        ErrorKind::BrokenPipe => "EPIPE",
        ErrorKind::TimedOut => "ETIMEDOUT",
        ErrorKind::HostUnreachable => "EHOSTUNREACH",
        ErrorKind::NetworkUnreachable => "ENETUNREACH",
        _ => return None,
    })
}

/// An error and all that caused it; one that was put into an I/O error is not among its sources.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error = *error;
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as _).or_else(|| error.source())
    })
}

fn explain_one(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return Some(explain_connect(error));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(explain_tls(error));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return explain_http(error);
    }
    let error = error.downcast_ref::<io::Error>()?;
    if error.get_ref().is_some() {
        return None;
    }
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            Some(format!("the server closed the connection ({error}). Try again later."))
        }
        _ => None,
    }
}

fn explain_http(error: &hyper::Error) -> Option<String> {
    if error.is_incomplete_message() {
        return Some(
            "the server closed the connection before its answer was whole. Try again \
            later."
                .to_owned(),
        );
    }
    error.is_parse().then(|| {
        format!("what came back is no HTTP ({error}). Check that a web server listens there.")
    })
}

fn explain_connect(error: &ConnectError) -> String {
    let cure = match error {
        ConnectError::NotFound(..) => "Check the name, and that this machine has a network.",
        ConnectError::Refused { .. } => {
            "Actions reach public addresses only, so that nobody can use them to look into a \
             private network. Where that is what you want, start the host with \
             --allow-private-network."
        }
        ConnectError::TimedOut(..) => "Check the address, and that no firewall is in between.",
        ConnectError::Failed(_, error) if error.kind() == ErrorKind::ConnectionRefused => {
            "Nothing listens there: check the port, or start the server."
        }
        ConnectError::Failed(..) => "Check the address, and that this machine has a network.",
    };
    format!("{error}. {cure}")
}

fn explain_tls(error: &rustls::Error) -> String {
    let cure = match error {
        rustls::Error::InvalidCertificate(_) => {
            "Its certificate is not one that this machine trusts: renew it, or add its authority \
             to the certificates of the system (or SSL_CERT_FILE)."
        }
        _ => "Check that the server speaks HTTPS on this port.",
    };
    format!("TLS failed: {error}. {cure}")
}
