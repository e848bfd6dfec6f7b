//! The machine's full name, which `features.fqdn.enabled` puts into `host.name`, as Filebeat 8 and 9 find it; and the address of a
//! host, where processors ask one.
//!
//! Comes in: the short name, `/etc/hosts`, the nameservers and search domains of `/etc/resolv.conf`. Goes out: the full
//! name, or why there is none: then Filebeat takes the short one.
//! Always holds: the hosts file comes first, and the first name of the line that has the short one counts. Else the name
//! that stands first in an answer with addresses counts, with each search domain as Go's resolver tries them. (Filebeat
//! would then ask for the names of the addresses, but finds none that way: both questions look in the same places.)
//! It is over after [`LIMIT`]; Filebeat gives it a minute. Tested below.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use pillion_world::{Mono, World};

use crate::action::dns::ask;

/// How long it may take.
pub const LIMIT: Duration = Duration::from_secs(5);
/// How long one nameserver is waited for.
const ONE: Duration = Duration::from_secs(2);
/// How many search domains are tried at most.
const DOMAINS: usize = 32;
/// A larger hosts file isn't one, bytes.
const HOSTS: usize = 1 << 20;

/// Looks the full name up; it blocks.
///
/// # Errors
/// Nobody knows it.
pub fn full_name(world: &World, short: &str) -> Result<String, String> {
    let hosts = world.fs.read(Path::new("/etc/hosts"), HOSTS).unwrap_or_default();
    let found = match in_hosts(&String::from_utf8_lossy(&hosts), short) {
        Some((_, found)) => found,
        None => in_system(world, short, LIMIT, named)?,
    };
    // Neither tells capitals apart: what the machine calls itself stays.
    Ok(if found.eq_ignore_ascii_case(short) { short.to_owned() } else { found })
}

/// An address of a host, as the hosts file or the nameservers have it; it blocks.
///
/// # Errors
/// Nobody knows it.
pub(crate) fn address(world: &World, host: &str, limit: Duration) -> Result<IpAddr, String> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(address);
    }
    let hosts = world.fs.read(Path::new("/etc/hosts"), HOSTS).unwrap_or_default();
    let of = |answer: &Message| {
        answer.answers.iter().find_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
    };
    match in_hosts(&String::from_utf8_lossy(&hosts), host) {
        Some((address, _)) => Ok(address),
        None => in_system(world, host, limit, of),
    }
}

/// What `take` finds in the answers of the system's nameservers.
fn in_system<T>(world: &World, name: &str, limit: Duration, take: impl Fn(&Message) -> Option<T>) -> Result<T, String> {
    let (system, options) = read_system_conf().map_err(|e| e.to_string())?;
    let servers: Vec<_> = system.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect();
    let domain: Vec<Name> = system.domain().cloned().into_iter().collect();
    let domains = if system.search().is_empty() { &domain } else { system.search() };
    in_dns(world, world.clock.mono().plus(limit.min(LIMIT)), &servers, &candidates(name, domains, options.ndots)?, take)
}

/// The address and the first name of the first line that has this one.
fn in_hosts(hosts: &str, name: &str) -> Option<(IpAddr, String)> {
    let bare = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let address = words.next()?.parse::<IpAddr>().ok()?;
        let names: Vec<String> = words.map(bare).collect();
        names.contains(&bare(name)).then(|| Some((address, names.first().cloned()?)))?
    })
}

/// What is asked for: the name below each domain, and itself; first itself when it has as many dots as `ndots`.
fn candidates(name: &str, domains: &[Name], ndots: usize) -> Result<Vec<Name>, String> {
    let mut own = Name::from_utf8(name).map_err(|e| format!("{name}: {e}"))?;
    let dots = name.bytes().filter(|b| *b == b'.').count();
    let below = domains.iter().take(DOMAINS).filter_map(|domain| own.clone().append_domain(domain).ok());
    let mut all: Vec<Name> = below.collect();
    own.set_fqdn(true);
    all.insert(if dots >= ndots { 0 } else { all.len() }, own);
    Ok(all)
}

/// What `take` finds first in the answers to these names.
fn in_dns<T>(
    world: &World,
    deadline: Mono,
    servers: &[SocketAddr],
    names: &[Name],
    take: impl Fn(&Message) -> Option<T>,
) -> Result<T, String> {
    let mut why = "/etc/resolv.conf names no nameserver".to_owned();
    for name in names {
        for kind in [RecordType::A, RecordType::AAAA] {
            match one(world, deadline, servers, name, kind) {
                Ok(answer) => match take(&answer) {
                    Some(found) => return Ok(found),
                    None => why = format!("{name}: no such host"),
                },
                Err(e) => why = e,
            }
        }
    }
    Err(why)
}

