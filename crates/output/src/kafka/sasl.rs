//! Logging in with SASL: PLAIN (RFC 4616) and SCRAM with SHA-256 or SHA-512 (RFC 5802, 7677).
//!
//! Comes in: user, password, a nonce, the server's messages. Goes out: the client's messages. Always holds: with SCRAM the
//! password itself isn't sent, and a server that doesn't know it is found out; a server can ask for so many rounds and no
//! more. Tested below with the RFC's example, and against a real broker.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The most rounds that a server may ask for: seconds of work.
const MOST_ROUNDS: u32 = 1_000_000;

/// How to log in (`sasl.mechanism`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    Scram256,
    Scram512,
}

impl Mechanism {
    /// Its name in the protocol and in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram256 => "SCRAM-SHA-256",
            Mechanism::Scram512 => "SCRAM-SHA-512",
        }
    }
}

/// The one message of PLAIN.
pub(super) fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

/// A login by SCRAM: [`Scram::first`], then [`Scram::last`] for the server's answer, then [`Scram::check`] for the next.
pub(super) struct Scram {
    sha512: bool,
    bare: String,
    nonce: String,
    password: String,
    /// What the server has to prove that it knows the password.
    proof: Vec<u8>,
}

impl Scram {
    pub(super) fn new(mechanism: Mechanism, user: &str, password: &str, nonce: String) -> Scram {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let sha512 = mechanism == Mechanism::Scram512;
        Scram { sha512, bare, nonce, password: password.to_owned(), proof: Vec::new() }
    }

    pub(super) fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// The answer to the server's first message; `Err` says what is wrong with that.
    pub(super) fn last(&mut self, server: &[u8]) -> Result<Vec<u8>, &'static str> {
        let server = std::str::from_utf8(server).map_err(|_| "its message isn't text")?;
        let part = |name: &str| server.split(',').find_map(|p| p.strip_prefix(name));
        let nonce = part("r=").filter(|nonce| nonce.starts_with(&self.nonce)).ok_or("its nonce isn't ours")?;
        let salt = part("s=").and_then(|salt| STANDARD.decode(salt).ok()).ok_or("its salt can't be read")?;
        let rounds = part("i=").and_then(|n| n.parse::<u32>().ok()).filter(|n| *n <= MOST_ROUNDS);
        let rounds = rounds.and_then(NonZeroU32::new).ok_or("it asks for an impossible number of rounds")?;
        let (algorithm, mac, hash) = match self.sha512 {
            true => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
            false => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        };
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(algorithm, rounds, &salt, self.password.as_bytes(), &mut salted);
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(mac, key), text).as_ref().to_vec();
        let client = sign(&salted, b"Client Key");
        let without = format!("c=biws,r={nonce}");
        let message = format!("{},{server},{without}", self.bare);
        let signature = sign(digest::digest(hash, &client).as_ref(), message.as_bytes());
        self.proof = sign(&sign(&salted, b"Server Key"), message.as_bytes());
        let proof: Vec<u8> = client.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        Ok(format!("{without},p={}", STANDARD.encode(proof)).into_bytes())
    }

    /// Whether the server's last message proves that it knows the password.
    pub(super) fn check(&self, server: &[u8]) -> bool {
        let said = server.strip_prefix(b"v=").and_then(|v| STANDARD.decode(v).ok()).unwrap_or_default();
        !self.proof.is_empty() && constant_time::verify_slices_are_equal(&said, &self.proof).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_example_of_the_standard() {
        let mut scram = Scram::new(Mechanism::Scram256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert!(!scram.check(b"v="));
        let server = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let want = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(scram.last(server).unwrap()).unwrap(), want);
        assert!(scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!scram.check(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") && !scram.check(b"e=other-error"));
    }

    #[test]
    fn a_server_that_cheats_is_told() {
        let mut scram = Scram::new(Mechanism::Scram512, "a,b=c", "p", "ours".into());
        assert_eq!(scram.first(), b"n,,n=a=2Cb=3Dc,r=ours");
        for (server, why) in [
            (&b"r=theirs,s=AA==,i=4096"[..], "nonce"),
            (b"r=oursX,s=!,i=4096", "salt"),
            (b"r=oursX,s=AA==,i=0", "rounds"),
            (b"r=oursX,s=AA==,i=4000000000", "rounds"),
            (b"\xff", "text"),
        ] {
            assert!(scram.last(server).unwrap_err().contains(why));
        }
    }
}
