//! Connecting to a host by name or address, directly or through a proxy.
//!
//! Comes in: a [`Host`]. Goes out: a connected `TcpStream`, or a [`Problem`] that says which step failed. Always holds:
//! no NSS call (a static glibc would load the host's modules and has crashed): names come from address literals,
//! `/etc/hosts` and DNS as `/etc/resolv.conf` says, search domains and `ndots` included; every step is inside one time
//! limit; the addresses of a name are tried in an order of chance, as Filebeat does, so that many shippers spread and one
//! address that hangs isn't taken each time; each has its share of the time. Tested below on loopback.

mod proxy;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use pillion_world::{Random, World};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

pub use proxy::Proxy;

use crate::hosts::Host;
use crate::problem::Problem;

/// A hosts file larger than this is cut off: a blocklist isn't what a shipper needs.
const HOSTS_FILE_LIMIT: usize = 1 << 20;

/// Connects to hosts. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    world: World,
    proxy: Option<Proxy>,
    timeout: Duration,
}

impl Connector {
    /// A connector with a limit for each connection, from the name's lookup to the established connection (the
    /// proxy's handshake included).
    pub fn new(world: World, proxy: Option<Proxy>, timeout: Duration) -> Connector {
        Connector { world, proxy, timeout }
    }

    /// The proxy that connections go through.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Connects. `tunnel`: an HTTP proxy is asked for a tunnel to the host (`CONNECT`); without it, the connection
    /// ends at the HTTP proxy, which is to be spoken to. A SOCKS proxy always gives a tunnel.
    pub async fn connect(&self, host: &Host, tunnel: bool) -> Result<TcpStream, Problem> {
        let deadline = Instant::now() + self.timeout;
        let connecting = async {
            match &self.proxy {
                None => self.direct(&host.name, host.port, deadline).await,
                Some(proxy) => {
                    let places = proxy.places(host, self).await?;
                    self.through(proxy, host, &places, tunnel, deadline).await
                }
            }
        };
        match timeout_at(deadline, connecting).await {
            Ok(result) => result.map_err(|p| p.during(format_args!("connecting to {host}"))),
            Err(_) => Err(Problem::new(
                format!("connecting to {host}: no connection within {:?}", self.timeout),
                "Is the host up and does a firewall or network policy let this pod reach it?",
            )),
        }
    }

    /// Connects through a proxy, to the first of these places of the host that it reaches; never empty.
    async fn through(
        &self,
        proxy: &Proxy,
        host: &Host,
        places: &[Option<IpAddr>],
        tunnel: bool,
        deadline: Instant,
    ) -> Result<TcpStream, Problem> {
        let named = |p: Problem| p.during(format_args!("proxy {}", proxy.host));
        let mut last = Problem::bare("the host has no address");
        for (i, place) in places.iter().enumerate() {
            let share = share(deadline, places.len() - i);
            let opening = async {
                let stream = self.direct(&proxy.host.name, proxy.host.port, share).await?;
                proxy.open(stream, host, *place, tunnel).await
            };
            match timeout_at(share, opening).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(problem)) => last = named(problem),
                Err(_) => {
                    let why = format!("no connection within {:?}", self.timeout);
                    last = named(Problem::new(why, "Is the proxy up, and does it reach the host?"));
                }
            }
        }
        Err(last)
    }

    async fn direct(&self, name: &str, port: u16, deadline: Instant) -> Result<TcpStream, Problem> {
        let mut addresses = self.resolve(name).await?;
        shuffle(&mut addresses, &*self.world.random);
        let mut last = None;
        for (i, address) in addresses.iter().enumerate() {
            let share = share(deadline, addresses.len() - i);
            match timeout_at(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
                Ok(Ok(stream)) => {
                    // Without it a request's last part may wait for the answer to its first.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(e)) => last = Some(format!("{address}: {e}")),
                Err(_) => last = Some(format!("{address}: no answer")),
            }
        }
        let reason = last.unwrap_or_else(|| format!("{name} has no address"));
        Err(Problem::new(reason, "Is the service running, and are host and port right?"))
    }

    /// The addresses of a name, those of IPv4 first; never empty.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Problem> {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(vec![ip]);
        }
        let known = self.in_hosts_file(name);
        if !known.is_empty() {
            return Ok(known);
        }
        if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        self.ask_dns(name).await
    }

    fn in_hosts_file(&self, name: &str) -> Vec<IpAddr> {
        match self.world.fs.read(Path::new("/etc/hosts"), HOSTS_FILE_LIMIT) {
            Ok(text) => addresses_in(&String::from_utf8_lossy(&text), name),
            Err(_) => Vec::new(),
        }
    }

    /// A resolver is made for each lookup: lookups happen only when connecting, and a changed `/etc/resolv.conf` or a
    /// moved service is seen without a restart.
    async fn ask_dns(&self, name: &str) -> Result<Vec<IpAddr>, Problem> {
        let remedy = "Is the name right, and does /etc/resolv.conf name a server that knows it?";
        let failed = |e: &dyn std::fmt::Display| Problem::new(format!("looking up {name:?}: {e}"), remedy);
        let mut builder = TokioResolver::builder_tokio().map_err(|e| failed(&e))?;
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = 0;
        let resolver = builder.build().map_err(|e| failed(&e))?;
        let found: Vec<IpAddr> = resolver.lookup_ip(name).await.map_err(|e| failed(&e))?.iter().collect();
        if found.is_empty() { Err(failed(&"it has no address")) } else { Ok(found) }
    }
}

