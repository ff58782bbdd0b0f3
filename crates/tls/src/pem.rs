//! What PEM files hold: a chain of certificates with its key, or the authorities that are trusted.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::name::{Summary, summary};

/// No file with certificates is larger, in bytes: a bundle of all public authorities has a quarter of it.
pub(crate) const FILE_BYTES_MAX: usize = 1024 * 1024;

/// What a Java key store begins with.
const JKS_MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];

/// Why TLS can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is larger than any that is meant for this.
    #[error("{0} is too large to be a file of certificates")]
    TooLarge(PathBuf),
    /// A file is a Java key store.
    #[error(
        "{0} is a Java key store (JKS), which is not read: turn it into PEM with `keytool -importkeystore \
         -srckeystore STORE.jks -destkeystore STORE.p12 -deststoretype PKCS12` and `openssl pkcs12 -in \
         STORE.p12 -nodes -out STORE.pem`"
    )]
    JavaKeyStore(PathBuf),
    /// A file holds DER, as PKCS#12 stores do.
    #[error(
        "{0} is no PEM file: if it is a PKCS#12 store, turn it into PEM with `openssl pkcs12 -in STORE.p12 \
         -nodes -out STORE.pem`; a single certificate in DER, with `openssl x509 -inform DER`"
    )]
    Binary(PathBuf),
    /// A file holds no certificate.
    #[error("{0} has no certificate: it needs at least one `BEGIN CERTIFICATE`")]
    NoCertificate(PathBuf),
    /// A file holds no key.
    #[error(
        "{0} has no private key: put the key and the chain of certificates into this one file, the server's \
         own certificate first"
    )]
    NoKey(PathBuf),
    /// The key in a file is encrypted.
    #[error(
        "the key in {0} is encrypted, which is not read: decrypt it with `openssl pkey -in KEY.pem -out \
         PLAIN.pem`, and let nobody but the server read the file"
    )]
    EncryptedKey(PathBuf),
    /// Something in a file is damaged.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key, or what they are to be used for, are no good.
    #[error("{path} can't be used: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The cryptography refuses.
    #[error("TLS can't be set up: {0}")]
    Refused(#[from] rustls::Error),
}

/// What the cryptography says against the key and the chain in a file.
pub(crate) fn unusable(path: &Path, error: &rustls::Error) -> TlsError {
    let why = match error {
        rustls::Error::InconsistentKeys(_) => {
            "its key does not belong to its first certificate".to_owned()
        }
        other => other.to_string(),
    };
    TlsError::Unusable { path: path.to_owned(), why }
}

/// A chain of certificates, the server's own first, and its key.
pub(crate) struct KeyStore {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    let read = std::fs::read(path);
    let bytes = read.map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// What the certificates in a PEM file say, in their order.
///
/// # Errors
///
/// [`TlsError`], when there are none or they can't be read.
pub fn summaries(path: &Path) -> Result<Vec<Summary>, TlsError> {
    let each = certificates(path, &read(path)?)?;
    let each = each.iter().map(summary).collect::<Result<_, _>>();
    each.map_err(|why| TlsError::Damaged { path: path.to_owned(), why: why.to_string() })
}

/// The chain and the key in the file of that name, which holds `bytes`.
pub(crate) fn key_store(path: &Path, bytes: &[u8]) -> Result<KeyStore, TlsError> {
    // First: what is encrypted in the old way can't be read as PEM.
    if has(bytes, b"BEGIN ENCRYPTED PRIVATE KEY") || has(bytes, b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::EncryptedKey(path.to_owned()));
    }
    let chain = certificates(path, bytes)?;
    if !has(bytes, b"PRIVATE KEY-----") {
        return Err(TlsError::NoKey(path.to_owned()));
    }
    // What the reader says might quote the key.
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| TlsError::Damaged {
        path: path.to_owned(),
        why: "its private key can't be read".to_owned(),
    })?;
    Ok(KeyStore { chain, key })
}

/// The authorities in the file of that name, which holds `bytes`.
pub(crate) fn trust_store(path: &Path, bytes: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| TlsError::Damaged {
            path: path.to_owned(),
            why: format!("a certificate can't be trusted: {error}"),
        })?;
    }
    Ok(roots)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if bytes.starts_with(&JKS_MAGIC) {
        return Err(TlsError::JavaKeyStore(path.to_owned()));
    }
    // A sequence with a length of two bytes: any PKCS#12 store, any certificate.
    if bytes.starts_with(&[0x30, 0x82]) {
        return Err(TlsError::Binary(path.to_owned()));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|_| TlsError::Damaged {
        path: path.to_owned(),
        why: "it can't be read as PEM".to_owned(),
    })?;
    if found.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(found) }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn key_and_chain_may_stand_in_any_order_with_words_between() {
        let ((first, key), (second, _)) = (made(), made());
        let path = Path::new("x.pem");
        for text in [
            format!("{first}{second}{key}"),
            format!("{key}{first}{second}"),
            format!("Bag Attributes\n  friendlyName: x\n{first}\nsubject=CN = x\n{key}\n{second}"),
            format!("{first}{second}{key}").replace('\n', "\r\n"),
        ] {
            let store = key_store(path, text.as_bytes()).unwrap();
            assert_eq!(store.chain.len(), 2, "{text}");
        }
        assert_eq!(trust_store(path, format!("{first}{second}").as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn what_can_not_be_used_is_explained() {
        let (certificate, key) = made();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAA==\n\
                   -----END RSA PRIVATE KEY-----\n";
        let broken = key.replacen("M", "*", 1);
        let torn = certificate.replace("-----END", "");
        let cases: &[(&[u8], &str)] = &[
            (&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2], "is a Java key store (JKS)"),
            (&[0x30, 0x82, 1, 2, 3], "openssl pkcs12"),
            (b"", "has no certificate"),
            (b"hello", "has no certificate"),
            (key.as_bytes(), "has no certificate"),
            (certificate.as_bytes(), "has no private key"),
            (&[certificate.as_bytes(), encrypted.as_bytes()].concat(), "is encrypted"),
            (&[certificate.as_bytes(), old.as_bytes()].concat(), "is encrypted"),
            (&[certificate.as_bytes(), broken.as_bytes()].concat(), "is damaged"),
            (&[torn.as_bytes(), key.as_bytes()].concat(), "x.pem"),
        ];
        for (bytes, expected) in cases {
            let refused = key_store(Path::new("x.pem"), bytes).err().expect(expected).to_string();
            assert!(refused.contains(expected), "{refused}");
            assert!(!refused.contains(&key[30..60]), "the key is told: {refused}");
        }
    }

    /// Fuzz target: `cargo test` runs it briefly, `cargo xtask test --long` for minutes.
    #[test]
    fn fuzz_pem() {
        let (certificate, key) = made();
        let whole = [certificate.as_bytes(), key.as_bytes()].concat();
        type Input = (Vec<u8>, Vec<(u16, u8)>, bool);
        bolero::check!().with_type::<Input>().with_iterations(300).for_each(
            |(raw, changes, alone)| {
                let mut bytes = if *alone { raw.clone() } else { [whole.as_slice(), raw].concat() };
                for (at, byte) in changes {
                    let at = usize::from(*at) % bytes.len().max(1);
                    if let Some(changed) = bytes.get_mut(at) {
                        *changed = *byte;
                    }
                }
                let path = Path::new("x.pem");
                // Neither panics, whatever stands there.
                let _ = (key_store(path, &bytes).is_ok(), trust_store(path, &bytes).is_ok());
            },
        );
    }
}
