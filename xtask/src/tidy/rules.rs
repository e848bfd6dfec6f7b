//! What no tracked file may hold, and what each must have.

use super::Source;

const MOST_BYTES: u64 = 1024 * 1024;
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Paths of a machine that the project was once worked on; in two pieces, so that this file may be checked too.
const MACHINE: [&str; 3] = [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/")];

/// Words of code that isn't finished.
const UNFINISHED: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("#[ign", "ore"),
];

/// All breaches of one file.
pub(super) fn check(file: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    if file.bytes > MOST_BYTES {
        breaches.push(format!("{}: {} bytes, {MOST_BYTES} are allowed", file.path, file.bytes));
    }
    for (at, line) in file.text.lines().enumerate() {
        if let Some(why) = line_breach(file, line) {
            breaches.push(format!("{}:{}: {why}", file.path, at + 1));
        }
    }
    if file.is_rust() && !has_header(file) {
        breaches.push(format!("{}:1: a module opens with //! and what comes in, goes out and always holds", file.path));
    }
    breaches
}

fn line_breach(file: &Source, line: &str) -> Option<String> {
    if let Some(path) = MACHINE.iter().find(|p| line.contains(*p)) {
        return Some(format!("the path of a machine: {path}"));
    }
    if file.path.ends_with("Cargo.lock") {
        let source = line.strip_prefix("source = \"")?.trim_end_matches('"');
        return (source != CRATES_IO).then(|| format!("a dependency that isn't from crates.io: {source}"));
    }
    if !file.is_rust() {
        return None;
    }
    if let Some(word) = UNFINISHED.iter().find(|w| line.contains(*w)) {
        return Some(format!("unfinished: {word}"));
    }
    // clippy's `disallowed-methods` says the same, but an `#[expect]` could silence it.
    let maker = file.is_test() || ["crates/engine/src/ack.rs", "crates/event/src/ack.rs"].contains(&file.path.as_str());
    let made = line.contains(concat!("Acked::", "by_target")) && !maker;
    made.then(|| "only engine/ack.rs knows what the target has acknowledged".to_owned())
}

fn has_header(file: &Source) -> bool {
    if file.is_test() || file.path.ends_with("/build.rs") {
        return true;
    }
    let head = file.text.lines().next().unwrap_or_default();
    // A fuzz target must open with an inner attribute.
    let head = if head.starts_with("#![") { file.text.lines().nth(1).unwrap_or_default() } else { head };
    head.starts_with("//! ") && !head.contains(concat!("Place", "holder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_breach() {
        let path = |p: &str| p.to_owned();
        let cases: [(String, String, usize); 10] = [
            (path("a.md"), format!("see {}x", MACHINE[0]), 1),
            (path("a.md"), "see ./x".into(), 0),
            (path("Cargo.lock"), format!("source = \"{CRATES_IO}\""), 0),
            (path("Cargo.lock"), "source = \"registry+https://example.org\"".into(), 1),
            (path("crates/a/src/b.rs"), "fn a() {}".into(), 1),
            (path("crates/a/src/tests.rs"), "fn a() {}".into(), 0),
            (path("crates/a/src/b.rs"), format!("//! x\n{}", UNFINISHED[3]), 1),
            (path("crates/a/src/b.rs"), format!("//! x\nlet a = {}(1);", concat!("Acked::", "by_target")), 1),
            (path("crates/engine/src/ack.rs"), format!("//! x\nlet a = {}(1);", concat!("Acked::", "by_target")), 0),
            (path("fuzz/fuzz_targets/a.rs"), "#![no_main]\n//! x".into(), 0),
        ];
        for (path, text, wanted) in cases {
            let file = Source { path, bytes: text.len() as u64, text };
            assert_eq!(check(&file).len(), wanted, "{}: {}", file.path, file.text);
        }
    }
}
