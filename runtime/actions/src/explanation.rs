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
    let mut deepest = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(text) = explain_one(error) {
            return text;
        }
        deepest = error.to_string();
        cause = error.source();
    }
    format!("{deepest}.")
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
    // An error that was put into an I/O error is not among its sources.
    let inner: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    if let Some(inner) = inner {
        return explain_one(inner).or_else(|| inner.source().and_then(explain_one));
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
