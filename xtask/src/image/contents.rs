//! What lies in the image, and where.
//!
//! Comes in: the executable, busybox, the authorities' certificates, and texts. Goes out: the root file system's entries,
//! sorted.
//! Always holds: every folder of a path is there, before it; all belongs to root, and only /tmp and Filebeat's data and logs
//! may be written by others, so that it runs as any user; each shell is Pillion, and only `busybox` itself the real one.

use std::collections::BTreeMap;

use super::tar::{Entry, Kind};
use crate::Outcome;

/// Files that come from outside the repository.
pub(super) struct Parts {
    pub(super) pillion: Vec<u8>,
    pub(super) busybox: Vec<u8>,
    pub(super) certificates: Vec<u8>,
    /// What Debian says of the licences of busybox and of the certificates.
    pub(super) copyrights: Vec<(&'static str, Vec<u8>)>,
    pub(super) sbom: String,
}

/// The names that are Pillion: itself, Filebeat, the entry point of Elastic's images, and every shell of theirs and ours. A
/// shell that is a container's first process must outlive its script until all is delivered.
const PILLION: &[(&str, &str)] = &[
    ("usr/bin/sh", "pillion"),
    ("usr/bin/ash", "pillion"),
    ("usr/bin/bash", "pillion"),
    ("usr/local/bin/docker-entrypoint", "../../bin/pillion"),
    ("usr/share/filebeat/filebeat", "../../bin/pillion"),
];

/// Busybox' commands for scripts and for people who look around; what administers a machine isn't for a sidecar.
const APPLETS: &str = "[ [[ arch awk base64 basename bunzip2 bzcat bzip2 cal cat chgrp chmod chown chroot clear cmp cp crc32 cut \
    date dc dd df diff dirname dmesg du echo egrep env expand expr factor false fgrep find fold free getopt grep \
    groups gunzip gzip head hexdump hostid hostname id ip ipcalc kill killall less link ln logger logname ls \
    lzcat md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nl nproc nsenter nslookup od paste patch \
    pidof ping printf ps pwd readlink realpath renice reset rev rm rmdir sed seq setsid sha1sum sha256sum \
    sha3sum sha512sum shred shuf sleep sort ssl_client stat strings stty sync tac tail tar taskset tee telnet \
    test time timeout top touch tr traceroute true truncate tty umount uname unexpand uniq unlink unlzma unshare \
    unxz unzip uptime usleep uudecode uuencode vi watch wc wget which who whoami xargs xxd xz xzcat yes zcat";

/// Which Debian's busybox hasn't, and people put before what they run in the background.
const NOHUP: &str = "#!/bin/sh\ntrap '' HUP\nexec \"$@\"\n";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    filebeat:x:1000:1000:filebeat:/usr/share/filebeat:/bin/sh\n\
    nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:filebeat\nfilebeat:x:1000:\nnogroup:x:65534:\n";

/// Writable by everybody, each only their own.
const SHARED: &[&str] = &["tmp", "usr/share/filebeat/data", "usr/share/filebeat/logs"];

/// The root file system.
pub(super) fn entries(parts: Parts) -> Vec<Entry> {
    let mut tree = Tree::default();
    let mut add = |path: &str, mode: u32, kind: Kind| tree.add(path, mode, kind);
    let link = |target: &str| Kind::Link(target.to_owned());
    let text = |text: &str| Kind::File(text.as_bytes().to_vec());
    for (path, target) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin")] {
        add(path, 0o777, link(target));
    }
    add("root", 0o755, Kind::Folder);
    for path in SHARED {
        add(path, 0o1777, Kind::Folder);
    }
    for applet in APPLETS.split_whitespace() {
        add(&format!("usr/bin/{applet}"), 0o777, link("busybox"));
    }
    for (path, target) in PILLION {
        add(path, 0o777, link(target));
    }
    add("usr/bin/pillion", 0o755, Kind::File(parts.pillion));
    add("usr/bin/busybox", 0o755, Kind::File(parts.busybox));
    add("usr/bin/nohup", 0o755, text(NOHUP));
    add("etc/ssl/certs/ca-certificates.crt", 0o644, Kind::File(parts.certificates));
    // Where Red Hat's programs, and so Elastic's older images, have them.
    add("etc/pki/tls/certs/ca-bundle.crt", 0o777, link("../../../ssl/certs/ca-certificates.crt"));
    add("etc/passwd", 0o644, text(PASSWD));
    add("etc/group", 0o644, text(GROUP));
    add("usr/share/filebeat/filebeat.yml", 0o644, text(include_str!("../../../deploy/image/filebeat.yml")));
    add("usr/share/doc/pillion/LICENSE", 0o644, text(include_str!("../../../LICENSE")));
    add("usr/share/doc/pillion/sbom.cdx.json", 0o644, text(&parts.sbom));
    for (package, copyright) in parts.copyrights {
        add(&format!("usr/share/doc/{package}/copyright"), 0o644, Kind::File(copyright));
    }
    tree.entries()
}

