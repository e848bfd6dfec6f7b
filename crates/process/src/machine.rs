//! `add_host_metadata` and `add_observer_metadata`: what is known of the machine.
//!
//! Comes in: the options, then the machine's name and the file system ([`Machine::look`]). Goes out: `host.*` or `observer.*`, the same for every
//! event: it is put into the input's description and costs nothing for each line.
//!
//! Always holds: the machine is looked at once, when its inputs begin; what isn't there (an image without
//! `/etc/os-release`, a machine without an id) is left out. No name service is asked.
//! Tested below.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::OnceLock;

use pillion_config::{Error, Section};
use pillion_world::World;
use serde_json::{Map, Value};

use crate::action::{Action, Constant, Done};
use crate::doc::Doc;
use crate::options::Outside;

/// The options of `add_host_metadata`, by their first names.
pub(crate) const HOST_OPTIONS: &[&str] =
    &["netinfo", "cache", "expire_update_timeout", "geo", "replace_fields", "name"];
/// The options of `add_observer_metadata`.
pub(crate) const OBSERVER_OPTIONS: &[&str] = &["netinfo", "cache", "geo", "overwrite"];

const GEO: [&str; 7] =
    ["name", "location", "continent_name", "country_iso_code", "region_name", "region_iso_code", "city_name"];

/// A file of the machine's larger than this isn't one.
const FILE: usize = 1 << 20;
/// The most addresses and interfaces that are told.
const ADDRESSES: usize = 256;

/// One of the two processors.
#[derive(Debug)]
pub struct Machine {
    observer: bool,
    netinfo: bool,
    geo: Map<String, Value>,
    name: Option<String>,
    /// `replace_fields`, `overwrite`.
    replace: bool,
    /// As 8 and 9: `host.name` is the machine's name, whatever the setting `name` says, and hardware addresses are
    /// written `00-1B-…`, else `00:1b:…`.
    modern: bool,
    known: OnceLock<Map<String, Value>>,
}

impl Machine {
    /// Looks at the machine, which is called `name`; the first look counts.
    pub fn look(&self, world: &World, name: &str) {
        self.known.get_or_init(|| self.facts(world, name));
    }

    fn facts(&self, world: &World, name: &str) -> Map<String, Value> {
        let mut out = Map::new();
        if self.observer {
            insert(&mut out, "hostname", line(world, "/proc/sys/kernel/hostname").map(Value::from));
        } else {
            out = machine(world);
            let name = self.modern.then(|| name.to_lowercase());
            insert(&mut out, "name", self.name.clone().or(name).map(Value::from));
        }
        if self.netinfo {
            insert(&mut out, "ip", Some(Value::from(addresses(world))).filter(is_list));
            insert(&mut out, "mac", Some(Value::from(self.hardware(world))).filter(is_list));
        }
        if !self.geo.is_empty() {
            out.insert("geo".to_owned(), Value::Object(self.geo.clone()));
        }
        [(self.target().to_owned(), Value::Object(out))].into_iter().collect()
    }

    fn target(&self) -> &'static str {
        if self.observer { "observer" } else { "host" }
    }

    fn hardware(&self, world: &World) -> Vec<String> {
        let address = |name: &String| {
            let text = read(world, &format!("/sys/class/net/{name}/address"))?;
            let text = text.trim();
            let empty = text.is_empty() || text.bytes().all(|b| matches!(b, b'0' | b':'));
            let shown = if self.modern { text.to_uppercase().replace(':', "-") } else { text.to_owned() };
            (!empty).then_some(shown)
        };
        let mut all: Vec<String> = interfaces(world).iter().filter_map(address).collect();
        if self.modern {
            all.sort_unstable();
            all.dedup();
        }
        all
    }

    /// Whether the event has something of its own there that stays.
    fn stays(&self, doc: &mut Doc<'_>) -> bool {
        if self.replace {
            return false;
        }
        match doc.get(self.target()).map(|got| got.to_value()) {
            Err(_) => false,
            // What Filebeat itself adds doesn't count.
            Ok(Value::Object(map)) if !self.observer => !(map.len() == 1 && map.contains_key("name")),
            Ok(_) => true,
        }
    }
}

