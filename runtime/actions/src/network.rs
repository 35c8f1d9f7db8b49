//! Where `fetch` may connect to.
//!
//! In: a URL. Out: a connection, or why there is none. Invariant: addresses are looked up once and
//! checked after that, and only a checked address is connected to: what a name resolves to later,
//! or where a redirect leads, makes no difference.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpStream;
use tower_service::Service;

/// What an operator lets actions reach besides public addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Private networks, this machine, and whatever else is not public.
    #[serde(default)]
    pub private: bool,
    /// This machine.
    #[serde(default)]
    pub loopback: bool,
    /// Addresses of the host itself: its own HTTP actions may always be fetched.
    #[serde(default)]
    pub own: Vec<SocketAddr>,
}

impl Network {
    fn allows(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.private
            || is_public(ip)
            || (self.loopback && ip.is_loopback())
            || self.own.contains(&SocketAddr::new(ip, address.port()))
    }
}

/// Whether an address belongs to the internet at large (IANA's special-purpose registries).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || a >= 240;
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        // Addresses of IPv4 in a coat: mapped, translated (NAT64), 6to4.
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => is_public_v4(v4(g, h)),
        (0x2002, ..) => is_public_v4(v4(b, c)),
        // Teredo, documentation, and the rest of 2001::/23.
        (0x2001, 0..0x200 | 0xdb8, ..) | (0x3fff, 0..0x1000, ..) => false,
        // All that is given out is in 2000::/3.
        _ => a & 0xe000 == 0x2000,
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    /// The name stands for nothing.
    #[error("{0} could not be found: {1}")]
    NotFound(String, io::Error),
    /// All its addresses are out of bounds.
    #[error("{}", refusal(host, address))]
    Refused {
        /// As in the URL.
        host: String,
        /// The first one.
        address: IpAddr,
    },
    /// Nobody answers.
    #[error("{0} did not answer within {1:?}")]
    TimedOut(SocketAddr, Duration),
    /// Somebody said no.
    #[error("{0}: {1}")]
    Failed(SocketAddr, io::Error),
}

/// A host with its address, unless that is all its name says.
fn refusal(host: &str, address: &IpAddr) -> String {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(_) => format!("{address} is not a public address"),
        Err(_) => format!("{host} is {address}, which is not a public address"),
    }
}

/// Opens connections to allowed addresses.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) network: Arc<Network>,
    /// How long one address may take to answer.
    pub(crate) patience: Duration,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let port =
            uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let host = uri.host().unwrap_or_default();
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let not_found = |e| ConnectError::NotFound(host.to_owned(), e);
        let found: Vec<_> =
            tokio::net::lookup_host((name, port)).await.map_err(not_found)?.collect();
        let allowed = found.iter().filter(|address| self.network.allows(**address));
        let mut failure = match found.first() {
            Some(address) => ConnectError::Refused { host: host.to_owned(), address: address.ip() },
            None => not_found(io::Error::other("it has no address")),
        };
        for address in allowed {
            match tokio::time::timeout(self.patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small writes go out at once; a socket that does not know this works too.
                    let _ = stream.set_nodelay(true);
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => failure = ConnectError::Failed(*address, error),
                Err(_) => failure = ConnectError::TimedOut(*address, self.patience),
            }
        }
        Err(failure)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let public = [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "2001:4860::8888",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ];
        let special = [
            "0.0.0.0",
            "10.1.2.3",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
        ];
        for (list, wanted) in [(&public[..], true), (&special[..], false)] {
            for text in list {
                assert_eq!(is_public(text.parse().unwrap()), wanted, "{text}");
            }
        }
    }

    #[test]
    fn an_operator_may_allow_more() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let own = Network { own: vec![at("127.0.0.1:3211")], ..Network::default() };
        assert!(own.allows(at("127.0.0.1:3211")) && own.allows(at("[::ffff:127.0.0.1]:3211")));
        assert!(!own.allows(at("127.0.0.1:3210")) && !own.allows(at("10.0.0.1:3211")));
        let local = Network { loopback: true, ..Network::default() };
        assert!(local.allows(at("[::1]:1")) && !local.allows(at("192.168.0.1:1")));
        assert!(Network { private: true, ..Network::default() }.allows(at("192.168.0.1:1")));
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused_after_it_was_looked_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = |network| {
            let patience = Duration::from_secs(5);
            let connector = Connector { network: Arc::new(network), patience };
            connector.connect(format!("http://localhost:{port}/").parse().unwrap())
        };
        let error = connect(Network::default()).await.err().unwrap();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(connect(Network { loopback: true, ..Network::default() }).await.is_ok());
    }
}
