//! A generation: an authority, and the one certificate that it has signed.
//!
//! Comes in: names, times, texts of a Secret. Goes out: [`Generation`]s and [`Bundle`]s. Always holds: the authority's key
//! is forgotten as soon as it has signed, so that nobody can sign a second certificate with it; what isn't a usable
//! generation is left out, whatever a Secret holds; at most [`MOST`] are looked at. Tested in `tests.rs`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pillion_output::tls::validity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};
use time::OffsetDateTime;

/// Generations and authorities that are looked at; a renewal needs two.
pub(crate) const MOST: usize = 8;

/// A certificate is valid from this long before it was made, in seconds: clocks differ.
const BACKDATED: i64 = 3600;

/// When a generation can have been made, seconds since 1970.
const TIMES: std::ops::Range<i64> = 0..1 << 40;

/// The ends of a generation's keys in the Secret, behind the time at which it was made.
const PARTS: [&str; 3] = [".ca.crt", ".tls.crt", ".tls.key"];

/// An authority, its certificate for the server, and that one's key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    /// When it was made, seconds since 1970 by its maker's clock: orders generations.
    pub(crate) made: i64,
    /// The authority's certificate, DER.
    pub(crate) authority: Vec<u8>,
    /// The server's certificate, PEM; others that lead to the authority may follow.
    pub(crate) chain: String,
    /// Its key, PEM.
    pub(crate) key: String,
    /// From when and until when authority and certificate are both valid, seconds since 1970.
    pub(crate) valid: (i64, i64),
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Generation({}, valid {:?})", self.made, self.valid)
    }
}

impl Generation {
    /// Makes one for a server with these names, valid for `lifetime` seconds from `now`.
    pub(crate) fn make(names: &[String], now: i64, lifetime: i64) -> Result<Generation, String> {
        let said = |e: rcgen::Error| format!("the certificate can't be made: {e}");
        let time = |t: i64| OffsetDateTime::from_unix_timestamp(t).map_err(|e| format!("the clock is wrong: {e}"));
        let params = |names: &[String], title: String| -> Result<CertificateParams, String> {
            let mut params = CertificateParams::new(names.to_vec()).map_err(said)?;
            (params.not_before, params.not_after) = (time(now - BACKDATED)?, time(now + lifetime)?);
            params.distinguished_name.push(DnType::CommonName, title);
            params.use_authority_key_identifier_extension = true;
            Ok(params)
        };
        let key = KeyPair::generate().map_err(said)?;
        let mut authority = params(&[], format!("pillion webhook authority {now}"))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let signed = authority.self_signed(&key).map_err(said)?;
        let issuer = Issuer::from_params(&authority, &key);
        let own = KeyPair::generate().map_err(said)?;
        let mut server = params(names, "pillion webhook".into())?;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = server.signed_by(&own, &issuer).map_err(said)?;
        Generation::read(now, signed.der(), &certificate.pem(), &own.serialize_pem())
            .ok_or_else(|| "the certificate that was made can't be read".into())
    }

    /// One from its parts; `None` when they can't be read.
    pub(crate) fn read(made: i64, authority: &[u8], chain: &str, key: &str) -> Option<Generation> {
        let first = CertificateDer::from_pem_slice(chain.as_bytes()).ok()?;
        let (outer, inner) = (validity(authority)?, validity(&first)?);
        Some(Generation {
            made,
            authority: authority.to_vec(),
            chain: chain.to_owned(),
            key: key.to_owned(),
            valid: (outer.0.max(inner.0), outer.1.min(inner.1)),
        })
    }

    /// Is it valid at this second?
    pub(crate) fn is_valid(&self, now: i64) -> bool {
        self.valid.0 <= now && now < self.valid.1
    }

    /// Is it time for the next one? A third of its life is left for the change.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        now >= self.valid.1 - (self.valid.1 - self.made) / 3
    }

    /// Is this the last twelfth of its life?
    pub(crate) fn ends_soon(&self, now: i64) -> bool {
        now >= self.valid.1 - (self.valid.1 - self.made) / 12
    }

    /// All that a Secret holds, oldest first.
    pub(crate) fn all_in(secret: &Value) -> Vec<Generation> {
        let text = |name: String| {
            let bytes = STANDARD.decode(secret["data"].get(name)?.as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let mut found: Vec<Generation> = Vec::new();
        let names = secret["data"].as_object().into_iter().flat_map(Map::keys);
        for made in names.filter_map(|name| name.strip_suffix(PARTS[0])) {
            let [ca, chain, key] = PARTS.map(|part| text(format!("{made}{part}")));
            let read = || {
                let authority = CertificateDer::from_pem_slice(ca?.as_bytes()).ok()?;
                let made = made.parse().ok().filter(|made| TIMES.contains(made))?;
                Generation::read(made, &authority, &chain?, &key?)
            };
            found.extend(read());
        }
        found.sort_by_key(|g| g.made);
        found.drain(..found.len().saturating_sub(MOST));
        found
    }

    /// Puts generations in the place of those that a Secret holds; other keys stay.
    pub(crate) fn write(secret: &mut Value, all: &[Generation]) {
        let mut data = secret["data"].as_object().cloned().unwrap_or_default();
        data.retain(|name, _| !PARTS.iter().any(|part| name.ends_with(part)));
        for g in all {
            for (part, text) in PARTS.into_iter().zip([pem(&g.authority), g.chain.clone(), g.key.clone()]) {
                data.insert(format!("{}{part}", g.made), STANDARD.encode(text).into());
            }
        }
        secret["data"] = data.into();
    }
}

/// The authorities that the API server trusts: a `caBundle`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bundle(Vec<Vec<u8>>);

impl Bundle {
    /// Reads one: base64 of PEM texts. What isn't a certificate is left out.
    pub(crate) fn read(text: &str) -> Bundle {
        let bytes = STANDARD.decode(text).unwrap_or_default();
        Bundle(CertificateDer::pem_slice_iter(&bytes).flatten().map(|der| der.to_vec()).collect())
    }

    /// As a `caBundle` has it.
    pub(crate) fn text(&self) -> String {
        STANDARD.encode(self.0.iter().map(|der| pem(der)).collect::<String>())
    }

    /// Is this authority in it?
    pub(crate) fn has(&self, authority: &[u8]) -> bool {
        self.0.iter().any(|der| der == authority)
    }

    /// What has to be published: what is published already and hasn't ended (at most [`MOST`]), and these. Nothing that
    /// may still be served is ever taken away, also by a replica that doesn't know of it.
    pub(crate) fn with(&self, generations: &[Generation], now: i64) -> Bundle {
        let lasts = |der: &&Vec<u8>| validity(der).is_some_and(|(_, until)| now < until);
        let ours = generations.iter().map(|g| &g.authority).collect::<Vec<_>>();
        let mut all: Vec<Vec<u8>> = self.0.iter().filter(lasts).filter(|der| !ours.contains(der)).cloned().collect();
        // Those of others give way first.
        all.drain(..all.len().saturating_sub(MOST));
        all.extend(ours.into_iter().cloned());
        Bundle(all)
    }
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
