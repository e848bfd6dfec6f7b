//! add_network_direction, community_id: from addresses and ports to what they mean.

use std::net::IpAddr;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, required, required_list};
use crate::condition::Network;
use crate::doc::Doc;

#[derive(Debug)]
struct Direction {
    source: String,
    destination: String,
    target: String,
    internal: Vec<Network>,
}

fn address(doc: &mut Doc<'_>, field: &str) -> Option<IpAddr> {
    doc.text(field)?.parse().ok()
}

impl Action for Direction {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let inside = |ip: IpAddr| self.internal.iter().any(|network| network.contains(ip));
        let (Some(from), Some(to)) = (address(doc, &self.source), address(doc, &self.destination)) else {
            return Ok(Done::Keep);
        };
        let direction = match (inside(from), inside(to)) {
            (true, true) => "internal",
            (true, false) => "outbound",
            (false, true) => "inbound",
            (false, false) => "external",
        };
        // As in Filebeat, a target that can't be written isn't an error.
        let _ = doc.put(&self.target, Value::from(direction));
        Ok(Done::Keep)
    }
}

pub(super) fn direction(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let mut internal = Vec::new();
    for name in required_list(s, "internal_networks")? {
        internal.push(Network::parse(&name).ok_or_else(|| {
            s.error("internal_networks", format!("`{name}` is no network"), "give one such as 10.0.0.0/8, or `private`")
        })?);
    }
    Ok(Box::new(Direction {
        source: required(s, "source")?,
        destination: required(s, "destination")?,
        target: required(s, "target")?,
        internal,
    }))
}

#[derive(Debug)]
struct CommunityId {
    fields: Fields,
    target: String,
    seed: u16,
}

#[derive(Debug)]
struct Fields {
    source_ip: String,
    source_port: String,
    destination_ip: String,
    destination_port: String,
    iana_number: String,
    transport: String,
    icmp_type: String,
    icmp_code: String,
}

const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// Protocols with ports.
const PORTS: [u8; 3] = [6, 17, 132];

const TRANSPORTS: &[(&str, u8)] = &[
    ("icmp", ICMP),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("ipv6-icmp", ICMP6),
    ("icmpv6", ICMP6),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("sctp", 132),
];

/// Which ICMP type answers which, as the Community ID specification has it; those that aren't here go one way.
const ANSWERS: &[(u8, u8, u8)] = &[
    (ICMP, 8, 0),
    (ICMP, 0, 8),
    (ICMP, 13, 14),
    (ICMP, 14, 13),
    (ICMP, 15, 16),
    (ICMP, 10, 9),
    (ICMP, 9, 10),
    (ICMP, 17, 18),
    (ICMP, 18, 17),
    (ICMP6, 128, 129),
    (ICMP6, 129, 128),
    (ICMP6, 133, 134),
    (ICMP6, 134, 133),
    (ICMP6, 136, 135),
    (ICMP6, 135, 136),
    (ICMP6, 130, 131),
    (ICMP6, 139, 140),
    (ICMP6, 140, 139),
    (ICMP6, 144, 145),
    (ICMP6, 145, 144),
];

/// A number, or a text that is one in Go's syntax.
fn number(doc: &mut Doc<'_>, field: &str) -> Option<u64> {
    match doc.get(field).ok()?.to_value() {
        Value::Number(n) => n.as_u64(),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        },
        _ => None,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl CommunityId {
    fn protocol(&self, doc: &mut Doc<'_>) -> Option<u8> {
        let field =
            if doc.get(&self.fields.iana_number).is_ok() { &self.fields.iana_number } else { &self.fields.transport };
        let name = doc.text(field).map(|name| name.to_lowercase());
        match name.and_then(|name| TRANSPORTS.iter().find(|(known, _)| *known == name)) {
            Some((_, protocol)) => Some(*protocol),
            // Go keeps the low byte.
            None => number(doc, field).map(|n| n as u8),
        }
    }

    /// `1:` and the hash; `None` when the event tells of no flow.
    fn id(&self, doc: &mut Doc<'_>) -> Option<String> {
        let mut from = octets(address(doc, &self.fields.source_ip)?);
        let mut to = octets(address(doc, &self.fields.destination_ip)?);
        let protocol = self.protocol(doc)?;
        let mut ports = (0_u16, 0_u16);
        let mut one_way = false;
        if PORTS.contains(&protocol) {
            ports.0 = u16::try_from(number(doc, &self.fields.source_port)?).ok()?;
            ports.1 = u16::try_from(number(doc, &self.fields.destination_port)?).ok()?;
        } else if protocol == ICMP || protocol == ICMP6 {
            let read = number(doc, &self.fields.icmp_type).zip(number(doc, &self.fields.icmp_code));
            let (kind, code) = read.map_or((0, 0), |(kind, code)| (kind as u8, code as u8));
            let answer = ANSWERS.iter().find(|(of, asks, _)| *of == protocol && *asks == kind);
            one_way = answer.is_none();
            ports = (u16::from(kind), u16::from(answer.map_or(code, |(_, _, answers)| *answers)));
        }
        if !one_way && (&from, ports.0) > (&to, ports.1) {
            std::mem::swap(&mut from, &mut to);
            ports = (ports.1, ports.0);
        }
        let mut hashed = self.seed.to_be_bytes().to_vec();
        hashed.extend(from);
        hashed.extend(to);
        hashed.extend([protocol, 0]);
        if PORTS.contains(&protocol) || protocol == ICMP || protocol == ICMP6 {
            hashed.extend(ports.0.to_be_bytes());
            hashed.extend(ports.1.to_be_bytes());
        }
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed);
        Some(format!("1:{}", STANDARD.encode(hash)))
    }
}

