//! docs/compatibility.md says of every option what the code does with it.
//!
//! `WRITE=1 cargo test -p pillion-process --test compatibility` writes the page anew.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the page is a real file")]

use std::fmt::Write;
use std::path::Path;

use pillion_config::{Outcome, catalogue};
use pillion_process::{KINDS, SCRIPT, listed};

const HEAD: &str = "\
# Compatibility

Every option that Filebeat 5.6 to 9 has, and what becomes of it here. This page is made from the tables that the program
itself reads its configuration by, and a test holds it against them; `WRITE=1 cargo test -p pillion-process --test
compatibility` writes it.

- **works**: it does what it does in Filebeat; a single value that can't is refused likewise.
- **refused**: what is delivered would differ; the configuration is refused with the position, this reason and a remedy.
- **harmless**: nothing is lost without it; that is said once, at the start.

An option that isn't here is unknown: a warning at the start, an error of `pillion test config`. A key ending in `.*` or
`.**` stands for all below it.
";

fn told(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Works => ("works", ""),
        Outcome::Refused(why) => ("refused", why),
        Outcome::Harmless(why) => ("harmless", why),
    }
}

fn page() -> String {
    let mut out = HEAD.to_owned();
    for group in catalogue() {
        write!(out, "\n## {}\n| option | Filebeat | here | why |\n|---|---|---|---|\n", group.title).unwrap();
        for option in group.options {
            let (here, why) = told(option.outcome);
            writeln!(out, "| `{}` | {} | {here} | {why} |", option.key, option.versions).unwrap();
        }
    }
    out.push_str("\n## Processors\nEach has `when` as well; `if`, `then`, `else` stand for a processor.\n\n");
    out.push_str("| processor | here | options, or why not |\n|---|---|---|\n");
    for (name, known) in listed() {
        // The page is the same for every set of cargo features.
        let (here, known) = match name {
            "script" => ("refused without the cargo feature `script`", Ok(SCRIPT)),
            _ => (if known.is_ok() { "works" } else { "refused" }, known),
        };
        let text = match known {
            Ok(options) => options.iter().map(|o| format!("`{o}`")).collect::<Vec<_>>().join(", "),
            Err(why) => why.to_owned(),
        };
        writeln!(out, "| `{name}` | {here} | {text} |").unwrap();
    }
    let kinds: Vec<String> = KINDS.iter().map(|kind| format!("`{kind}`")).collect();
    write!(out, "\n## Conditions\nAll of Filebeat's work: {}.\n", kinds.join(", ")).unwrap();
    out
}

#[test]
fn the_page_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = page();
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(there.lines()).find(|(now, then)| now != then);
    assert!(there == page, "docs/compatibility.md isn't what the code says; WRITE=1 writes it. First: {differs:?}");
}

#[test]
fn nothing_stands_there_twice() {
    for group in catalogue() {
        let mut keys: Vec<(&str, &str)> = group.options.iter().map(|o| (o.key, o.versions.as_str())).collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all, "{}", group.title);
    }
}
