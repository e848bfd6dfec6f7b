//! Private keys from PEM: PKCS#8, PKCS#1, SEC1, and encrypted PKCS#8 (PBES2: PBKDF2 and AES in CBC mode).
//!
//! Always holds: what isn't read is refused with the command that makes it readable; errors hold neither key nor
//! passphrase. Tested below with keys that OpenSSL wrote.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use base64::Engine;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::der::{Der, OCTETS, OID, SEQUENCE};
use crate::problem::Problem;

const CONVERT: &str = "Convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.key -out NEW.key";
const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// More rounds than this would hang the start.
const MOST_ROUNDS: u32 = 10_000_000;

/// Reads the first private key of a PEM text.
pub(super) fn read(pem: &[u8], passphrase: Option<&str>) -> Result<PrivateKeyDer<'static>, Problem> {
    let text = String::from_utf8_lossy(pem);
    if let Some((_, rest)) = text.split_once(BEGIN) {
        let body = rest.split_once(END).map(|(body, _)| body).ok_or_else(|| unreadable("its end is missing"))?;
        let Some(passphrase) = passphrase.filter(|p| !p.is_empty()) else {
            return Err(Problem::new("the key is encrypted and there is no passphrase", "Set ssl.key_passphrase."));
        };
        let body: String = body.split_whitespace().collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| unreadable("it isn't base64"))?;
        return decrypt(&der, passphrase);
    }
    if text.contains("DEK-Info:") || text.contains("Proc-Type: 4,ENCRYPTED") {
        let reason =
            "the key is encrypted in the old way of OpenSSL (DEK-Info), whose protection is weak; it isn't read";
        return Err(Problem::new(reason, CONVERT));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| unreadable("no PKCS#8, PKCS#1 or EC key is in it"))
}

fn unreadable(why: &str) -> Problem {
    Problem::new(format!("the private key can't be read: {why}"), "It has to be PEM, from -----BEGIN to -----END.")
}

/// What PBES2 needs to know (RFC 8018).
struct Pbes2<'a> {
    prf: pbkdf2::Algorithm,
    salt: &'a [u8],
    rounds: NonZeroU32,
    cipher: &'static aws_lc_rs::cipher::Algorithm,
    key_len: usize,
    iv: [u8; 16],
    data: &'a [u8],
}

fn decrypt(der: &[u8], passphrase: &str) -> Result<PrivateKeyDer<'static>, Problem> {
    let unsupported =
        || Problem::new("the key is encrypted in a way that isn't supported (PBKDF2 with AES-CBC is)", CONVERT);
    let p = parse(der).ok_or_else(unsupported)?;
    let mut key = [0; 32];
    let key = key.get_mut(..p.key_len).ok_or_else(unsupported)?;
    pbkdf2::derive(p.prf, p.rounds, p.salt, passphrase.as_bytes(), key);
    let wrong = || Problem::new("the key can't be decrypted", "Is ssl.key_passphrase right?");
    let cipher = UnboundCipherKey::new(p.cipher, key).map_err(|_| unsupported())?;
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(cipher).map_err(|_| unsupported())?;
    let mut data = p.data.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(p.iv));
    let plain = cipher.decrypt(&mut data, context).map_err(|_| wrong())?;
    // Padding may be right by chance with a wrong key: the outermost element must fit too.
    let mut check = Der(plain);
    if check.take(SEQUENCE).is_none() || !check.0.is_empty() {
        return Err(wrong());
    }
    Ok(PrivatePkcs8KeyDer::from(plain.to_vec()).into())
}

fn parse(der: &[u8]) -> Option<Pbes2<'_>> {
    const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
    const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
    const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
    const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];
    let mut outer = Der(der).within(SEQUENCE)?;
    let mut algorithm = outer.within(SEQUENCE)?;
    let data = outer.take(OCTETS)?;
    if algorithm.take(OID)? != PBES2 {
        return None;
    }
    let mut parameters = algorithm.within(SEQUENCE)?;
    let mut kdf = parameters.within(SEQUENCE)?;
    let mut scheme = parameters.within(SEQUENCE)?;
    if kdf.take(OID)? != PBKDF2 {
        return None;
    }
    let mut kdf = kdf.within(SEQUENCE)?;
    let salt = kdf.take(OCTETS)?;
    let rounds = NonZeroU32::new(kdf.number()?).filter(|r| r.get() <= MOST_ROUNDS)?;
    let mut prf = pbkdf2::PBKDF2_HMAC_SHA1;
    while let Some((tag, value)) = kdf.next() {
        if tag == SEQUENCE {
            prf = match Der(value).take(OID)?.strip_prefix(HMAC)? {
                [7] => pbkdf2::PBKDF2_HMAC_SHA1,
                [9] => pbkdf2::PBKDF2_HMAC_SHA256,
                [10] => pbkdf2::PBKDF2_HMAC_SHA384,
                [11] => pbkdf2::PBKDF2_HMAC_SHA512,
                _ => return None,
            };
        }
    }
    let (cipher, key_len) = match scheme.take(OID)?.strip_prefix(AES)? {
        [0x02] => (&AES_128, 16),
        [0x16] => (&AES_192, 24),
        [0x2a] => (&AES_256, 32),
        _ => return None,
    };
    let iv = scheme.take(OCTETS)?.try_into().ok()?;
    Some(Pbes2 { prf, salt, rounds, cipher, key_len, iv, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            ($name, include_bytes!(concat!("testdata/", $name, ".pem")).as_slice())
        };
    }

    fn pkcs8(key: &PrivateKeyDer<'_>) -> Vec<u8> {
        key.secret_der().to_vec()
    }

    #[test]
    fn encrypted_keys_give_the_same_key_as_the_plain_one() {
        let plain = pkcs8(&read(pem!("p8").1, None).unwrap());
        for (name, pem) in [pem!("enc256"), pem!("enc128")] {
            assert_eq!(pkcs8(&read(pem, Some("open")).unwrap()), plain, "{name}");
            let p = read(pem, Some("wrong")).unwrap_err();
            assert!(p.remedy.contains("key_passphrase"), "{name}: {p}");
            let p = read(pem, None).unwrap_err();
            assert!(p.remedy.contains("key_passphrase"), "{name}: {p}");
        }
        assert!(matches!(read(pem!("sec1").1, None).unwrap(), PrivateKeyDer::Sec1(_)));
    }

    #[test]
    fn what_is_not_read_says_how_to_convert_it() {
        for (name, pem) in [pem!("legacy"), pem!("des3"), pem!("scrypt")] {
            let p = read(pem, Some("open")).unwrap_err();
            assert!(p.remedy.contains("openssl pkcs8"), "{name}: {p}");
            assert!(!p.reason.contains("openssl"), "{name}: {p}");
        }
        for pem in [&b""[..], b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA", b"\xff\xfe"] {
            assert!(read(pem, Some("open")).unwrap_err().remedy.contains("PEM"));
        }
    }

    #[test]
    fn cut_off_keys_are_refused() {
        let (_, pem) = pem!("enc256");
        let text = std::str::from_utf8(pem).unwrap();
        let body: String = text.lines().filter(|l| !l.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        for end in 0..der.len() {
            assert!(parse(&der[..end]).is_none(), "{end}");
        }
    }
}