/// What the machine is: its name, architecture and id, whether it is a container, its system.
pub fn machine(world: &World) -> Map<String, Value> {
    let mut out = Map::new();
    insert(&mut out, "hostname", line(world, "/proc/sys/kernel/hostname").map(Value::from));
    let architecture = line(world, "/proc/sys/kernel/arch").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    insert(&mut out, "architecture", Some(Value::from(architecture)));
    let id = line(world, "/etc/machine-id").or_else(|| line(world, "/var/lib/dbus/machine-id"));
    insert(&mut out, "id", id.map(Value::from));
    let cgroups = read(world, "/proc/1/cgroup");
    insert(&mut out, "containerized", cgroups.map(|text| Value::Bool(is_container(&text))));
    let release = read(world, "/etc/os-release").or_else(|| read(world, "/usr/lib/os-release"));
    let kernel = line(world, "/proc/sys/kernel/osrelease");
    insert(&mut out, "os", Some(Value::Object(os(&release.unwrap_or_default(), kernel))));
    out
}

fn line(world: &World, path: &str) -> Option<String> {
    let text = read(world, path)?;
    text.lines().next().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty())
}

fn is_list(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty())
}

fn insert(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value);
    }
}

fn read(world: &World, path: &str) -> Option<String> {
    let bytes = world.fs.read(Path::new(path), FILE).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_container(cgroups: &str) -> bool {
    ["docker", "kubepods", "containerd", "libpod"].iter().any(|word| cgroups.contains(word))
}

/// `host.os` from the text of `os-release`.
fn os(release: &str, kernel: Option<String>) -> Map<String, Value> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let text = line.trim().trim_matches(['"', '\'']).to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let mut out = Map::new();
    let platform = value("ID");
    insert(&mut out, "type", Some(Value::from("linux")));
    insert(&mut out, "family", platform.as_deref().and_then(family).map(Value::from));
    insert(&mut out, "platform", platform.map(Value::from));
    insert(&mut out, "name", value("NAME").map(Value::from));
    insert(&mut out, "version", value("VERSION").or_else(|| value("VERSION_ID")).map(Value::from));
    insert(&mut out, "codename", value("VERSION_CODENAME").map(Value::from));
    insert(&mut out, "kernel", kernel.map(Value::from));
    out
}

fn family(platform: &str) -> Option<&'static str> {
    let platform = if platform.starts_with("opensuse") { "opensuse" } else { platform };
    Some(match platform {
        "redhat" | "fedora" | "centos" | "scientific" | "oraclelinux" | "ol" | "amzn" | "rhel" | "almalinux"
        | "openeuler" | "rocky" => "redhat",
        "debian" | "ubuntu" | "raspbian" | "linuxmint" => "debian",
        "suse" | "sles" | "opensuse" => "suse",
        "arch" | "antergos" | "manjaro" => "arch",
        "alpine" => "alpine",
        _ => return None,
    })
}

/// The names of the interfaces besides loopback, in the kernel's order.
fn interfaces(world: &World) -> Vec<String> {
    const LOOPBACK: u32 = 8;
    let mut names = Vec::new();
    let _ = world.fs.read_dir(Path::new("/sys/class/net"), &mut |entry| {
        names.push(entry.name.to_string_lossy().into_owned());
        names.len() < ADDRESSES
    });
    let index = |name: &String| -> u32 {
        let text = read(world, &format!("/sys/class/net/{name}/ifindex"));
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX)
    };
    names.sort_by_cached_key(index);
    let flags = |name: &str| {
        let text = read(world, &format!("/sys/class/net/{name}/flags"))?;
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    names.retain(|name| flags(name).is_some_and(|flags| flags & LOOPBACK == 0));
    names
}

