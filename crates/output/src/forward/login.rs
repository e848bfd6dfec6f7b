//! The handshake of the forward protocol: both sides show that they know the shared key, and the client whose it is.
//!
//! Comes in: a server's `HELO` and `PONG`, what the user set. Goes out: our `PING`, whether the server is the right one.
//! Facts: the forward protocol's v1 specification ("Handshake Messages").
//!
//! Always holds: neither key nor password is sent, only digests (SHA-512, as lower-case hex) with salts of both sides; a
//! server that doesn't know the key is refused. Tested below.

use aws_lc_rs::{constant_time, digest};

use super::msgpack;
use crate::problem::{Problem, before};

/// As much of a server's reason is shown.
const SHOWN: usize = 120;

/// Who logs in.
#[derive(Clone, Default)]
pub(super) struct Login {
    /// `shared_key`; empty = there is no handshake.
    pub(super) shared_key: String,
    /// `self_hostname`.
    pub(super) hostname: String,
    pub(super) user: String,
    pub(super) password: String,
}

impl Login {
    /// The `PING` that answers a `HELO`. `salt`: random, for this connection alone.
    pub(super) fn ping(&self, salt: &str, nonce: &[u8], auth: &[u8]) -> Vec<u8> {
        let key = hex(&[salt.as_bytes(), self.hostname.as_bytes(), nonce, self.shared_key.as_bytes()]);
        let (user, password) = match auth {
            [] => ("", String::new()),
            auth => (self.user.as_str(), hex(&[auth, self.user.as_bytes(), self.password.as_bytes()])),
        };
        let mut out = Vec::new();
        msgpack::array(6, &mut out);
        for text in ["PING", &self.hostname, salt, &key, user, &password] {
            msgpack::text(text, &mut out);
        }
        out
    }

    /// Whether this `PONG` is one of a server that knows the key.
    pub(super) fn knows(&self, salt: &str, nonce: &[u8], hostname: &[u8], digest: &[u8]) -> bool {
        let want = hex(&[salt.as_bytes(), hostname, nonce, self.shared_key.as_bytes()]);
        constant_time::verify_slices_are_equal(want.as_bytes(), digest).is_ok()
    }
}

/// Why a server doesn't let us in, without what it quotes of ours.
pub(super) fn refused(reason: &str, login: &Login) -> Problem {
    let quoted = before(&login.shared_key, before(&login.password, reason));
    let shown: String = quoted.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    let remedy = match reason {
        r if r.contains("hostname") => "Give output.forward.self_hostname a name that isn't the server's.",
        r if r.contains("shared_key") || r.contains("shared key") => "Put output.forward.shared_key right.",
        r if r.contains("username") || r.contains("password") => "Put output.forward.username and password right.",
        _ => "Are output.forward.shared_key, username and password those that the server knows?",
    };
    Problem::new(format!("the server refuses the login: {shown}"), remedy)
}

fn hex(parts: &[&[u8]]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut context = digest::Context::new(&digest::SHA512);
    parts.iter().for_each(|part| context.update(part));
    let digit = |nibble: u8| char::from(HEX[usize::from(nibble & 15)]);
    context.finish().as_ref().iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::msgpack::{Item, Reader};

    fn login() -> Login {
        Login { shared_key: "key".into(), hostname: "us".into(), user: "u".into(), password: "p".into() }
    }

    #[test]
    fn digests_as_in_the_specification() {
        // `printf abc | sha512sum`
        let abc = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                   2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!((hex(&[b"a", b"", b"bc"]), hex(&[b"abc"])), (abc.to_owned(), abc.to_owned()));
        let fields = |auth: &[u8]| {
            let ping = login().ping("salt", b"nonce", auth);
            let Some((Item::List(items), _)) = Reader::read(&ping).unwrap() else { panic!("{ping:?}") };
            items
                .iter()
                .map(|item| if let Item::Bytes(b) = item { String::from_utf8_lossy(b).into() } else { String::new() })
                .collect::<Vec<_>>()
        };
        let key = hex(&[b"saltusnoncekey"]);
        assert_eq!(fields(b""), ["PING", "us", "salt", &key, "", ""]);
        assert_eq!(fields(b"A"), ["PING", "us", "salt", &key, "u", &hex(&[b"Aup"])]);
    }

    #[test]
    fn a_server_shows_that_it_knows_the_key() {
        let right = hex(&[b"saltthemnoncekey"]);
        assert!(login().knows("salt", b"nonce", b"them", right.as_bytes()));
        for (host, digest) in [("us", right.as_str()), ("them", ""), ("them", &right[1..])] {
            assert!(!login().knows("salt", b"nonce", host.as_bytes(), digest.as_bytes()));
        }
    }

    #[test]
    fn refusals_say_what_helps() {
        for (reason, remedy) in [
            ("shared_key mismatch", "shared_key right"),
            ("username/password mismatch", "username and password"),
            ("Same hostname between input and output", "self_hostname"),
            ("\x1b[0m", "Are"),
        ] {
            let problem = refused(reason, &login());
            assert!(problem.remedy.contains(remedy) && !problem.reason.contains('\x1b'), "{problem}");
        }
        assert!(refused(&"ä".repeat(500), &Login::default()).reason.len() < 300);
        let login = Login { shared_key: "topsecret".into(), password: "hunter2".into(), ..login() };
        let said = refused("shared_key mismatch for hunter2: topsecret", &login).to_string();
        assert!(said.contains("mismatch for . Put") && !said.contains("hunter2"), "{said}");
    }
}
