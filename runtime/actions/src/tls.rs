//! TLS of outbound requests.
//!
//! In: the system's certificates. Out: one configuration for the process, made when the first run
//! needs it. Invariant: certificates and names are always checked.

use std::sync::{Arc, OnceLock};

use hyper_rustls::ConfigBuilderExt as _;
use rustls::ClientConfig;

/// Trusts what the system trusts; where that is nothing (a bare container), Mozilla's list.
///
/// # Errors
/// TLS versions that the crypto library does not have, which is a bug of the build.
pub(crate) fn configuration() -> Result<Arc<ClientConfig>, String> {
    static CONFIGURATION: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let made = CONFIGURATION.get_or_init(|| {
        let builder = || {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("TLS cannot be used: {error}."))
        };
        let config = match builder()?.with_native_roots() {
            Ok(trusting) => trusting.with_no_client_auth(),
            Err(_) => builder()?.with_webpki_roots().with_no_client_auth(),
        };
        Ok(Arc::new(config))
    });
    made.clone()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_a_configuration() {
        assert!(super::configuration().is_ok());
    }
}
