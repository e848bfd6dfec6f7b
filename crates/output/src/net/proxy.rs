//! Proxies: HTTP (`http://`, tunnels by `CONNECT`) and SOCKS5 (`socks5://`, with the name looked up by the proxy or here).
//!
//! Always holds: what a proxy sends is read up to a limit; its credentials are never shown. Tested below against
//! scripted proxies.

use std::net::IpAddr;

use base64::Engine;
use pillion_config::{Error, Section};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Connector;
use crate::hosts::Host;
use crate::problem::Problem;

/// An answer to `CONNECT` longer than this isn't one.
const ANSWER_LIMIT: usize = 16 * 1024;

/// Which protocol a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

/// A proxy between here and the target.
#[derive(Clone)]
pub struct Proxy {
    kind: Kind,
    pub(super) host: Host,
    /// SOCKS5: look names up here instead of at the proxy.
    local_names: bool,
    /// Further headers of a `CONNECT` (`proxy_headers`).
    headers: Vec<(String, String)>,
}

impl Proxy {
    /// Reads a `proxy_url`. `local_names`: `proxy_use_local_resolver`. `headers`: `proxy_headers`. The error doesn't
    /// repeat the URL (it may hold a password).
    pub fn parse(url: &str, local_names: bool, headers: Vec<(String, String)>) -> Result<Proxy, String> {
        let host = Host::parse(url, 0)?;
        let (kind, port) = match host.scheme.as_deref() {
            None | Some("http") => (Kind::Http, 3128),
            Some("socks5" | "socks5h") => (Kind::Socks5, 1080),
            Some(other) => return Err(format!("a proxy of the kind {other:?} isn't known: http and socks5 are")),
        };
        let port = if host.port == 0 { port } else { host.port };
        Ok(Proxy { kind, host: Host { port, ..host }, local_names, headers })
    }

    /// Reads `proxy_url` and `proxy_use_local_resolver` of an output over plain TCP.
    pub(crate) fn socks(section: &Section<'_>) -> Result<Option<Proxy>, Error> {
        let local_names = section.bool("proxy_use_local_resolver")?.unwrap_or(false);
        let Some(url) = section.str("proxy_url")?.filter(|url| !url.is_empty()) else { return Ok(None) };
        let proxy = Proxy::parse(&url, local_names, Vec::new());
        proxy.map(Some).map_err(|why| section.error("proxy_url", why, "give `socks5://user:password@host:1080`"))
    }