/// One nameserver after the other, until one answers.
fn one(
    world: &World,
    deadline: Mono,
    servers: &[SocketAddr],
    name: &Name,
    kind: RecordType,
) -> Result<Message, String> {
    let mut why = "/etc/resolv.conf names no nameserver".to_owned();
    for server in servers {
        let left = deadline.since(world.clock.mono());
        if left.is_zero() {
            return Err("no answer in time".to_owned());
        }
        match ask(name, kind, *server, left.min(ONE)) {
            Ok(answer) if matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) => {
                return Ok(answer);
            }
            Ok(answer) => why = format!("nameserver {server} returned {}", answer.metadata.response_code),
            Err(e) => why = format!("{server}: {e}"),
        }
    }
    Err(why)
}

/// The name that an answer with addresses, or with another name, gives.
fn named(answer: &Message) -> Option<String> {
    let name = answer.answers.iter().find_map(|record| match &record.data {
        RData::A(_) | RData::AAAA(_) => Some(&record.name),
        RData::CNAME(other) => Some(&other.0),
        _ => None,
    })?;
    Some(name.to_string().trim_end_matches('.').to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};

    use super::*;

    #[test]
    fn the_hosts_file_gives_the_first_name_of_the_line() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.9 other.example web-0\n\n10.0.0.5 Web-0.web.shop.svc.cluster.local. web-0 # pod\n\
                     10.0.0.6 late.example web-0\nno-address x.example web-1\n10.0.0.7 plain\n10.0.0.8\n";
        for (name, want) in [
            ("web-0", Some("web-0.web.shop.svc.cluster.local")),
            ("WEB-0", Some("web-0.web.shop.svc.cluster.local")),
            ("plain", Some("plain")),
            ("web-1", None),
            ("pod", None),
        ] {
            assert_eq!(in_hosts(hosts, name).map(|(_, first)| first).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn domains_come_first_unless_there_are_dots_enough() {
        let domains = ["a.example", "b.example"].map(|domain| Name::from_utf8(domain).unwrap());
        let shown = |name: &str, ndots| -> Vec<String> {
            candidates(name, &domains, ndots).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown("h", 1), ["h.a.example.", "h.b.example.", "h."]);
        assert_eq!(shown("h.x", 1), ["h.x.", "h.x.a.example.", "h.x.b.example."]);
        assert_eq!(shown("h.x", 5).last().map(String::as_str), Some("h.x."));
        assert!(candidates(&"x".repeat(300), &domains, 1).is_err());
    }

    /// A nameserver that knows three names and refuses one.
    fn nameserver() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (size, from) = socket.recv_from(&mut buffer).unwrap();
                let mut answer = Message::from_vec(&buffer[..size]).unwrap().into_response();
                let query = answer.queries[0].clone();
                let alias = || RData::CNAME(CNAME(Name::from_ascii("real.example.").unwrap()));
                let data = match (query.name().to_string().as_str(), query.query_type()) {
                    ("four.example.", RecordType::A) => vec![RData::A(A::new(192, 0, 2, 1))],
                    ("six.example.", RecordType::AAAA) => vec![RData::AAAA(AAAA::new(1, 2, 3, 4, 5, 6, 7, 8))],
                    ("alias.example.", RecordType::A) => vec![alias(), RData::A(A::new(192, 0, 2, 2))],
                    ("six.example.", _) => Vec::new(),
                    ("refused.example.", _) => {
                        answer.metadata.response_code = ResponseCode::Refused;
                        Vec::new()
                    }
                    _ => {
                        answer.metadata.response_code = ResponseCode::NXDomain;
                        Vec::new()
                    }
                };
                data.into_iter().for_each(|data| {
                    answer.add_answer(Record::from_rdata(query.name().clone(), 300, data));
                });
                socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
        });
        address
    }

    #[test]
    fn nameservers_give_the_name_with_addresses() {
        let (world, server) = (World::real(), nameserver());
        let ask = |names: &[&str]| {
            let names: Vec<Name> = names.iter().map(|name| Name::from_ascii(name).unwrap()).collect();
            in_dns(&world, world.clock.mono().plus(LIMIT), &[server], &names, named)
        };
        assert_eq!(ask(&["four.example.other.", "four.example."]).as_deref(), Ok("four.example"));
        assert_eq!(ask(&["six.example."]).as_deref(), Ok("six.example"));
        assert_eq!(ask(&["alias.example."]).as_deref(), Ok("real.example"));
        assert_eq!(ask(&["none.example."]), Err("none.example.: no such host".to_owned()));
        assert!(ask(&["refused.example."]).unwrap_err().ends_with("returned Query Refused"));
        let nobody =
            in_dns(&world, world.clock.mono().plus(LIMIT), &[], &[Name::from_ascii("four.example.").unwrap()], named);
        assert_eq!(nobody, Err("/etc/resolv.conf names no nameserver".to_owned()));
    }

    #[test]
    fn a_silent_nameserver_is_not_waited_for_beyond_the_limit() {
        let world = World::real();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let name = Name::from_ascii("four.example.").unwrap();
        let late = one(&world, world.clock.mono(), &[silent.local_addr().unwrap()], &name, RecordType::A);
        assert_eq!(late.err().as_deref(), Some("no answer in time"));
    }
}