/// A root file system that is being put together.
#[derive(Default)]
pub(super) struct Tree {
    files: BTreeMap<String, Entry>,
}

impl Tree {
    /// Adds an entry, and the folders that lead to it.
    pub(super) fn add(&mut self, path: &str, mode: u32, kind: Kind) {
        let mut parent = path;
        while let Some((above, _)) = parent.rsplit_once('/') {
            let folder = Entry { path: above.to_owned(), mode: 0o755, kind: Kind::Folder };
            self.files.entry(above.to_owned()).or_insert(folder);
            parent = above;
        }
        self.files.insert(path.to_owned(), Entry { path: path.to_owned(), mode, kind });
    }

    /// All entries, sorted.
    pub(super) fn entries(self) -> Vec<Entry> {
        self.files.into_values().collect()
    }
}

/// Looks for the name of each command in the table that busybox keeps of them; it needn't be of this machine's kind.
pub(super) fn check_busybox(executable: &[u8]) -> Outcome {
    let words: std::collections::HashSet<&[u8]> = executable.split(|&b| b == 0).collect();
    match APPLETS.split_whitespace().find(|a| !words.contains(a.as_bytes())) {
        Some(missing) => Err(format!("busybox has no command {missing}")),
        None => Ok(()),
    }
}

/// Bytes of all files.
pub(super) fn unpacked(entries: &[Entry]) -> u64 {
    entries.iter().map(|e| if let Kind::File(bytes) = &e.kind { bytes.len() as u64 } else { 0 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Entry> {
        let copyrights = vec![("busybox-static", b"GPL".to_vec())];
        entries(Parts {
            pillion: b"p".to_vec(),
            busybox: b"b".to_vec(),
            certificates: b"c".to_vec(),
            copyrights,
            sbom: "{}".into(),
        })
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_links_lead_somewhere() {
        let all = some();
        let known: Vec<&str> = all.iter().map(|e| e.path.as_str()).collect();
        for (i, entry) in all.iter().enumerate() {
            if let Some((above, _)) = entry.path.rsplit_once('/') {
                let at = known.iter().position(|k| *k == above).unwrap();
                assert!(at < i && all[at].kind == Kind::Folder, "{}", entry.path);
            }
            if let Kind::Link(target) = &entry.kind {
                let mut way: Vec<&str> = entry.path.split('/').collect();
                way.pop();
                for part in target.split('/') {
                    match part {
                        ".." => _ = way.pop(),
                        name => way.push(name),
                    }
                }
                assert!(known.contains(&way.join("/").as_str()), "{} leads nowhere", entry.path);
            }
        }
    }

    #[test]
    fn a_busybox_that_lacks_a_command_is_known() {
        let all = format!("\0{}\0", APPLETS.replace(' ', "\0"));
        assert!(check_busybox(all.as_bytes()).is_ok());
        let lacking = all.replace("\0touch\0", "\0");
        assert_eq!(check_busybox(lacking.as_bytes()), Err("busybox has no command touch".into()));
    }

    #[test]
    fn no_shell_is_the_real_one() {
        for name in ["sh", "ash", "bash"] {
            let path = format!("usr/bin/{name}");
            let all = some();
            let shell = all.iter().find(|e| e.path == path).unwrap();
            assert_eq!(shell.kind, Kind::Link("pillion".into()));
        }
    }
}