/// The end of the share of the time that the next of so many attempts has.
fn share(deadline: Instant, left: usize) -> Instant {
    let left = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / left
}

/// Puts addresses into an order of chance, those of each family by themselves: many a pod has an IPv6 address to connect to
/// and no way there.
fn shuffle(addresses: &mut [IpAddr], random: &dyn Random) {
    let mut keyed: Vec<(bool, u128, IpAddr)> =
        addresses.iter().map(|address| (address.is_ipv6(), random.u128(), *address)).collect();
    keyed.sort();
    for (place, (_, _, address)) in addresses.iter_mut().zip(keyed) {
        *place = address;
    }
}

/// What a hosts file says of a name.
fn addresses_in(hosts: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut out = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|w| w.trim_end_matches('.').eq_ignore_ascii_case(name)) && !out.contains(&ip) {
            out.push(ip);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pillion_world::{RealRandom, World};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn hosts_file_lines() {
        let text = "127.0.0.1 localhost lo # not this\n::1\tLocalhost\n# 1.2.3.4 es\nfe80::1%eth0 es\n10.0.0.9  es.example es\nbad es\n";
        for (name, want) in [
            ("localhost", vec!["127.0.0.1", "::1"]),
            ("ES", vec!["10.0.0.9"]),
            ("es.example.", vec!["10.0.0.9"]),
            ("not", vec![]),
        ] {
            let got: Vec<String> = addresses_in(text, name).iter().map(IpAddr::to_string).collect();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn each_address_is_the_first_now_and_then_and_no_family_mixes_with_the_other() {
        let all: Vec<IpAddr> = ["::2", "10.0.0.1", "::1", "10.0.0.2", "10.0.0.3"].map(|a| a.parse().unwrap()).into();
        let (mut firsts, mut sixes) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let mut addresses = all.clone();
            shuffle(&mut addresses, &RealRandom);
            assert!(addresses.is_sorted_by_key(IpAddr::is_ipv6), "{addresses:?}");
            firsts.push(addresses[0]);
            sixes.push(addresses[3]);
            addresses.sort();
            let mut sorted = all.clone();
            sorted.sort();
            assert_eq!(addresses, sorted);
        }
        for firsts in [&mut firsts, &mut sixes] {
            firsts.sort();
            firsts.dedup();
        }
        assert_eq!((firsts.len(), sixes.len()), (3, 2));
    }

    #[tokio::test]
    async fn localhost_and_literals_need_no_dns() {
        let c = Connector::new(World::real(), None, Duration::from_secs(5));
        assert_eq!(c.resolve("::1").await.unwrap(), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert!(c.resolve("localhost").await.unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host::parse(&listener.local_addr().unwrap().to_string(), 1).unwrap();
        c.connect(&host, false).await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_connection_says_where_and_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host::parse(&listener.local_addr().unwrap().to_string(), 1).unwrap();
        drop(listener);
        let c = Connector::new(World::real(), None, Duration::from_secs(5));
        let p = c.connect(&host, false).await.unwrap_err();
        assert!(p.reason.contains(&host.to_string()) && p.reason.contains("refused"), "{p}");
        assert!(!p.remedy.is_empty());
    }
}
