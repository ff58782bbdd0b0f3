//! An authority for development: made when it is first needed, kept in two files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use millstream_env::Env;
use millstream_types::Timestamp;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::limit;
use crate::commands::private;

/// How long an authority lasts, in days: longer than anything that it signs.
const DAYS: u16 = 3_653;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// An authority that can sign.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The file with its certificate.
    pub(super) path: PathBuf,
    /// Whether it was made just now.
    pub(super) is_new: bool,
}

/// A certificate and its key, as PEM.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) until: Timestamp,
}

impl Authority {
    /// The authority in `dir`; a new one where there is none.
    pub(super) fn open(dir: &Path, env: &Env) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
        let (path, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        let is_new = match (path.exists(), key.exists()) {
            (true, true) => false,
            (false, false) => true,
            (true, false) => bail!("{} is not there, but its certificate is", key.display()),
            (false, true) => bail!("{} is not there, but its key is", path.display()),
        };
        if is_new {
            let (certificate, pair) = make(env)?;
            private::write(&key, &pair.serialize_pem(), false)?;
            private::write(&path, &certificate.pem(), false)?;
        }
        let pair = KeyPair::from_pem(&read(&key)?)
            .with_context(|| format!("{} is no private key in PEM", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&read(&path)?, pair)
            .with_context(|| format!("{} can't be used as an authority", path.display()))?;
        Ok(Self { issuer, path, is_new })
    }

    /// Signs a certificate with a new key.
    pub(super) fn issue(
        &self,
        mut params: CertificateParams,
        now: Timestamp,
        days: u16,
    ) -> anyhow::Result<Issued> {
        let until = limit(&mut params, now, days);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
        Ok(Issued { pem, until })
    }
}

fn make(env: &Env) -> anyhow::Result<(Certificate, KeyPair)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Each has a name of its own: of two with the same, the wrong one would be taken for a forgery.
    let mut number = [0; 4];
    env.random.fill(&mut number);
    let name = format!("Millstream development authority {:08x}", u32::from_be_bytes(number));
    params.distinguished_name.push(DnType::CommonName, name);
    // It signs no further authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit(&mut params, env.clock.wall(), DAYS);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?, key))
}

fn read(path: &Path) -> anyhow::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    let bytes = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is no PEM file", path.display()))
}
