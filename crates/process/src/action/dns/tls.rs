//! A nameserver that is asked over TLS (RFC 7858).
//!
//! Comes in: a question. Goes out: its answer. Always holds: connecting, shaking hands, asking and waiting take `timeout` at most,
//! all together; the server's certificate holds for its address, and is signed by whom the system trusts, as in Filebeat; each
//! question has a connection of its own, as there. Tested below with a server on loopback.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pillion_world::{Clock, Mono, World, authorities};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Where nameservers listen for it.
pub(super) const PORT: u16 = 853;

/// How nameservers are trusted: by the authorities of the system. `None`: it has none.
pub(super) fn trusting_system(world: &World) -> Option<Arc<ClientConfig>> {
    let roots = authorities::bundles(world).find_map(|bundle| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
        (!roots.is_empty()).then_some(roots)
    });
    trusting(roots?)
}

fn trusting(roots: RootCertStore) -> Option<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A connection that nobody waits for beyond a time.
struct Bounded {
    stream: TcpStream,
    clock: Arc<dyn Clock>,
    until: Mono,
}

impl Bounded {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.since(self.clock.mono());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

/// A wait that a socket ends is the end of the time.
fn timed_out(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { e }
}

impl Read for Bounded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buf).map_err(timed_out)
    }
}

impl Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buf).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Sends a question, and gives the messages that come, one after another, until `take` takes one.
pub(super) fn exchange<R>(
    config: &Arc<ClientConfig>,
    question: &[u8],
    server: SocketAddr,
    timeout: Duration,
    mut take: impl FnMut(&[u8]) -> Option<R>,
) -> io::Result<R> {
    let clock = World::real().clock;
    let until = clock.mono().plus(timeout);
    let stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_nodelay(true)?;
    let connection = ClientConnection::new(Arc::clone(config), ServerName::from(server.ip()));
    let mut stream = StreamOwned::new(connection.map_err(io::Error::other)?, Bounded { stream, clock, until });
    let len = u16::try_from(question.len()).map_err(io::Error::other)?;
    // In one piece: some servers want the length and the question in one record.
    stream.write_all(&[&len.to_be_bytes(), question].concat())?;
    stream.flush()?;
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut message)?;
        if let Some(taken) = take(&message) {
            return Ok(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    type Script = fn(&mut dyn Write, &[u8]);

    /// A server whose certificate is for this name, and who trusts it. It does as it is told with each question.
    fn server(name: &str, script: Script) -> (SocketAddr, Arc<ClientConfig>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(builder.with_single_cert(vec![leaf.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), peer.unwrap());
                let mut len = [0; 2];
                if stream.read_exact(&mut len).is_err() {
                    continue;
                }
                let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
                stream.read_exact(&mut question).unwrap();
                script(&mut stream, &question);
                let _ = stream.flush();
                // Until the other side has enough.
                let _ = stream.read(&mut [0]);
            }
        });
        (address, trusting(roots).unwrap())
    }

    fn message(out: &mut dyn Write, text: &[u8]) {
        out.write_all(&(text.len() as u16).to_be_bytes()).unwrap();
        // In two pieces.
        let (head, tail) = text.split_at(text.len() / 2);
        out.write_all(head).unwrap();
        out.flush().unwrap();
        out.write_all(tail).unwrap();
    }

    fn ask(at: SocketAddr, config: &Arc<ClientConfig>, timeout: Duration) -> io::Result<Vec<u8>> {
        exchange(config, b"ask", at, timeout, |m| m.starts_with(b"answer").then(|| m.to_vec()))
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_isnt_the_answer_is_passed_over() {
        let (at, config) = server("127.0.0.1", |out, question| {
            message(out, b"other");
            message(out, &[b"answer to ", question].concat());
        });
        assert_eq!(ask(at, &config, LONG).unwrap(), b"answer to ask");
        assert_eq!(ask(at, &config, LONG).unwrap(), b"answer to ask");
    }

    #[test]
    fn the_certificate_has_to_hold_for_the_address_and_to_be_trusted() {
        let answer: Script = |out, _| message(out, b"answer");
        let (at, config) = server("dns.example", answer);
        assert!(ask(at, &config, LONG).unwrap_err().to_string().contains("certificate"));
        let (at, _) = server("127.0.0.1", answer);
        assert!(ask(at, &config, LONG).unwrap_err().to_string().contains("certificate"));
    }

    #[test]
    fn nobody_is_waited_for_beyond_the_time() {
        let most = Duration::from_millis(100);
        let (silent, config) = server("127.0.0.1", |_, _| {});
        let (half, other) = server("127.0.0.1", |out, _| out.write_all(&[0, 9, 1]).unwrap());
        // Takes connections and doesn't shake hands.
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        for (at, config) in [(silent, &config), (half, &other), (mute.local_addr().unwrap(), &config)] {
            let clock = World::real().clock;
            let begin = clock.mono();
            assert_eq!(ask(at, config, most).unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(clock.mono().since(begin) < LONG);
        }
        let (ends, config) = server("127.0.0.1", |out, _| out.write_all(&[0]).unwrap());
        assert!(ask(ends, &config, most).is_err());
    }
}
