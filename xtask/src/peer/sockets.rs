//! The inputs `tcp`, `udp`, `unix` and `syslog`: the same bytes sent to both programs.
//!
//! Comes in: nothing but the cases below. Goes out: the verdict, and Filebeat's events for [`super::recorded`].
//! Always holds: what is sent over a stream is sent until its end, and the program has closed the connection before the next
//! case begins; a datagram is sent when its port is bound, so that the kernel keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{Shutdown, shutdown, sockopt};
use rustix::process::Signal;
use serde_json::Value;

use super::compare::{Flat, grouped};
use super::differential::{QUEUE, TO_FILE, filebeat_ends_at, now, verdict, written};
use super::recorded::Compared;
use super::{LIMIT, Pair, Version, pillion_ends, tail};
use crate::child::Child;
use crate::shipper::{Place, Shipper};
use crate::{Outcome, ports, wait};

/// How bytes reach an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Udp,
    Unix,
    UnixDatagram,
}
use Way::{Tcp, Udp, Unix, UnixDatagram as Datagram};

/// One input, and what is sent to it: all of it over one connection, or each as a datagram.
struct Socket {
    name: &'static str,
    way: Way,
    /// The input, as YAML's flow style without the outer braces; `HOST` and `PATH` stand for where it listens.
    input: &'static str,
    send: &'static [&'static [u8]],
}

const fn socket(name: &'static str, way: Way, input: &'static str, send: &'static [&'static [u8]]) -> Socket {
    Socket { name, way, input, send }
}

const LINES: &[&[u8]] = &[b"one\r\ntwo\n\n  three \nw\xff\xfex\nlast without newline"];
const SYSLOG: &[&[u8]] = &[
    b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed\n",
    b"<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!\n",
    b"<165>1 2003-10-11T22:14:15.003Z host.example.com evntslog 111 ID47 [ex@1 iut=\"3\" es=\"a\\\"b\"] msg\n",
    b"<30>app[12]: no time\n",
    b"no syslog at all\n",
    b"<999>Oct 11 22:14:15 m su: priority\n",
    b"<30>2024-01-02T03:04:05Z iso app[12]: with pid\n",
    b"<191>Oct 1 01:02:03.456 h t: m\n",
    b"<34>1 - - - - - -\n",
    b"<34>1 2003-10-11T22:14:15.003+02:00 - - - - - \xef\xbb\xbfmark\n",
    b"<0>\n",
];
const MIXED: &[&[u8]] =
    &[b"<34>Oct 11 22:14:15 mymachine su[5]: x", b"<34>1 2003-10-11T22:14:15Z h a - - - m\n", b"nope"];

/// All cases.
const SOCKETS: &[Socket] = &[
    socket("tcp", Tcp, "type: tcp, host: HOST", LINES),
    socket(
        "tcp-options",
        Tcp,
        "type: tcp, host: HOST, tags: [a, b], fields: {case: tcp-options, k: 1}, fields_under_root: true, keep_null: true, \
         processors: [{add_tags: {tags: [z]}}]",
        LINES,
    ),
    socket("tcp-delimiter", Tcp, "type: tcp, host: HOST, line_delimiter: '|'", &[b"a|b\n|c||d"]),
    socket("tcp-crlf", Tcp, "type: tcp, host: HOST, line_delimiter: \"\\r\\n\"", &[b"a\nb\r\nc\rd\r\n"]),
    socket(
        "tcp-counted",
        Tcp,
        "type: tcp, host: HOST, framing: rfc6587",
        &[b"5 hello3 a\nb<34>non transparent\n7 1234567"],
    ),
    socket("tcp-counted-short", Tcp, "type: tcp, host: HOST, framing: rfc6587", &[b"5 hello\n3 abc"]),
    socket("tcp-control", Tcp, "type: tcp, host: HOST", &[b"a\0b\n\0\n\r\n\r\r\n x\t\n"]),
    socket("tcp-network", Tcp, "type: tcp, host: HOST, network: tcp4", &[b"a\n"]),
    socket(
        "tcp-pipeline",
        Tcp,
        "type: tcp, host: HOST, index: 'x-%{[agent.version]}', pipeline: p, publisher_pipeline.disable_host: true",
        &[b"a\n"],
    ),
    socket(
        "tcp-json",
        Tcp,
        "type: tcp, host: HOST, processors: [{decode_json_fields: {fields: [message], target: '', overwrite_keys: true, \
         add_error_key: true}}]",
        &[b"{\"message\":\"x\",\"a\":1}\n{bad\n"],
    ),
    socket("udp", Udp, "type: udp, host: HOST", &[b"one\n", b"two", b"", b"a\nb\n", b"\xff\xfe", b" sp "]),
    socket("udp-longer", Udp, "type: udp, host: HOST, max_message_size: 10B", &[b"short", &[b'x'; 50], b"after"]),
    socket("udp-options", Udp, "type: udp, host: HOST, tags: [a], read_buffer: 1MiB, timeout: 10s", &[b"one"]),
    socket("unix", Unix, "type: unix, path: PATH", LINES),
    socket(
        "unix-delimiter",
        Unix,
        "type: unix, path: PATH, line_delimiter: '|', max_message_size: 1KiB, mode: '0600'",
        &[b"a|b|c"],
    ),
    socket("unix-counted", Unix, "type: unix, path: PATH, framing: rfc6587", &[b"3 abc2 de<1>x\n"]),
    socket("unix-datagram", Datagram, "type: unix, path: PATH, socket_type: datagram", &[b"one\n", b"two", b"a\nb"]),
    socket("syslog", Tcp, "type: syslog, protocol.tcp: {host: HOST}", SYSLOG),
    socket("syslog-3164", Tcp, "type: syslog, format: rfc3164, protocol.tcp: {host: HOST}", SYSLOG),
    socket("syslog-5424", Tcp, "type: syslog, format: rfc5424, protocol.tcp: {host: HOST}", SYSLOG),
    socket("syslog-auto", Tcp, "type: syslog, format: auto, protocol.tcp: {host: HOST}", SYSLOG),
    socket("syslog-udp", Udp, "type: syslog, format: auto, protocol.udp: {host: HOST}", SYSLOG),
    socket("syslog-unix", Unix, "type: syslog, protocol.unix: {path: PATH}", SYSLOG),
];

