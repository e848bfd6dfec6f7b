//! As much of DER as certificates and encrypted keys need, and no more.
//!
//! Comes in: bytes from files and peers. Goes out: borrowed pieces, or `None` where the bytes aren't what is looked for.
//! Always holds: no panic and no allocation whatever the bytes. Tested below and in `verify.rs` with real certificates.

use pillion_world::calendar::days_from_civil;

/// A run of DER elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

impl<'a> Der<'a> {
    /// The next element: its tag and its content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let len = if first < 0x80 {
            usize::from(first)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, tail) = rest.split_at_checked(count)?;
            rest = tail;
            digits.iter().fold(0, |n, d| n << 8 | usize::from(*d))
        };
        let (value, tail) = rest.split_at_checked(len)?;
        self.0 = tail;
        Some((tag, value))
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(t, _)| *t == tag).map(|(_, value)| value)
    }

    /// The next element's elements; it must have this tag.
    pub(super) fn within(&mut self, tag: u8) -> Option<Der<'a>> {
        self.take(tag).map(Der)
    }

    /// The next element as a small number.
    pub(super) fn number(&mut self) -> Option<u32> {
        let digits = self.take(INTEGER)?;
        if digits.len() > 5 || digits.first()? & 0x80 != 0 {
            return None;
        }
        u32::try_from(digits.iter().fold(0u64, |n, d| n << 8 | u64::from(*d))).ok()
    }
}

/// What is looked at in a certificate beyond what webpki checks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// X.509 version: 1, 2 or 3.
    pub(super) version: u8,
    /// The last Common Name of the subject.
    pub(super) common_name: Option<&'a str>,
    /// Whether there is a Subject Alternative Name.
    pub(super) has_alternative_names: bool,
    /// Whether it names itself as its authority.
    pub(super) signs_itself: bool,
    /// Valid from and until, seconds since 1970.
    pub(super) validity: (i64, i64),
}

impl<'a> Certificate<'a> {
    /// Reads a certificate; `None` when it isn't one.
    pub(super) fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut tbs = Der(der).within(SEQUENCE)?.within(SEQUENCE)?;
        let mut version = 1;
        if tbs.0.first() == Some(&0xa0) {
            version = u8::try_from(tbs.within(0xa0)?.number()?.checked_add(1)?).ok()?;
        }
        tbs.take(INTEGER)?;
        tbs.take(SEQUENCE)?;
        let issuer = tbs.take(SEQUENCE)?;
        let mut validity = tbs.within(SEQUENCE)?;
        let validity = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = tbs.take(SEQUENCE)?;
        let (common_name, signs_itself) = (common_name(Der(subject)), subject == issuer);
        tbs.take(SEQUENCE)?;
        let mut has_alternative_names = false;
        while let Some((tag, value)) = tbs.next() {
            if tag == 0xa3 {
                let mut extensions = Der(value).within(SEQUENCE)?;
                while let Some(mut extension) = extensions.within(SEQUENCE) {
                    has_alternative_names |= extension.take(OID)? == [0x55, 0x1d, 0x11];
                }
            }
        }
        Some(Certificate { version, common_name, has_alternative_names, signs_itself, validity })
    }
}

/// The size of a public key of RSA (a SubjectPublicKeyInfo); `None` for other keys.
pub(super) fn rsa_bits(spki: &[u8]) -> Option<usize> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const BITS: u8 = 0x03;
    let mut spki = Der(spki).within(SEQUENCE)?;
    if spki.within(SEQUENCE)?.take(OID)? != RSA {
        return None;
    }
    // A bit string begins with the number of unused bits.
    let (_, key) = spki.take(BITS)?.split_first()?;
    let modulus = Der(key).within(SEQUENCE)?.take(INTEGER)?;
    let first = modulus.iter().position(|b| *b != 0)?;
    let digits = modulus.get(first..)?;
    Some(digits.len() * 8 - digits.first()?.leading_zeros() as usize)
}

fn common_name(mut subject: Der<'_>) -> Option<&str> {
    let mut found = None;
    while let Some(mut set) = subject.within(SET) {
        while let Some(mut pair) = set.within(SEQUENCE) {
            if pair.take(OID) == Some(&[0x55, 0x04, 0x03]) {
                found = pair.next().and_then(|(_, text)| std::str::from_utf8(text).ok());
            }
        }
    }
    found
}

/// UTCTime and GeneralizedTime, as certificates may write them, to seconds since 1970.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        0x17 => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        0x18 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (two(0)?, two(2)?);
    let days = days_from_civil(year, month, day);
    Some(days * 86_400 + two(4)? * 3_600 + two(6)? * 60 + two(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_certificates() {
        assert_eq!(time((0x17, b"700101000000Z")), Some(0));
        assert_eq!(time((0x17, b"240229120001Z")), Some(1_709_208_001));
        assert_eq!(time((0x18, b"20500101000000Z")), Some(2_524_608_000));
        assert_eq!(time((0x17, b"2401Z")), None);
        assert_eq!(time((0x16, b"240229120001Z")), None);
    }

    #[test]
    fn cut_off_and_hostile_lengths_are_none() {
        let key = rcgen::generate_simple_self_signed(["es.example".to_string()]).unwrap();
        let der = key.cert.der();
        let parsed = Certificate::parse(der).unwrap();
        assert_eq!((parsed.version, parsed.has_alternative_names), (3, true));
        for end in 0..der.len() {
            assert_eq!(Certificate::parse(&der[..end]), None);
        }
        for bad in [&b"\x30\x80"[..], b"\x30\x85\x01\x01\x01\x01\x01", b"\x30\x84\xff\xff\xff\xff", b"\x30"] {
            assert!(Der(bad).next().is_none());
        }
    }
}
