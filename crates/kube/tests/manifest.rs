//! Manifests of every kind, style and way, against what was looked at once and found good: `tests/golden`.
//!
//! The first line of each says how it is injected. `PILLION_BLESS=1 cargo test -p pillion-kube --test manifest` writes the
//! results anew; look at the difference before you believe them.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is a failure of the test")]

use std::path::{Path, PathBuf};

use pillion_kube::inject::{ConfigSource, Options};
use pillion_kube::manifest::inject;
use pillion_world::World;
use proptest::prelude::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(path: &Path) -> String {
    String::from_utf8(World::real().fs.read(path, 1 << 20).unwrap()).unwrap()
}

fn cases() -> Vec<(String, String, Options)> {
    let mut names = Vec::new();
    World::real()
        .fs
        .read_dir(&folder(), &mut |entry| {
            names.push(entry.name.to_str().unwrap().to_owned());
            true
        })
        .unwrap();
    names.retain(|name| !name.contains(".out."));
    names.sort();
    assert!(names.len() >= 9);
    let case = |name: String| {
        let text = read(&folder().join(&name));
        let mut options = Options::default();
        for setting in text.lines().next().unwrap().strip_prefix("# inject:").unwrap_or_default().split_whitespace() {
            let (name, value) = setting.split_once('=').unwrap();
            options.set(name, value).unwrap();
        }
        (name, text, options)
    };
    names.into_iter().map(case).collect()
}

#[test]
fn manifests_become_what_was_found_good() {
    let bless = std::env::var_os("PILLION_BLESS").is_some();
    for (name, text, options) in cases() {
        let injected = inject(&text, &options).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        let notes: String = injected.notes.iter().map(|note| format!("# note: {note}\n")).collect();
        let is = format!("{}{notes}", injected.text);
        let (stem, end) = name.rsplit_once('.').unwrap();
        let path = folder().join(format!("{stem}.out.{end}"));
        if bless {
            World::real().fs.replace(&path, is.as_bytes(), 0o644).unwrap();
        }
        assert_eq!(is, read(&path), "{name}");
    }
}

#[test]
fn twice_changes_nothing() {
    for (name, text, options) in cases() {
        let once = inject(&text, &options).unwrap();
        let twice = inject(&once.text, &options).unwrap();
        assert_eq!((&twice.text, twice.changed), (&once.text, 0), "{name}");
    }
}

#[test]
fn comments_and_lines_that_have_nothing_to_do_with_it_survive() {
    for (name, text, options) in cases() {
        let after = inject(&text, &options).unwrap().text;
        for line in text.lines() {
            let comment = line.find(" #").map(|i| line[i..].trim());
            assert!(comment.is_none_or(|comment| after.contains(comment)), "{name}: {line}");
        }
        // All but a few lines are there, in their order.
        let mut rest = after.lines();
        let kept = text.lines().filter(|line| rest.clone().any(|l| l == *line) && rest.any(|l| l == *line)).count();
        assert!(kept + 4 >= text.lines().count() || name.ends_with("json"), "{name}: {kept}");
    }
}

#[test]
fn a_configuration_is_written_beside_its_object() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a, namespace: n}\nspec: {template: {spec: {containers: [{name: m}]}}}";
    let options = Options { config: ConfigSource::Text("a: 1\n# ü\nb: 2".into()), ..Options::default() };
    let injected = inject(job, &options).unwrap().text;
    let config = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a-pillion\n  namespace: \"n\"\ndata:\n  \
                  filebeat.yml: |-\n    a: 1\n    # ü\n    b: 2\n";
    assert!(injected.ends_with(config), "{injected}");
    assert_eq!(inject(&injected, &options).unwrap().text, injected);
    let json = r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"m"}]}}"#;
    assert!(inject(json, &options).unwrap_err()[0].remedy.contains("--config-map"));
}

#[test]
fn every_fault_is_told_with_its_line() {
    let bad = "kind: Job\napiVersion: batch/v1\nspec: {}\n---\nkind: Pod\napiVersion: v1\nspec:\n  restartPolicy: Never\n  \
               containers:\n    - name: m\n---\na: 1\na: 2\n";
    let mut options = Options::default();
    options.set("way", "flag").unwrap();
    let faults = inject(bad, &options).unwrap_err();
    let places: Vec<(usize, usize)> = faults.iter().map(|f| (f.line, f.column)).collect();
    assert_eq!(places, [(3, 1), (10, 7), (13, 1)], "{faults:?}");
    assert!(faults.iter().all(|f| !f.reason.is_empty() && !f.remedy.is_empty()));
}

/// What fuzzing found.
#[test]
fn a_bracket_that_an_anchor_swallows_is_refused() {
    for text in ["&;;;;;Y{}", "a: &b[]\n", "kind: &x{}", "- &ü[]"] {
        let faults = inject(text, &Options::default()).map(|out| out.text).unwrap_err();
        assert!(faults[0].reason.contains("begins and ends"), "{text}: {faults:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever the text: an answer, no panic; and what was injected is left alone the second time.
    #[test]
    fn mangled_manifests_are_injected_or_refused(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, "[-{}\\[\\]:,#&*!|>'\"\n\t ü~a]{0,4}"), 1..4),
    ) {
        let cases = cases();
        let (_, text, options) = &cases[which.index(cases.len())];
        let mut characters: Vec<char> = text.chars().collect();
        for (place, length, new) in cuts {
            let at = place.index(characters.len() + 1);
            let end = (at + length).min(characters.len());
            characters.splice(at..end, new.chars());
        }
        let text: String = characters.into_iter().collect();
        if let Ok(once) = inject(&text, options) {
            let twice = inject(&once.text, options);
            prop_assert_eq!(twice.map(|twice| twice.text), Ok(once.text));
        }
    }
}
