//! The server's certificate and key: read from PEM files, checked, and exchanged for new ones without touching a connection.
//!
//! New handshakes get the new certificate; connections that are open go on with what they have agreed on. What is wrong is never taken:
//! the old certificate stays until the files are in order.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{error, info, warn};

use super::provider;
use super::validity::Validity;
use crate::hls::playlist::iso8601;
use crate::metrics::Metrics;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// PEM: the server's certificate first, then those that lead to the root.
    pub certificate: PathBuf,
    /// PEM: the certificate's private key, PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {} ({what}): {source}{}", .file.display(), hint(.source))]
    Read {
        /// Which file.
        file: PathBuf,
        /// The option that names it.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// No certificate in it.
    #[error("{} ({what}) {why}; it must hold certificates in PEM form, the server's own first, as certbot's fullchain.pem does", .file.display())]
    NoCertificate {
        /// Which file.
        file: PathBuf,
        /// The option that names it.
        what: &'static str,
        /// What was found instead.
        why: String,
    },
    /// No key in it.
    #[error("{} (--tls-key) {why}; it must hold the certificate's private key in PEM form, as certbot's privkey.pem does", .file.display())]
    NoKey {
        /// Which file.
        file: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// The two do not belong together.
    #[error("{} (--tls-key) is not the key of the first certificate in {} (--tls-cert)", .key.display(), .certificate.display())]
    Mismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// Another certificate is needed.
    #[error("the certificate in {} has expired on {on}; renew it", .file.display())]
    Expired {
        /// Which file.
        file: PathBuf,
        /// When.
        on: String,
    },
}

/// The certificate that new handshakes get.
#[derive(Debug)]
pub struct Certificates {
    files: Files,
    current: RwLock<Arc<CertifiedKey>>,
    /// What the files looked like when they were last read.
    seen: Mutex<[Option<Stamp>; 2]>,
}

/// How a file is seen to be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Certificates {
    /// Reads the files. A certificate that has expired is taken at the start, with an error in the log: the server has other things to do
    /// than TLS, and no client takes harm from a certificate that it refuses.
    ///
    /// # Errors
    /// When one of them cannot be read or used, or they do not belong together.
    pub fn load(files: Files) -> Result<Self, Error> {
        let seen = stamps(&files);
        let key = read(&files)?;
        match Validity::of(&key.cert[0]) {
            None => {}
            Some(validity) if validity.until <= SystemTime::now() => {
                error!("{}", expired(&files, validity));
            }
            Some(validity) => describe(&files, validity),
        }
        Ok(Self {
            files,
            current: RwLock::new(Arc::new(key)),
            seen: Mutex::new(seen),
        })
    }

    /// Takes what the files hold now for all handshakes to come. True if it is another certificate than before.
    ///
    /// # Errors
    /// As [`Self::load`], and when the new certificate has expired. What was in use stays in use.
    pub fn reload(&self) -> Result<bool, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.files);
        let key = read(&self.files)?;
        if self.current().cert == key.cert {
            return Ok(false);
        }
        if let Some(validity) = Validity::of(&key.cert[0]) {
            if validity.until <= SystemTime::now() {
                return Err(expired(&self.files, validity));
            }
            describe(&self.files, validity);
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(key);
        Ok(true)
    }

    /// [`Self::reload`], with the outcome in the log.
    pub fn reload_and_log(&self) {
        match self.reload() {
            Ok(true) => info!("new TLS connections get the new certificate"),
            Ok(false) => info!("the TLS certificate is the same as before"),
            Err(error) => error!("{error}; the old certificate stays in use"),
        }
    }

    /// Looks at the files now and then, and takes them when they have changed. Never ends.
    pub async fn watch(&self, metrics: &Metrics) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reminded = None;
        loop {
            ticks.tick().await;
            let now = stamps(&self.files);
            let changed = now != *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that is gone is about to be replaced.
            if changed && now.iter().all(Option::is_some) {
                self.reload_and_log();
            }
            let until = self.valid_until().unwrap_or(SystemTime::UNIX_EPOCH);
            let since = until.duration_since(SystemTime::UNIX_EPOCH);
            let seconds = since.unwrap_or_default().as_secs();
            metrics.tls_certificate_expiry.set(seconds as i64);
            self.remind(&mut reminded);
        }
    }

    /// When the certificate in use expires.
    pub fn valid_until(&self) -> Option<SystemTime> {
        Validity::of(self.current().cert.first()?).map(|validity| validity.until)
    }

    /// Says once a day that the certificate is about to expire, since whatever should have renewed it has not.
    fn remind(&self, reminded: &mut Option<SystemTime>) {
        let now = SystemTime::now();
        let recently = reminded.is_some_and(|last| {
            now.duration_since(last)
                .is_ok_and(|elapsed| elapsed < REMIND_EVERY)
        });
        let Some(until) = self.valid_until().filter(|_| !recently) else {
            return;
        };
        if until < now + REMIND_AHEAD {
            *reminded = Some(now);
            let file = self.files.certificate.display();
            if until <= now {
                error!(
                    "the certificate in {file} has expired on {}; renew it",
                    iso8601(until)
                );
            } else {
                warn!(
                    "the certificate in {file} expires on {}; renew it",
                    iso8601(until)
                );
            }
        }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// Reads certificates in PEM form; at least one.
pub(super) fn read_certificates(
    file: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read_file(file, what)?;
    let no_certificate = |why| Error::NoCertificate {
        file: file.to_owned(),
        what,
        why,
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| no_certificate(format!("is damaged: {error}")))?;
    if certificates.is_empty() {
        let why = match PrivateKeyDer::from_pem_slice(&text) {
            Ok(_) => "holds a key but no certificate",
            Err(_) => "holds no certificate",
        };
        return Err(no_certificate(why.to_owned()));
    }
    Ok(certificates)
}

fn read(files: &Files) -> Result<CertifiedKey, Error> {
    let certificates = read_certificates(&files.certificate, "--tls-cert")?;
    let text = read_file(&files.key, "--tls-key")?;
    let no_key = |why| Error::NoKey {
        file: files.key.clone(),
        why,
    };
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") => {
                "holds a key that is encrypted with a password".to_owned()
            }
            pem::Error::NoItemsFound if contains(&text, b"BEGIN CERTIFICATE") => {
                "holds a certificate but no key".to_owned()
            }
            pem::Error::NoItemsFound => "holds no private key".to_owned(),
            error => format!("is damaged: {error}"),
        };
        no_key(why)
    })?;
    let provider = provider();
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| no_key(format!("holds a key that cannot be used ({error})")))?;
    let key = CertifiedKey::new(certificates, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(key),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Error::Mismatch {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        }),
        Err(error) => Err(Error::NoCertificate {
            file: files.certificate.clone(),
            what: "--tls-cert",
            why: format!("holds a certificate that cannot be used ({error})"),
        }),
    }
}

fn read_file(file: &Path, what: &'static str) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|source| Error::Read {
        file: file.to_owned(),
        what,
        source,
    })
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; give the user that the server runs as the right to read it"
        }
        _ => "",
    }
}

fn expired(files: &Files, validity: Validity) -> Error {
    Error::Expired {
        file: files.certificate.clone(),
        on: iso8601(validity.until),
    }
}

fn describe(files: &Files, validity: Validity) {
    let file = files.certificate.display();
    if validity.from > SystemTime::now() {
        let from = iso8601(validity.from);
        warn!(
            "the certificate in {file} is not valid before {from}; is this machine's clock right?"
        );
    }
    info!(
        "the certificate in {file} is valid until {}",
        iso8601(validity.until)
    );
}

fn stamps(files: &Files) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Stamp {
            modified: metadata.modified().ok()?,
            length: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&metadata),
        })
    })
}

/// How often the files are looked at: two calls of the system.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// certbot renews thirty days ahead; if it has not by then, somebody must look.
const REMIND_AHEAD: Duration = Duration::from_secs(14 * 86_400);
const REMIND_EVERY: Duration = Duration::from_secs(86_400);