/// Those with what 7.17 doesn't have.
const NINE: &[Socket] = &[
    socket(
        "tcp-syslog",
        Tcp,
        "type: tcp, host: HOST, processors: [{syslog: {field: message}}]",
        &[b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed\n<165>1 2003-10-11T22:14:15.003Z host evntslog 111 ID47 [ex@1 iut=\"3\"] msg\nnone\n"],
    ),
];

/// Those with a time zone, each in a process of its own: in Filebeat it becomes the local one of the whole process.
const ZONES: &[Socket] = &[socket(
    "syslog-zone",
    Tcp,
    "type: syslog, format: auto, timezone: America/New_York, protocol.tcp: {host: HOST}",
    SYSLOG,
)];
const NINES_ZONES: &[Socket] = &[socket(
    "udp-syslog",
    Udp,
    "type: udp, host: HOST, processors: [{syslog: {field: message, format: auto, timezone: '+0200'}}]",
    MIXED,
)];

/// What runs together.
fn runs(version: Version) -> Vec<Vec<&'static Socket>> {
    let (more, zones) = if version == Version::Nine { (NINE, NINES_ZONES) } else { (&[][..], &[][..]) };
    let alone = ZONES.iter().chain(zones).map(|socket| vec![socket]);
    std::iter::once(SOCKETS.iter().chain(more).collect()).chain(alone).collect()
}

/// Where each case's input listens.
struct Listening {
    ports: Vec<(&'static Socket, u16)>,
    folder: PathBuf,
}

impl Listening {
    fn at(place: &Place, sockets: &[&'static Socket]) -> Outcome<Listening> {
        let free = |&socket: &&'static Socket| {
            let port = if socket.way == Udp { ports::free_udp() } else { ports::free() };
            port.map(|port| (socket, port))
        };
        Ok(Listening { ports: sockets.iter().map(free).collect::<Outcome<_>>()?, folder: place.folder().to_path_buf() })
    }

    fn path(&self, socket: &Socket) -> PathBuf {
        self.folder.join(socket.name)
    }

    fn config(&self) -> String {
        let input = |(socket, port): &(&Socket, u16)| {
            let own = if socket.input.contains("fields: {case") {
                String::new()
            } else {
                format!(", fields: {{case: {}}}", socket.name)
            };
            let path = format!("'{}'", self.path(socket).display());
            format!(
                "- {{{}{own}}}\n",
                socket.input.replace("HOST", &format!("'127.0.0.1:{port}'")).replace("PATH", &path)
            )
        };
        let inputs: String = self.ports.iter().map(input).collect();
        format!("filebeat.inputs:\n{inputs}{QUEUE}{TO_FILE}")
    }