    /// The proxy that the environment names for a host (`HTTPS_PROXY`, `HTTP_PROXY`, also in small letters), unless
    /// `NO_PROXY` or the host itself (this machine) forbids it. `variable` looks one up.
    pub fn from_environment(
        host: &Host,
        https: bool,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Proxy>, String> {
        let get = |name: &str| {
            let found = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
            found.map(|v| v.trim().to_string()).filter(|v| !v.is_empty())
        };
        let name = if https { "HTTPS_PROXY" } else { "HTTP_PROXY" };
        let Some(url) = get(name) else { return Ok(None) };
        let local =
            host.name.eq_ignore_ascii_case("localhost") || host.name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if local || get("NO_PROXY").is_some_and(|list| list.split(',').any(|entry| is_exempt(entry.trim(), host))) {
            return Ok(None);
        }
        Proxy::parse(&url, false, Vec::new()).map(Some).map_err(|why| format!("the variable {name}: {why}"))
    }

    /// Whether plain HTTP requests are sent to the proxy itself, with the whole URL.
    pub fn takes_requests(&self) -> bool {
        self.kind == Kind::Http
    }

    /// The value of `Proxy-Authorization`, where the URL had a user.
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.host.user.as_ref()?;
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))))
    }

    /// Makes of a connection to the proxy one to the host.
    pub(super) async fn open(
        &self,
        mut stream: TcpStream,
        host: &Host,
        tunnel: bool,
        connector: &Connector,
    ) -> Result<TcpStream, Problem> {
        let done = match self.kind {
            Kind::Http if tunnel => self.http(&mut stream, host).await,
            Kind::Http => Ok(()),
            Kind::Socks5 => self.socks5(&mut stream, host, connector).await,
        };
        done.map_err(|p| p.during(format_args!("proxy {}", self.host)))?;
        Ok(stream)
    }

    async fn http(&self, stream: &mut TcpStream, host: &Host) -> Result<(), Problem> {
        let mut ask = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
        if let Some(value) = self.authorization() {
            ask.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        for (name, value) in &self.headers {
            ask.push_str(&format!("{name}: {value}\r\n"));
        }
        ask.push_str("\r\n");
        stream.write_all(ask.as_bytes()).await.map_err(|e| io(&e))?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head belongs to the tunnel.
            answer.push(stream.read_u8().await.map_err(|e| io(&e))?);
            if answer.len() > ANSWER_LIMIT {
                return Err(Problem::bare("its answer to CONNECT has no end"));
            }
        }
        let line = String::from_utf8_lossy(answer.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
        match line.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(()),
            Some("407") => Err(Problem::new("it wants other credentials (407)", "Put user and password in proxy_url.")),
            _ => {
                Err(Problem::new(format!("it refuses the tunnel: {line}"), "Does the proxy allow this host and port?"))
            }
        }
    }

    /// RFC 1928, and RFC 1929 for user and password.
    async fn socks5(&self, stream: &mut TcpStream, host: &Host, connector: &Connector) -> Result<(), Problem> {
        let hello: &[u8] = if self.host.user.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        stream.write_all(hello).await.map_err(|e| io(&e))?;
        let mut choice = [0; 2];
        stream.read_exact(&mut choice).await.map_err(|e| io(&e))?;
        match (choice, &self.host.user) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, password))) => self.socks5_login(stream, user, password).await?,
            ([5, _], _) => {
                return Err(Problem::new("it wants another way of login", "Put user and password in proxy_url."));
            }
            _ => return Err(Problem::bare("it doesn't speak SOCKS5")),
        }
        let ip = match host.name.parse::<IpAddr>() {
            Ok(ip) => Some(ip),
            Err(_) if self.local_names => connector.resolve(&host.name).await?.first().copied(),
            Err(_) => None,
        };
        let mut ask = vec![5, 1, 0];
        match ip {
            Some(IpAddr::V4(v4)) => {
                ask.push(1);
                ask.extend(v4.octets());
            }
            Some(IpAddr::V6(v6)) => {
                ask.push(4);
                ask.extend(v6.octets());
            }
            None => short(&mut ask, 3, &host.name)?,
        }
        ask.extend(host.port.to_be_bytes());
        stream.write_all(&ask).await.map_err(|e| io(&e))?;
        socks5_answer(stream).await
    }

    async fn socks5_login(&self, stream: &mut TcpStream, user: &str, password: &str) -> Result<(), Problem> {
        let mut ask = Vec::new();
        short(&mut ask, 1, user)?;
        let at = ask.len();
        short(&mut ask, 0, password)?;
        ask.remove(at);
        stream.write_all(&ask).await.map_err(|e| io(&e))?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.map_err(|e| io(&e))?;
        if answer[1] == 0 {
            Ok(())
        } else {
            Err(Problem::new("it refuses the login", "Check user and password in proxy_url."))
        }
    }
}

/// Whether an entry of `NO_PROXY` means this host: `*`, an address, a range `10.0.0.0/8`, a name with all below it;
/// each also with a port.
fn is_exempt(entry: &str, host: &Host) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    if let (Some((net, bits)), Ok(ip)) = (entry.split_once('/'), host.name.parse::<IpAddr>()) {
        return is_in_range(ip, net, bits);
    }
    let (name, port) = match Host::parse(entry, 0) {
        Ok(parsed) => (parsed.name, parsed.port),
        Err(_) => return false,
    };
    if port != 0 && port != host.port {
        return false;
    }
    let name = name.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
    let own = host.name.trim_end_matches('.').to_ascii_lowercase();
    own == name || own.strip_suffix(&name).is_some_and(|front| front.ends_with('.'))
}

fn is_in_range(ip: IpAddr, net: &str, bits: &str) -> bool {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let ((ip, width), (net, net_width)) = (wide(ip), wide(net));
    width == net_width && bits <= width && (bits == 0 || (ip ^ net) >> (128 - bits) == 0)
}

async fn socks5_answer(stream: &mut TcpStream) -> Result<(), Problem> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(|e| io(&e))?;
    if head[1] != 0 {
        let why = match head[1] {
            2 => "its rules forbid it",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            _ => "general failure",
        };
        return Err(Problem::new(format!("it can't connect: {why}"), "Does the proxy allow this host and port?"));
    }
    let bound = match head[3] {
        1 => 4,
        4 => 16,
        _ => usize::from(stream.read_u8().await.map_err(|e| io(&e))?),
    };
    let mut rest = vec![0; bound + 2];
    stream.read_exact(&mut rest).await.map_err(|e| io(&e))?;
    Ok(())
}

/// A tag, a length in one byte, and the text.
fn short(out: &mut Vec<u8>, tag: u8, text: &str) -> Result<(), Problem> {
    let len = u8::try_from(text.len()).map_err(|_| Problem::bare("a name is longer than 255 bytes"))?;
    out.push(tag);
    out.push(len);
    out.extend(text.as_bytes());
    Ok(())
}

