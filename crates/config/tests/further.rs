//! Further files that hold inputs: where they lie, and what is read of them.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pillion_config::{Config, Error, Form, Further, Load, Strict, further_text};
use pillion_world::World;

fn further(yaml: &str) -> Result<Vec<Further>, String> {
    let config = Config::from_yaml(yaml).unwrap();
    let found = config.further().map_err(|e| e.one_line())?;
    let left = config.leftovers();
    let told = left.refused.iter().chain(&left.unknown).chain(&left.unasked).map(Error::one_line);
    match told.reduce(|a, b| a + "; " + &b) {
        Some(told) => Err(told),
        None => Ok(found),
    }
}

#[test]
fn which_files_there_are() {
    let list = |key, pattern: &str, reload| Further {
        key,
        pattern: pattern.into(),
        folder: false,
        form: Form::List,
        reload: Option::map(reload, Duration::from_secs),
    };
    let inputs = "filebeat.config.inputs";
    let home = "/usr/share/filebeat";
    for (yaml, want) in [
        ("{}", vec![]),
        ("filebeat.config.inputs: {enabled: false, path: /a, more: 1}", vec![]),
        ("filebeat.config.inputs.path: /etc/*.yml", vec![list(inputs, "/etc/*.yml", None)]),
        (
            "filebeat.config.inputs: {enabled: true, path: 'inputs.d/*.yml', reload: {enabled: true}}",
            vec![list(inputs, &format!("{home}/inputs.d/*.yml"), Some(10))],
        ),
        (
            "filebeat.config.inputs: {path: '${path.config}/x', reload.enabled: true, reload.period: 1m}",
            vec![list(inputs, &format!("{home}/x"), Some(60))],
        ),
        (
            "filebeat.config.modules: {path: '${path.config}/modules.d/*.yml', reload.enabled: true}",
            vec![Further {
                form: Form::Modules,
                ..list("filebeat.config.modules", &format!("{home}/modules.d/*.yml"), Some(10))
            }],
        ),
        (
            "filebeat.config: {prospectors: {path: /p, reload.period: 3s}}\nfilebeat.config_dir: conf",
            vec![
                list("filebeat.config.prospectors", "/p", None),
                Further {
                    folder: true,
                    form: Form::Whole,
                    ..list("filebeat.config_dir", &format!("{home}/conf"), None)
                },
            ],
        ),
    ] {
        assert_eq!(further(yaml), Ok(want), "{yaml}");
    }
    for (yaml, part) in [
        ("filebeat.config.inputs.reload.enabled: true", "it isn't said which files hold further inputs"),
        ("filebeat.config.inputs: {path: /x, reload.period: 0}", "filebeat.yml:1:51"),
        ("filebeat.config.inputs: {path: /x, reload.perod: 1s}", "did you mean `period`?"),
        ("pillion.compat: 8\nfilebeat.config.prospectors.path: /x", "Filebeat 7 and later refuse this option"),
        ("pillion.compat: 9\nfilebeat.config_dir: /x", "Filebeat 7 and later refuse this option"),
    ] {
        let told = further(yaml).unwrap_err();
        assert!(told.contains(part), "{yaml}: {told}");
    }
}

/// A configuration read from a file, with a variable.
fn main_config(dir: &Path) -> Config {
    let world = World::real();
    world.fs.replace(&dir.join("filebeat.yml"), b"pillion.compat: 9\ntags: [main]\n", 0o600).unwrap();
    let load = Load {
        files: vec![dir.join("filebeat.yml")],
        settings: Vec::new(),
        strict_perms: true,
        env: BTreeMap::from([("LOGS".into(), "/logs".into())]),
        home: dir.to_owned(),
        euid: world.fs.stat(dir, true).unwrap().uid,
    };
    Config::load(&world, &load).unwrap()
}

#[test]
fn what_a_file_of_inputs_holds() {
    let tmp = tempfile::tempdir().unwrap();
    let main = main_config(tmp.path());
    let file = |text: &str| main.further_config("more.yml", text, Form::List);
    let config = file("# two\n- type: filestream\n  paths: ['${LOGS}/a', '${path.home}/b']\n- type: udp\n").unwrap();
    let inputs = config.root().sections("filebeat.inputs").unwrap();
    let home = tmp.path().display().to_string();
    assert_eq!(inputs[0].strings("paths").unwrap(), ["/logs/a".to_owned(), format!("{home}/b")]);
    assert_eq!((inputs.len(), config.compat().name()), (2, "9"));
    assert_eq!(inputs[1].error("host", "no", "").one_line(), "more.yml:4:3: filebeat.inputs.1.host: no");
    let left = config.leftovers().unasked;
    assert_eq!(left.len(), 2, "the two types alone: {left:?}");
    for empty in ["", "# nothing\n", "[]", "~"] {
        assert!(file(empty).unwrap().root().sections("filebeat.inputs").unwrap().is_empty(), "{empty:?}");
    }
    for (text, part) in [
        ("filebeat.inputs:\n- type: log\n", "more.yml:1:1: a file of inputs is a list of them"),
        ("type: log", "begin each input with `- `"),
        ("- type: [", "more.yml:"),
    ] {
        let told = file(text).unwrap_err().one_line();
        assert!(told.contains(part), "{text}: {told}");
    }
    let missing = file("- {paths: ['${NONE}']}").unwrap();
    let told = missing.root().sections("filebeat.inputs").unwrap()[0].strings("paths").unwrap_err().one_line();
    assert!(told.starts_with("more.yml:1:") && told.contains("NONE"), "{told}");
}

#[test]
fn a_whole_configuration_gives_its_inputs_alone() {
    let config = Config::from_yaml("filebeat.config_dir: /x").unwrap();
    let whole = config
        .further_config("x.yml", "filebeat:\n  prospectors: [{paths: [/a]}]\n  spool_size: 9\nname: x\n", Form::Whole)
        .unwrap();
    assert_eq!(whole.root().sections("filebeat.prospectors").unwrap()[0].strings("paths").unwrap(), ["/a"]);
    let left = whole.leftovers();
    let told: Vec<_> = left.unasked.iter().chain(&left.harmless).map(Error::one_line).collect();
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn files_are_read_as_the_main_one_is() {
    let tmp = tempfile::tempdir().unwrap();
    let (fs, dir) = (World::real().fs, tmp.path());
    let strict = Strict { perms: true, euid: fs.stat(dir, true).unwrap().uid };
    let read = |name: &str, strict| further_text(&*fs, &dir.join(name), strict).map_err(|e| e.one_line());
    fs.create_dir_all(&dir.join("folder"), 0o700).unwrap();
    fs.replace(&dir.join("good"), b"- {}", 0o644).unwrap();
    fs.replace(&dir.join("open"), b"- {}", 0o666).unwrap();
    fs.replace(&dir.join("bytes"), b"a\n\xff", 0o600).unwrap();
    std::fs::set_permissions(dir.join("open"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(read("good", strict), Ok(Some("- {}".into())));
    assert_eq!((read("folder", strict), read("missing", strict)), (Ok(None), Ok(None)));
    assert!(read("open", strict).unwrap_err().contains("can only be writable by the owner"));
    assert_eq!(read("open", Strict { perms: false, ..strict }), Ok(Some("- {}".into())));
    assert!(read("bytes", strict).unwrap_err().contains("bytes:2: not UTF-8"));
    let main = main_config(dir);
    assert!(
        main.is_main_file(&*fs, &dir.join("folder/../filebeat.yml")) && !main.is_main_file(&*fs, &dir.join("good"))
    );
    assert!(main.strict().perms);
}