/// The addresses of these interfaces: IPv4's stand in the routes to the machine itself, IPv6's in a list.
fn addresses(world: &World) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut last = "";
    let routes = read(world, "/proc/net/fib_trie").unwrap_or_default();
    for line in routes.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line.starts_with("/32 host LOCAL") && !last.starts_with("127.") && !out.iter().any(|a| a == last) {
            out.push(last.to_owned());
        }
    }
    out.extend(wide_addresses(&read(world, "/proc/net/if_inet6").unwrap_or_default()));
    out.truncate(ADDRESSES);
    out
}

/// IPv6's, by interface; of one, those of the widest scope come first, as the kernel has them.
fn wide_addresses(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in list.lines() {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [address, index, _, scope, _, name] = parts.as_slice() else { continue };
        let hex = |text: &str| u32::from_str_radix(text, 16).unwrap_or(u32::MAX);
        if let (Ok(address), true) = (u128::from_str_radix(address, 16), *name != "lo") {
            // 0x00 is global, 0x40 of a site, 0x20 of a link.
            let narrow = match hex(scope) {
                0 => 0,
                0x40 => 1,
                _ => 2,
            };
            found.push((hex(index), narrow, Ipv6Addr::from(address).to_string()));
        }
    }
    found.sort_by_key(|(index, narrow, _)| (*index, *narrow));
    found.into_iter().map(|(_, _, address)| address).collect()
}

impl Action for Machine {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        if let Some(known) = self.known.get()
            && !self.stays(doc)
        {
            if self.observer && self.replace {
                let _ = doc.delete(self.target());
            }
            doc.merge(known.clone(), true);
        }
        Ok(Done::Keep)
    }

    fn constant(&self) -> Option<Constant> {
        // `observer` replaces what is there, and doesn't merge with it.
        let plain = self.replace && !self.observer;
        self.known.get().filter(|_| plain).map(|known| Constant { fields: known.clone(), tags: Vec::new() })
    }

    fn outside(&self) -> Option<Outside<'_>> {
        Some(Outside::Machine(self))
    }
}

fn geo(s: &Section<'_>) -> Result<Map<String, Value>, Error> {
    let mut out = Map::new();
    let Some(own) = s.section("geo")? else { return Ok(out) };
    for key in GEO {
        if let Some(text) = own.str(key)?.filter(|text| !text.trim().is_empty()) {
            let number = |part: &str| part.trim().parse::<f64>().is_ok();
            if key == "location" && !text.split_once(',').is_some_and(|(lat, lon)| number(lat) && number(lon)) {
                return Err(own.error(key, "this is no place", "write latitude and longitude: `40.7, -74.0`"));
            }
            out.insert(key.to_owned(), Value::String(text));
        }
    }
    Ok(out)
}

/// `add_host_metadata`.
pub(crate) fn host(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    s.duration("cache.ttl")?;
    s.duration("expire_update_timeout")?;
    Ok(Box::new(Machine {
        observer: false,
        netinfo: s.bool("netinfo.enabled")?.unwrap_or(true),
        geo: geo(s)?,
        name: s.str("name")?.filter(|name| !name.is_empty()),
        replace: s.bool("replace_fields")?.unwrap_or(true),
        modern: s.compat().is_modern(),
        known: OnceLock::new(),
    }))
}

