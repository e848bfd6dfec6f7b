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
            // Go's, and so Filebeat's, ports.
            None | Some("http") => (Kind::Http, 80),
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

    /// Where the proxy is asked to connect to: the host by its name, or its addresses in the order to try them.
    pub(super) async fn places(&self, host: &Host, connector: &Connector) -> Result<Vec<Option<IpAddr>>, Problem> {
        if self.kind == Kind::Http || !self.local_names && host.name.parse::<IpAddr>().is_err() {
            return Ok(vec![None]);
        }
        let mut addresses = connector.resolve(&host.name).await?;
        super::shuffle(&mut addresses, &*connector.world.random);
        Ok(addresses.into_iter().map(Some).collect())
    }

    /// Makes of a connection to the proxy one to the host.
    pub(super) async fn open(
        &self,
        mut stream: TcpStream,
        host: &Host,
        place: Option<IpAddr>,
        tunnel: bool,
    ) -> Result<TcpStream, Problem> {
        match self.kind {
            Kind::Http if tunnel => self.http(&mut stream, host).await?,
            Kind::Http => {}
            Kind::Socks5 => self.socks5(&mut stream, host, place).await?,
        }
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
        // The words are the proxy's, who may say anything.
        let code = line.split(' ').nth(1).filter(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()));
        match code.filter(|_| line.starts_with("HTTP/")) {
            Some(code) if code.starts_with('2') => Ok(()),
            Some("407") => Err(self.wants_login("(407)")),
            Some(code) => {
                let why = format!("it refuses the tunnel ({code})");
                Err(Problem::new(why, "Does the proxy allow this host and port?"))
            }
            None => Err(Problem::new("it doesn't speak HTTP", "Is proxy_url right: socks5:// or http://?")),
        }
    }

    fn wants_login(&self, detail: &str) -> Problem {
        match self.host.user {
            Some(_) => Problem::new(
                format!("it refuses user and password {detail}"),
                "Check user and password in proxy_url; characters such as `@`, `/` and `%` are written `%40`, `%2F`, `%25`.",
            ),
            None => Problem::new(
                format!("it wants a login {detail}"),
                "Put user and password into proxy_url: `http://user:password@host:port`.",
            ),
        }
    }

    /// RFC 1928, and RFC 1929 for user and password.
    async fn socks5(&self, stream: &mut TcpStream, host: &Host, place: Option<IpAddr>) -> Result<(), Problem> {
        let hello: &[u8] = if self.host.user.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        stream.write_all(hello).await.map_err(|e| io(&e))?;
        let mut choice = [0; 2];
        stream.read_exact(&mut choice).await.map_err(|e| io(&e))?;
        match (choice, &self.host.user) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, password))) => self.socks5_login(stream, user, password).await?,
            ([5, _], None) => return Err(self.wants_login("(SOCKS5)")),
            ([5, _], Some(_)) => {
                let why = "it takes no login by user and password (SOCKS5)";
                return Err(Problem::new(why, "Does it know clients by their address, or another way of login?"));
            }
            _ => return Err(Problem::new("it doesn't speak SOCKS5", "Is proxy_url right: socks5:// or http://?")),
        }
        let mut ask = vec![5, 1, 0];
        match place {
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
        if answer[1] == 0 { Ok(()) } else { Err(self.wants_login("(SOCKS5)")) }
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
    if head[0] != 5 {
        return Err(Problem::bare("it doesn't speak SOCKS5"));
    }
    if head[1] != 0 {
        let allowed = "Does the proxy allow this host and port?";
        let (why, remedy) = match head[1] {
            2 => ("its rules forbid it", allowed),
            3 => ("network unreachable", "Does the proxy reach the host?"),
            4 => ("host unreachable", "Does the proxy know the name? proxy_use_local_resolver: true looks it up here."),
            5 => ("connection refused", "Is the service running, and are host and port right?"),
            6 => ("no answer from the host", "Does the proxy reach the host?"),
            8 => ("it can't take names, or IPv6", "proxy_use_local_resolver: true looks names up here."),
            _ => ("general failure", allowed),
        };
        return Err(Problem::new(format!("it can't connect: {why} ({})", head[1]), remedy));
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
    match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Problem::new(
            "it closed the connection",
            "Is proxy_url right: socks5:// or http://, with user and password?",
        ),
        _ => Problem::bare(e.to_string()),
    }
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
        for (answer, why) in [("407 Proxy Authentication Required", "wants a login (407)"), ("403 Forbidden", "403")] {
            let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
            let (at, task) = scripted(vec![(ask.to_vec(), answer.into_bytes())]).await;
            let p = connect(&format!("http://{at}"), "es").await.unwrap_err();
            assert!(p.to_string().contains(why), "{p}");
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_said_of_a_proxy_names_it_and_no_secret() {
        let connect_ask =
            b"CONNECT es:9200 HTTP/1.1\r\nHost: es:9200\r\nProxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\nX-A: b\r\n\r\n";
        let http = |answer: &[u8]| vec![(connect_ask.to_vec(), answer.to_vec())];
        let login = b"\x01\x04user\x06s3cret".to_vec();
        let name = b"\x05\x01\x00\x03\x02es\x23\xf0".to_vec();
        let hello = (vec![5, 2, 0, 2], vec![5, 2]);
        let refusal = |code: u8| {
            vec![hello.clone(), (login.clone(), vec![1, 0]), (name.clone(), vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0])]
        };
        let table = [
            ("http", http(b"HTTP/1.1 407 s3cret\r\n\r\n"), "it refuses user and password (407)"),
            ("http", http(b"HTTP/1.1 403 s3cret dXNlcjpzM2NyZXQ=\r\n\r\n"), "it refuses the tunnel (403)"),
            ("http", http(b"HTTP/1.1 s3cret\r\n\r\n"), "it doesn't speak HTTP"),
            ("http", http(b"\x05\x00\r\n\r\n"), "it doesn't speak HTTP"),
            ("http", http(b"HTTP/1.1 200"), "it closed the connection"),
            ("http", http(&[b'a'; ANSWER_LIMIT + 1]), "has no end"),
            ("socks5", vec![(hello.0.clone(), b"HT".to_vec())], "it doesn't speak SOCKS5"),
            ("socks5", vec![(hello.0.clone(), vec![5, 255])], "it takes no login by user and password"),
            ("socks5", vec![hello.clone(), (login.clone(), vec![1, 1])], "it refuses user and password (SOCKS5)"),
            ("socks5", vec![hello.clone(), (login.clone(), vec![])], "it closed the connection"),
            ("socks5", refusal(1), "general failure (1)"),
            ("socks5", refusal(2), "its rules forbid it (2)"),
            ("socks5", refusal(4), "host unreachable (4). Does the proxy know the name? proxy_use_local_resolver"),
            ("socks5", refusal(5), "connection refused (5)"),
            ("socks5", refusal(8), "it can't take names, or IPv6 (8)"),
        ];
        for (scheme, steps, why) in table {
            let (at, task) = scripted(steps).await;
            let said = connect(&format!("{scheme}://user:s3cret@{at}"), "es").await.unwrap_err().to_string();
            assert!(said.starts_with(&format!("connecting to es:9200: proxy {at}: ")) && said.contains(why), "{said}");
            assert!(!said.contains("s3cret") && !said.contains("dXNlcjp"), "{said}");
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_proxy_that_hangs_at_any_step_has_the_time_of_the_connection() {
        for (scheme, answer) in [
            ("http", &b""[..]),
            ("http", b"HTTP/1.1 200 OK\r\nX: "),
            ("socks5", b""),
            ("socks5", b"\x05"),
            ("socks5", b"\x05\x02"),
            ("socks5", b"\x05\x02\x01\x00"),
            ("socks5", b"\x05\x02\x01\x00\x05\x00\x00\x03\xff"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let hangs = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer).await.unwrap();
                // Until it is left.
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
            };
            let proxy = Proxy::parse(&format!("{scheme}://user:s3cret@{at}"), false, Vec::new()).unwrap();
            let limit = Duration::from_millis(100);
            let c = Connector::new(World::real(), Some(proxy), limit);
            let host = Host::parse("es:9200", 1).unwrap();
            let (failed, ()) = tokio::join!(c.connect(&host, true), hangs);
            let said = failed.unwrap_err().to_string();
            let want = format!("connecting to es:9200: proxy {at}: no connection within {limit:?}. Is the proxy up");
            assert!(said.starts_with(&want), "{scheme} {answer:?}: {said}");
        }
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_each_address_of_a_name_that_was_looked_up_here() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serves = async {
            let mut asked = Vec::new();
            for code in [5, 0] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut hello, mut ask) = ([0; 3], [0; 10]);
                stream.read_exact(&mut hello).await.unwrap();
                stream.write_all(&[5, 0]).await.unwrap();
                stream.read_exact(&mut ask).await.unwrap();
                asked.push(ask[7]);
                stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            }
            asked
        };
        let proxy = Proxy::parse(&format!("socks5://{at}"), true, Vec::new()).unwrap();
        let c = Connector::new(World::real(), Some(proxy.clone()), Duration::from_secs(5));
        let host = Host::parse("logstash:5044", 1).unwrap();
        let places = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| ip.parse().ok());
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let (stream, asked) = tokio::join!(c.through(&proxy, &host, &places, true, deadline), serves);
        assert_eq!((stream.is_ok(), asked), (true, vec![1, 2]));
        // What they are is known from the resolver, or the proxy looks the name up.
        assert_eq!(
            proxy.places(&Host::parse("127.0.0.9:1", 1).unwrap(), &c).await.unwrap(),
            ["127.0.0.9".parse().ok()]
        );
        assert!(proxy.places(&Host::parse("localhost:1", 1).unwrap(), &c).await.unwrap().iter().all(Option::is_some));
        let far = Proxy::parse(&format!("socks5://{at}"), false, Vec::new()).unwrap();
        assert_eq!(far.places(&Host::parse("localhost:1", 1).unwrap(), &c).await.unwrap(), [None]);
    }

    #[test]
    fn ports_where_none_is_named_are_those_of_go() {
        for (url, want) in
            [("http://p", "p:80"), ("p", "p:80"), ("socks5://p", "p:1080"), ("http://u:p@p:3128", "p:3128")]
        {
            assert_eq!(Proxy::parse(url, false, Vec::new()).unwrap().host.to_string(), want, "{url}");
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