    /// Sends all of every case, one after the other.
    fn feed(&self, child: &mut Child, log: &Path) -> Outcome {
        for &(socket, port) in &self.ports {
            wait::until(&format!("{} to listen", socket.name), LIMIT, || {
                if let Some(ended) = child.ended()? {
                    return Err(format!("it ended: {}; {}", ended.status, tail(log)));
                }
                Ok(self.send(socket, port).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Sends all of one case; `false` when nobody listens yet.
    fn send(&self, socket: &Socket, port: u16) -> bool {
        match socket.way {
            Tcp => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(|peer| stream(peer, socket.send)).is_ok(),
            Unix => UnixStream::connect(self.path(socket)).map(|peer| stream(peer, socket.send)).is_ok(),
            Udp => {
                let Ok(peer) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else { return false };
                is_bound(port)
                    && socket.send.iter().all(|bytes| peer.send_to(bytes, (Ipv4Addr::LOCALHOST, port)).is_ok())
            }
            Datagram => {
                let Ok(peer) = UnixDatagram::unbound() else { return false };
                peer.connect(self.path(socket)).is_ok() && socket.send.iter().all(|bytes| peer.send(bytes).is_ok())
            }
        }
    }
}

/// Sends all, then waits until the other side has closed, as both programs do at the end. One that closes early shows by its events.
fn stream(mut peer: impl Read + Write + AsFd, send: &[&[u8]]) {
    let _ = sockopt::set_socket_timeout(&peer, sockopt::Timeout::Recv, Some(LIMIT));
    let sent = send.iter().try_for_each(|bytes| peer.write_all(bytes));
    let _ = sent.and_then(|()| Ok(shutdown(&peer, Shutdown::Write)?));
    let _ = peer.read_to_end(&mut Vec::new());
}

/// Whether somebody has this UDP port on loopback.
fn is_bound(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let mut local = table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(1));
    local.any(|address| address.ends_with(&format!(":{port:04X}")))
}

/// Both programs side by side: what was compared, and Filebeat's events.
pub(super) fn compare(pair: &Pair) -> Outcome<Compared> {
    let (mut filebeat, mut pillion) = (BTreeMap::new(), BTreeMap::new());
    for sockets in runs(pair.version) {
        let ours = events(pair, &sockets, &pair.pillion, None)?;
        let count = ours.values().map(Vec::len).sum();
        pillion.extend(ours);
        filebeat.extend(events(pair, &sockets, &pair.filebeat, Some(count))?);
    }
    let names: Vec<&str> = runs(pair.version).concat().iter().map(|socket| socket.name).collect();
    let said = verdict(pair.version, &names, false, &filebeat, &pillion)?;
    Ok((said, filebeat))
}

/// Pillion's events.
pub(super) fn pillions(pair: &Pair) -> Outcome<BTreeMap<String, Vec<Flat>>> {
    let mut all = BTreeMap::new();
    for sockets in runs(pair.version) {
        all.extend(events(pair, &sockets, &pair.pillion, None)?);
    }
    Ok(all)
}

/// What a program makes of it all. Pillion drains when it is told to end; of Filebeat, `count` events are awaited before.
fn events(
    pair: &Pair,
    sockets: &[&'static Socket],
    shipper: &Shipper,
    count: Option<usize>,
) -> Outcome<BTreeMap<String, Vec<Flat>>> {
    let place = &Place::new()?;
    let listening = Listening::at(place, sockets)?;
    place.configure(&listening.config())?;
    let begin = now(place)?;
    let out = place.home().join("out");
    let more: &[&str] = if count.is_some() { &["-E", "filebeat.shutdown_timeout=5s"] } else { &[] };
    let mut child = pair.start(shipper, place, more)?;
    listening.feed(&mut child, &place.log())?;
    match count {
        Some(count) => filebeat_ends_at(child, place, &|| written(&out), count)?,
        None => {
            child.signal(Signal::TERM);
            pillion_ends(child, place)?;
        }
    }
    let mut all = grouped(&written(&out), &begin, case)?;
    all.values_mut().flatten().for_each(|event| without_place(event, &listening.folder));
    Ok(all)
}

fn case(event: &Flat) -> String {
    let name = event.get("fields.case").or_else(|| event.get("case")).and_then(Value::as_str);
    name.unwrap_or("?").to_owned()
}

/// Ports and folders are another run's.
fn without_place(event: &mut Flat, folder: &Path) {
    if let Some(Value::String(address)) = event.get_mut("log.source.address") {
        match address.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => *address = format!("{host}:PORT"),
            _ => *address = address.replace(&folder.display().to_string(), "FOLDER"),
        }
    }
}