/// `add_observer_metadata`.
pub(crate) fn observer(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    s.duration("cache.ttl")?;
    Ok(Box::new(Machine {
        observer: true,
        netinfo: s.bool("netinfo.enabled")?.unwrap_or(true),
        geo: geo(s)?,
        name: None,
        replace: s.bool("overwrite")?.unwrap_or(false),
        modern: s.compat().is_modern(),
        known: OnceLock::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::on_event;
    use serde_json::json;

    fn machine(observer: bool, replace: bool, known: &Value) -> Machine {
        let known = known.as_object().cloned().unwrap_or_default();
        let (netinfo, geo, name) = (true, Map::new(), None);
        Machine { observer, netinfo, geo, name, replace, modern: true, known: OnceLock::from(known) }
    }

    fn after(machine: &Machine, event: Value) -> Value {
        on_event(event, |doc| {
            doc.enter(crate::doc::Stage::Global);
            machine.run(doc).unwrap();
            doc.get(machine.target()).map(|got| got.to_value()).unwrap_or_default()
        })
    }

    /// `add_host_metadata_test.go`, `add_observer_metadata_test.go`, 9.
    #[test]
    fn what_is_there_is_replaced_or_stays() {
        let host = json!({"host": {"hostname": "h", "os": {"type": "linux"}}});
        let facts = host["host"].clone();
        for (replace, own, want) in [
            (true, Value::Null, facts),
            (
                true,
                json!({"name": "n", "os": {"type": "x"}}),
                json!({"name": "n", "os": {"type": "linux"}, "hostname": "h"}),
            ),
            (false, json!({"name": "n"}), json!({"name": "n", "hostname": "h", "os": {"type": "linux"}})),
            (false, json!({"name": "n", "id": 1}), json!({"name": "n", "id": 1})),
        ] {
            let event = if own.is_null() { json!({"message": "m"}) } else { json!({"message": "m", "host": own}) };
            assert_eq!(after(&machine(false, replace, &host), event), want);
        }
        let observer = json!({"observer": {"hostname": "h"}});
        for (replace, want) in [(true, json!({"hostname": "h"})), (false, json!({"type": "x"}))] {
            let event = json!({"message": "m", "observer": {"type": "x"}});
            assert_eq!(after(&machine(true, replace, &observer), event), want);
        }
    }

    #[test]
    fn what_the_system_is_called() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n\
                      VERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(
            json!(os(debian, Some("6.1.0".into()))),
            json!({"type": "linux", "family": "debian", "platform": "debian", "name": "Debian GNU/Linux",
                "version": "12 (bookworm)", "codename": "bookworm", "kernel": "6.1.0"})
        );
        assert_eq!(
            json!(os("NAME='Alpine Linux'\nID=alpine\nVERSION_ID=3.20.1\n", None)),
            json!({"type": "linux", "family": "alpine", "platform": "alpine", "name": "Alpine Linux", "version": "3.20.1"})
        );
        assert_eq!(json!(os("", None)), json!({"type": "linux"}));
        assert_eq!((family("opensuse-leap"), family("rocky"), family("nixos")), (Some("suse"), Some("redhat"), None));
        assert!(is_container("0::/kubepods/burstable/x") && !is_container("0::/init.scope"));
    }

    #[test]
    fn wide_addresses_in_the_kernels_order() {
        let list = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n\
                    fd000000000000000000000000000002 04 40 00 82     eth0\n\
                    fe800000000000000000000000000003 02 40 20 80     eth1\ncut 01\n";
        assert_eq!(wide_addresses(list), ["fe80::3", "fd00::2", "fe80::fc:ff:fe00:1"]);
    }

    /// The real machine, whatever it is: its name and kernel are known, and no address of loopback is told.
    #[test]
    fn the_machine_itself() {
        let machine = Machine { known: OnceLock::new(), ..machine(false, true, &Value::Null) };
        machine.look(&World::real(), "Host.example");
        let facts = Value::Object(machine.known.get().cloned().unwrap_or_default());
        let text = |path: &str| facts.pointer(path).and_then(Value::as_str).is_some_and(|t| !t.is_empty());
        assert!(text("/host/hostname") && text("/host/os/kernel") && text("/host/architecture"), "{facts}");
        assert_eq!(facts.pointer("/host/name"), Some(&json!("host.example")));
        let old = Machine { modern: false, known: OnceLock::new(), ..machine };
        old.look(&World::real(), "Host.example");
        assert_eq!(old.known.get().and_then(|known| known["host"].get("name")), None);
        let all = facts.to_string();
        assert!(!all.contains("\"127.") && !all.contains("\"::1\""), "{facts}");
    }
}
