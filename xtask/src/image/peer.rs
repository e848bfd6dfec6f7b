//! An image of the real Filebeat, to be compared with.
//!
//! Comes in: the executable that `cargo xtask e2e filebeat` builds, busybox, the shared libraries that `ldd` names. Goes out:
//! a tar that containerd loads, with Filebeat and a shell where Elastic's own image has them.
//! Always holds: `/bin/sh` is the real shell here.

use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;

use super::contents::Tree;
use super::oci::{self, Image};
use super::tar::{self, Kind};
use super::{busybox, own_arch, read, root, write};
use crate::{Outcome, child, filebeat};

/// What the usual workaround's script calls.
const APPLETS: [&str; 6] = ["sh", "sleep", "touch", "cat", "ls", "ps"];

/// Makes the image by this name, and gives its tar.
pub(crate) fn filebeat(name: &str) -> Outcome<PathBuf> {
    let program = filebeat::path()?;
    let mut tree = Tree::default();
    let link = |target: &str| Kind::Link(target.to_owned());
    tree.add("bin", 0o777, link("usr/bin"));
    tree.add("usr/bin/busybox", 0o755, Kind::File(read(&busybox::path(own_arch())?)?));
    for applet in APPLETS {
        tree.add(&format!("usr/bin/{applet}"), 0o777, link("busybox"));
    }
    for library in libraries(&program)? {
        let bytes = read(Path::new(&library))?;
        tree.add(library.trim_start_matches('/'), 0o755, Kind::File(bytes));
    }
    tree.add("tmp", 0o1777, Kind::Folder);
    tree.add("etc/passwd", 0o644, Kind::File(b"filebeat:x:1000:1000::/usr/share/filebeat:/bin/sh\n".to_vec()));
    for folder in ["data", "logs"] {
        tree.add(&format!("usr/share/filebeat/{folder}"), 0o1777, Kind::Folder);
    }
    tree.add("usr/share/filebeat/filebeat", 0o755, Kind::File(read(&program)?));
    let layer = tar::archive(&tree.entries(), 0)?;
    let (created, packing) = (super::created(0), Compression::fast());
    let image = Image { arch: own_arch(), name: name.to_owned(), time: 0, created, labels: Vec::new(), packing };
    let out = root().join("target/image/filebeat.tar");
    write(&out, &oci::archive(&image, &layer)?)?;
    Ok(out)
}

/// The files that a dynamic executable loads; none for a static one.
fn libraries(program: &Path) -> Outcome<Vec<String>> {
    let Ok(said) = child::run(Command::new("ldd").arg(program)) else { return Ok(Vec::new()) };
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    if let Some(line) = said.lines().find(|l| l.contains("not found")) {
        return Err(format!("{}: {line}", program.display()));
    }
    Ok(said.lines().filter_map(path).collect())
}
