//! Tar archives, written so that the same entries always give the same bytes, and read back.
//!
//! Comes in: entries. Goes out: a POSIX ustar archive: owners 0, one time for all, in the order given.
//! Always holds: what can't be said in a plain ustar header (a path over 100 bytes, a file of 8 GiB) is an error; nothing is
//! cut off.

use crate::Outcome;

const BLOCK: usize = 512;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Without a slash in front.
    pub(super) path: String,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File(Vec<u8>),
    /// A symbolic link and where it leads.
    Link(String),
}

/// The archive's bytes; `time` in seconds since 1970.
pub(super) fn archive(entries: &[Entry], time: u64) -> Outcome<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        let content: &[u8] = if let Kind::File(bytes) = &entry.kind { bytes } else { &[] };
        out.extend_from_slice(&header(entry, content.len(), time)?);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

fn header(entry: &Entry, size: usize, time: u64) -> Outcome<[u8; BLOCK]> {
    let (flag, link, slash) = match &entry.kind {
        Kind::File(_) => (b'0', "", ""),
        Kind::Link(target) => (b'2', target.as_str(), ""),
        Kind::Folder => (b'5', "", "/"),
    };
    let mut block = [0; BLOCK];
    let mut put = |at: usize, room: usize, text: &str| match block.get_mut(at..at + text.len()) {
        Some(place) if text.len() <= room => {
            place.copy_from_slice(text.as_bytes());
            Ok(())
        }
        _ => Err(format!("{}: `{text}` doesn't fit into a ustar header", entry.path)),
    };
    put(0, 100, &format!("{}{slash}", entry.path))?;
    put(100, 7, &format!("{:07o}", entry.mode))?;
    put(108, 7, "0000000")?;
    put(116, 7, "0000000")?;
    put(124, 11, &format!("{size:011o}"))?;
    put(136, 11, &format!("{time:011o}"))?;
    put(148, 8, "        ")?;
    put(157, 100, link)?;
    put(257, 8, "ustar\u{0}00")?;
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum::<u32>() + u32::from(flag);
    if let Some(place) = block.get_mut(148..157) {
        place.copy_from_slice(format!("{sum:06o}\u{0} {}", char::from(flag)).as_bytes());
    }
    Ok(block)
}

/// Reads an archive of [`archive`]'s kind.
pub(super) fn entries(archive: &[u8]) -> Outcome<Vec<Entry>> {
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        let head = archive.get(at..at + BLOCK).ok_or("the archive is cut off")?;
        if head.iter().all(|&b| b == 0) {
            return Ok(all);
        }
        let text = |from: usize, room: usize| {
            let field = head.get(from..from + room).unwrap_or_default();
            let end = field.iter().position(|&b| b == 0).unwrap_or(room);
            String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
        };
        let number = |from: usize, room: usize| {
            usize::from_str_radix(text(from, room).trim(), 8).map_err(|e| format!("a number in a header: {e}"))
        };
        let sum: u32 =
            head.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) }).sum();
        if number(148, 7)? != sum as usize {
            return Err(format!("{}: the header's checksum is wrong", text(0, 100)));
        }
        let (size, mode) = (number(124, 12)?, number(100, 8)? as u32);
        let content = archive.get(at + BLOCK..at + BLOCK + size).ok_or("the archive is cut off")?;
        let kind = match head.get(156) {
            Some(b'0') => Kind::File(content.to_vec()),
            Some(b'2') => Kind::Link(text(157, 100)),
            Some(b'5') => Kind::Folder,
            other => return Err(format!("{}: an entry of the kind {other:?}", text(0, 100))),
        };
        all.push(Entry { path: text(0, 100).trim_end_matches('/').to_owned(), mode, kind });
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Entry> {
        let entry = |path: &str, mode, kind| Entry { path: path.into(), mode, kind };
        vec![
            entry("tmp", 0o1777, Kind::Folder),
            entry("tmp/a", 0o644, Kind::File(vec![7; 513])),
            entry("tmp/empty", 0o755, Kind::File(Vec::new())),
            entry("tmp/b", 0o777, Kind::Link("../a".into())),
        ]
    }

    #[test]
    fn what_is_written_is_read_by_us_and_by_tar() {
        let bytes = archive(&some(), 1_700_000_000).unwrap();
        assert_eq!(entries(&bytes).unwrap(), some());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        std::fs::write(&file, &bytes).unwrap();
        let list =
            crate::child::run(std::process::Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(&file)).unwrap();
        let list: Vec<Vec<&str>> = list.lines().map(|l| l.split_whitespace().collect()).collect();
        let seen: Vec<(&str, &str, &str, &str)> = list.iter().map(|l| (l[0], l[1], l[2], l[5])).collect();
        assert_eq!(
            seen,
            [
                ("drwxrwxrwt", "0/0", "0", "tmp/"),
                ("-rw-r--r--", "0/0", "513", "tmp/a"),
                ("-rwxr-xr-x", "0/0", "0", "tmp/empty"),
                ("lrwxrwxrwx", "0/0", "0", "tmp/b"),
            ]
        );
    }

    #[test]
    fn what_does_not_fit_or_is_damaged_is_an_error() {
        let long = Entry { path: "x".repeat(101), mode: 0o644, kind: Kind::File(Vec::new()) };
        assert!(archive(&[long], 0).is_err());
        let mut bytes = archive(&some(), 0).unwrap();
        assert!(entries(&bytes[..1600]).is_err());
        bytes[3] ^= 1;
        assert!(entries(&bytes).unwrap_err().contains("checksum"));
    }
}