fn io(e: &std::io::Error) -> Problem {
    Problem::bare(e.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pillion_world::World;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that reads `ask` and answers with `answer`, step by step, then sends "through".
    async fn scripted(steps: Vec<(Vec<u8>, Vec<u8>)>) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (ask, answer) in steps {
                let mut got = vec![0; ask.len()];
                stream.read_exact(&mut got).await.unwrap();
                assert_eq!(got, ask, "{}", String::from_utf8_lossy(&got));
                stream.write_all(&answer).await.unwrap();
            }
        });
        (at, task)
    }

    async fn connect(url: &str, host: &str) -> Result<String, Problem> {
        let proxy = Proxy::parse(url, false, vec![("X-A".into(), "b".into())]).unwrap();
        let c = Connector::new(World::real(), Some(proxy), Duration::from_secs(5));
        let mut stream = c.connect(&Host::parse(host, 9200).unwrap(), true).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        Ok(text)
    }

    #[test]
    fn the_environment_names_proxies_and_exceptions() {
        let table = [
            ("es.example:9200", "", true),
            ("es.example:9200", "other, example", false),
            ("es.example:9200", ".example", false),
            ("es.example:9200", "*.example", false),
            ("esexample:9200", "example", true),
            ("es.example:9200", "es.example:9200", false),
            ("es.example:9200", "es.example:80", true),
            ("es.example:9200", "*", false),
            ("10.1.2.3:9200", "10.0.0.0/8", false),
            ("11.1.2.3:9200", "10.0.0.0/8,x/y,::/0", true),
            ("[2001:db8::1]:9200", "2001:db8::/32", false),
            ("localhost:9200", "", false),
            ("127.0.0.5:9200", "", false),
        ];
        for (host, exceptions, proxied) in table {
            let host = Host::parse(host, 1).unwrap();
            let variable = |name: &str| match name {
                "https_proxy" => Some("http://proxy:8080".to_string()),
                "NO_PROXY" => Some(exceptions.to_string()),
                _ => None,
            };
            let found = Proxy::from_environment(&host, true, &variable).unwrap();
            assert_eq!(found.map(|p| p.host.to_string()), proxied.then(|| "proxy:8080".into()), "{host} {exceptions}");
            assert!(Proxy::from_environment(&host, false, &variable).unwrap().is_none());
        }
        let bad = |_: &str| Some("ftp://u:secret@x".to_string());
        let error = Proxy::from_environment(&Host::parse("es", 1).unwrap(), true, &bad);
        // NO_PROXY holds the same nonsense, which exempts nothing.
        assert!(error.err().is_some_and(|e| e.contains("HTTPS_PROXY") && !e.contains("secret")));
    }

    #[tokio::test]
    async fn an_http_proxy_gives_a_tunnel_and_keeps_no_byte_of_it() {
        let ask = b"CONNECT es.example:9200 HTTP/1.1\r\nHost: es.example:9200\r\nProxy-Authorization: Basic dTpw\r\nX-A: b\r\n\r\n";
        let answer = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nthrough";
        let (at, task) = scripted(vec![(ask.to_vec(), answer.to_vec())]).await;
        assert_eq!(connect(&format!("http://u:p@{at}"), "es.example").await.unwrap(), "through");
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_refusing_http_proxy_says_why() {
        let ask = b"CONNECT es:9200 HTTP/1.1\r\nHost: es:9200\r\nX-A: b\r\n\r\n";
        for (answer, why) in [("407 Proxy Authentication Required", "credentials"), ("403 Forbidden", "403")] {
            let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
            let (at, task) = scripted(vec![(ask.to_vec(), answer.into_bytes())]).await;
            let p = connect(&format!("http://{at}"), "es").await.unwrap_err();
            assert!(p.to_string().contains(why), "{p}");
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn socks5_with_login_and_the_name_left_to_the_proxy() {
        let (at, task) = scripted(vec![
            (vec![5, 2, 0, 2], vec![5, 2]),
            (b"\x01\x01u\x01p".to_vec(), vec![1, 0]),
            (b"\x05\x01\x00\x03\x02es\x23\xf0".to_vec(), b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00through".to_vec()),
        ])
        .await;
        assert_eq!(connect(&format!("socks5://u:p@{at}"), "es").await.unwrap(), "through");
        task.await.unwrap();
    }

    #[tokio::test]
    async fn socks5_that_refuses_says_why() {
        let (at, task) = scripted(vec![
            (vec![5, 1, 0], vec![5, 0]),
            (
                b"\x05\x01\x00\x01\x0a\x00\x00\x01\x23\xf0".to_vec(),
                b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00".to_vec(),
            ),
        ])
        .await;
        let p = connect(&format!("socks5://{at}"), "10.0.0.1").await.unwrap_err();
        assert!(p.reason.contains("rules forbid"), "{p}");
        task.await.unwrap();
    }
}