impl Action for CommunityId {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        if doc.get(&self.target).is_err()
            && let Some(id) = self.id(doc)
        {
            doc.put(&self.target, Value::String(id))?;
        }
        Ok(Done::Keep)
    }
}

pub(super) fn community_id(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let field = |key: &str, default: &str| -> Result<String, Error> {
        let own = s.str(&format!("fields.{key}"))?;
        Ok(own.unwrap_or_else(|| default.to_owned()))
    };
    let fields = Fields {
        source_ip: field("source_ip", "source.ip")?,
        source_port: field("source_port", "source.port")?,
        destination_ip: field("destination_ip", "destination.ip")?,
        destination_port: field("destination_port", "destination.port")?,
        iana_number: field("iana_number", "network.iana_number")?,
        transport: field("transport", "network.transport")?,
        icmp_type: field("icmp_type", "icmp.type")?,
        icmp_code: field("icmp_code", "icmp.code")?,
    };
    let target = s.str("target")?.filter(|t| !t.is_empty()).unwrap_or_else(|| "network.community_id".to_owned());
    let seed = s.u64_in("seed", 0..=u64::from(u16::MAX))?.unwrap_or(0) as u16;
    Ok(Box::new(CommunityId { fields, target, seed }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::{Value, json};

    /// `add_network_direction_test.go`, 9.
    #[test]
    fn directions() {
        for (from, to, networks, want) in [
            ("1.1.1.1", "8.8.8.8", "[private]", json!("external")),
            ("192.168.1.1", "192.168.1.2", "[private]", json!("internal")),
            ("10.0.0.1", "8.8.8.8", "10.0.0.0/8", json!("outbound")),
            ("8.8.8.8", "fd00::1", "[fd00::/8, loopback]", json!("inbound")),
            ("wrong", "8.8.8.8", "[private]", Value::Null),
        ] {
            let options = format!("source: s, destination: d, target: net.direction, internal_networks: {networks}");
            let event = json!({"message": "m", "s": from, "d": to});
            let got = processed(&format!("[{{add_network_direction: {{{options}}}}}]"), event);
            assert_eq!(got["net"]["direction"], want, "{from} {to}");
        }
    }

    /// `communityid_test.go`, 9, and the specification's own table.
    #[test]
    fn community_ids() {
        let event = |transport: Value, from: (&str, u64), to: (&str, u64)| {
            json!({"message": "m", "source": {"ip": from.0, "port": from.1},
                "destination": {"ip": to.0, "port": to.1}, "network": {"transport": transport}})
        };
        let (a, b) = (("128.232.110.120", 34855), ("66.35.250.204", 80));
        let tcp = "1:LQU9qZlK+B5F3KDmev6m5PMibrg=";
        for (processor, event, want) in [
            ("community_id: ~", event(json!("tcp"), a, b), json!(tcp)),
            ("community_id: ~", event(json!("TCP"), b, a), json!(tcp)),
            ("community_id: ~", event(json!(6), a, b), json!(tcp)),
            ("community_id: {seed: 1}", event(json!("tcp"), a, b), json!("1:3V71V58M3Ksw/yuFALMcW0LAHvc=")),
            ("community_id: ~", event(json!("xyz"), a, b), Value::Null),
            ("community_id: ~", event(json!("tcp"), ("x", 1), b), Value::Null),
        ] {
            let got = processed(&format!("[{{{processor}}}]"), event.clone());
            assert_eq!(got["network"]["community_id"], want, "{processor} {event}");
        }
        let mut ping = event(json!("icmp"), ("192.168.0.89", 0), ("192.168.0.1", 0));
        ping["icmp"] = json!({"type": 8, "code": 0});
        let got = processed("[{community_id: {target: id}}]", ping);
        assert_eq!(got["id"], json!("1:X0snYXpgwiv9TZtqg64sgzUn6Dk="));
    }
}
