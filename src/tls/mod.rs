//! TLS: certificates that can be exchanged while the server runs, the handshake of those who connect, and our own connections to others.
//!
//! TLS 1.2 and 1.3 (RFC 5246, 8446) by rustls with AWS-LC; HTTP/2 is agreed on by ALPN (RFC 7301). The provider is given explicitly
//! everywhere: with a second one in the tree, rustls' own choice would fail at run time.
//!
//! Not here: certificates of clients, several certificates by host name, ACME (certbot and others renew the files, and the server takes
//! the new ones by itself), early data (a replayed request costs nothing, but gains nothing either), OCSP.

pub mod accept;
pub mod certificate;
pub mod connect;
pub(crate) mod stream;
mod validity;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use self::accept::Acceptor;
pub use self::certificate::{Certificates, Files};
pub use self::stream::Stream;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
