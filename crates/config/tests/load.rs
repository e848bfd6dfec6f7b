//! Files, layers, flags, permissions: what `Config::load` makes of them.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pillion_config::{Config, Error, Keystore, Load, Setting};
use pillion_world::World;

fn load(dir: &Path) -> Load {
    Load {
        files: vec![dir.join("filebeat.yml")],
        settings: Vec::new(),
        strict_perms: true,
        env: BTreeMap::new(),
        home: dir.to_owned(),
        euid: own_uid(dir),
    }
}

fn own_uid(dir: &Path) -> u32 {
    World::real().fs.stat(dir, true).unwrap().uid
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    World::real().fs.replace(path, text.as_ref(), 0o600).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn config(load: &Load) -> Result<Config, Error> {
    Config::load(&World::real(), load)
}

fn shown(e: &Error, dir: &Path) -> String {
    e.to_string().replace(dir.to_str().unwrap(), "DIR")
}

#[test]
fn layers() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(
        &dir.join("filebeat.yml"),
        "name: one\ntags: [a, b, c]\nfilebeat.inputs:\n- {type: log, paths: [/x]}\n- {type: log, paths: [/y]}\noutput.file: {path: /o, \
         filename: f}\nlogging:\n",
    );
    write(
        &dir.join("two.yml"),
        "name: two\ntags: [z]\noutput.file.filename: g\nfilebeat.inputs:\n- ~\n- enabled: false\noutput:\n",
    );
    let mut load = load(dir);
    load.files.push(dir.join("two.yml"));
    let overwrites = [
        "filebeat.inputs.0.paths=[/e, \"/f,g\"]",
        "output.file.number_of_files=9",
        "fields={a: {b: 1}, c.d: yes}",
        "logging.level=${LEVEL:info}",
        "setup.kibana.enabled",
        "x=a,b",
        "x2='a,b'",
        "name=",
        "x3=\"\"",
    ];
    load.settings = overwrites.iter().map(|text| Setting::Overwrite((*text).to_owned())).collect();
    load.settings.push(Setting::Text {
        flag: "--path.data".into(),
        key: "path.data",
        value: "${path.home}/[d]".into(),
    });
    let config = config(&load).unwrap();
    let root = config.root();
    // As in Filebeat, lists are laid over each other place by place.
    assert_eq!(root.strings("tags").unwrap(), ["z", "b", "c"]);
    assert_eq!(root.str("name").unwrap().as_deref(), Some("two"), "nothing behind the sign changes nothing");
    assert_eq!(root.str("x3").unwrap().as_deref(), Some(""));
    let inputs = root.sections("filebeat.inputs").unwrap();
    assert_eq!(inputs[0].strings("paths").unwrap(), ["/e", "/f,g"]);
    assert_eq!(
        (inputs[1].strings("paths").unwrap(), inputs[1].bool("enabled").unwrap()),
        (vec!["/y".to_owned()], Some(false))
    );
    let file = root.section("output.file").unwrap().unwrap();
    assert_eq!((file.str("filename").unwrap().as_deref(), file.u64("number_of_files").unwrap()), (Some("g"), Some(9)));
    assert_eq!(root.json("fields").unwrap().unwrap(), serde_json::json!({"a": {"b": 1}, "c": {"d": "yes"}}));
    assert_eq!(root.str("logging.level").unwrap().as_deref(), Some("info"));
    assert_eq!(root.bool("setup.kibana.enabled").unwrap(), Some(true));
    assert_eq!(root.strings("x").unwrap(), ["a", "b"]);
    assert_eq!(root.str("x2").unwrap().as_deref(), Some("a,b"));
    assert_eq!(config.paths().data, dir.join("[d]"));
    assert_eq!(config.paths().logs, dir.join("logs"));
}

#[test]
fn where_relative_names_are_looked_up() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(&dir.join("filebeat.yml"), "name: home");
    World::real().fs.create_dir_all(&dir.join("conf"), 0o700).unwrap();
    write(&dir.join("conf/filebeat.yml"), "name: conf");
    let flag =
        |key, path: PathBuf| Setting::Text { flag: format!("--{key}"), key, value: path.to_str().unwrap().to_owned() };
    let mut load = load(dir);
    load.files = Vec::new();
    load.settings = vec![flag("path.home", dir.to_owned())];
    assert_eq!(config(&load).unwrap().root().str("name").unwrap().unwrap(), "home");
    load.settings.push(flag("path.config", dir.join("conf")));
    assert_eq!(config(&load).unwrap().root().str("name").unwrap().unwrap(), "conf");
}

#[test]
fn permissions() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let file = dir.join("filebeat.yml");
    write(&file, "name: x");
    let mut load = load(dir);
    for mode in [0o600, 0o644, 0o444, 0o755] {
        chmod(&file, mode);
        assert!(config(&load).is_ok(), "{mode:o}");
    }
    chmod(&file, 0o664);
    assert_eq!(
        shown(&config(&load).unwrap_err(), dir),
        "config file (\"DIR/filebeat.yml\") can only be writable by the owner but the permissions are \"-rw-rw-r--\" (to fix the \
         permissions use: 'chmod go-w DIR/filebeat.yml')\nremedy: `chmod go-w DIR/filebeat.yml`, or in Kubernetes `defaultMode: 0640` \
         on the volume, or `--strict.perms=false`"
    );
    load.strict_perms = false;
    assert!(config(&load).is_ok());
    load.strict_perms = true;
    load.env.insert("BEAT_STRICT_PERMS".into(), "false".into());
    assert!(config(&load).is_ok());
    load.env.clear();
    chmod(&file, 0o600);
    if load.euid != 0 {
        load.euid += 1;
        let e = shown(&config(&load).unwrap_err(), dir);
        assert!(e.starts_with("config file (\"DIR/filebeat.yml\") must be owned by the user identifier (uid="), "{e}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let mut load = load(dir);
    let file = dir.join("filebeat.yml");
    let told = |make: &dyn Fn(&Path)| {
        make(&file);
        shown(&config(&load).unwrap_err(), dir)
    };
    assert_eq!(
        told(&|_| ()),
        "DIR/filebeat.yml: No such file or directory (os error 2)\nremedy: check the name; relative ones are looked up in \
         --path.config, else --path.home, else the working directory"
    );
    assert_eq!(
        told(&|f| write(f, b"name: x\nfield: \xff\n")),
        "DIR/filebeat.yml:2: not UTF-8: byte 0xff\nremedy: save the file as UTF-8"
    );
    assert_eq!(
        told(&|f| write(f, b"\xff\xfen\0a\0")),
        "DIR/filebeat.yml: this is UTF-16, not UTF-8\nremedy: save the file as UTF-8"
    );
    let e = told(&|f| write(f, vec![b'#'; (4 << 20) + 1]));
    assert!(e.starts_with("DIR/filebeat.yml: larger than"), "{e}");
    load.files = vec![dir.to_owned()];
    let e = shown(&config(&load).unwrap_err(), dir);
    assert!(e.starts_with("DIR: not a regular file"), "{e}");
}

#[test]
fn broken_settings() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(&dir.join("filebeat.yml"), "name: x");
    let mut load = load(dir);
    for (text, message) in [
        (
            "output.hosts=[a",
            "-E: output.hosts: the `]` that closes the list is missing\n 1 | output.hosts=[a\n   |              ^^\nremedy: `-E \
             key=value`: put text with `,`, `[` or `{` in it in quotes, such as -E 'key=\"a,b\"'",
        ),
        ("=1", "-E: an option's name is missing\n 1 | =1\n   | ^\nremedy: write `-E some.option=value`"),
        ("a..b=1", "-E: an option's name is missing\n 1 | a..b=1\n   | ^^^^\nremedy: write `-E some.option=value`"),
        (
            "a.5000=1",
            "-E: `5000` in `a.5000` is a place in a list, and larger than 1023\n 1 | a.5000=1\n   | ^^^^^^\nremedy: count places from 0",
        ),
    ] {
        load.settings = vec![Setting::Overwrite(text.into())];
        assert_eq!(config(&load).unwrap_err().to_string(), message);
    }
    load.settings = vec![Setting::Overwrite("output.elasticsearch.password={hunter2".into())];
    let e = config(&load).unwrap_err().to_string();
    assert!(!e.contains("hunter2") && e.contains("password=********"), "{e}");
}

#[test]
fn the_keystore_is_asked_behind_the_environment() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let yaml = "name: ${ES_PWD}\nfields: {a: '${ES_PWD}', b: 'x-${ES_PWD}', c: '${LIST}', d: '${NO_ES_PWD}'}\n\
                output.elasticsearch.password: ${LIST}\npath.data: ${path.home}/d";
    write(&dir.join("filebeat.yml"), yaml);
    let world = World::real();
    let mut store = Keystore::empty(&dir.join("d/filebeat.keystore"));
    store.put("ES_PWD", b"secret".to_vec());
    store.put("LIST", b"[1, 2]".to_vec());
    store.save(&world).unwrap();
    let mut load = load(dir);
    let read = |load: &Load| {
        let config = Config::load(&world, load).unwrap();
        let root = config.root();
        let of = |key: &str| root.json(&format!("fields.{key}")).map_err(|e| e.remedy().to_owned());
        let name = root.str("name").unwrap().unwrap();
        (name, of("b"), of("c"), of("d"), root.str("output.elasticsearch.password").unwrap())
    };
    let (name, spliced, list, missing, password) = read(&load);
    assert_eq!((name.as_str(), spliced), ("secret", Ok(Some("x-secret".into()))));
    assert_eq!((list, password.as_deref()), (Ok(Some(serde_json::json!([1, 2]))), Some("[1, 2]")));
    assert!(missing.unwrap_err().contains("did you mean `ES_PWD`? set the variable, or give a default"));
    load.env.insert("ES_PWD".into(), "from the environment".into());
    assert_eq!(read(&load).0, "from the environment");
    // Elsewhere, and broken.
    write(&dir.join("other"), "v1");
    chmod(&dir.join("other"), 0o644);
    load.settings = vec![Setting::Overwrite(format!("keystore.path={}", dir.join("other").display()))];
    load.strict_perms = false;
    assert!(Config::load(&world, &load).unwrap_err().to_string().contains("it is cut off"));
    load.strict_perms = true;
    assert!(Config::load(&world, &load).unwrap_err().to_string().contains("others may read it"));
}

/// What every package of Filebeat 6 comes with, whose modules aren't here: the section names a folder in which all modules are switched off.
#[test]
fn a_section_of_modules_that_names_no_file_is_no_problem() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(
        &dir.join("filebeat.yml"),
        "pillion.compat: 5.6\nfilebeat.config.modules:\n  path: ${path.config}/modules.d/*.yml\n  reload.enabled: false\n",
    );
    let refused = || config(&load(dir)).unwrap().leftovers().refused.iter().map(Error::one_line).collect::<Vec<_>>();
    assert!(refused().is_empty());
    World::real().fs.create_dir_all(&dir.join("modules.d"), 0o700).unwrap();
    write(&dir.join("modules.d/nginx.yml.disabled"), "");
    assert!(refused().is_empty());
    write(&dir.join("modules.d/nginx.yml"), "");
    let all = refused();
    assert!(
        all.len() == 1 && all[0].contains("filebeat.config.modules: modules of Filebeat 5.6 and 6 aren't here"),
        "{all:?}"
    );
}

/// MySQL names its log of slow queries after the machine.
#[test]
fn a_module_may_ask_for_the_name_of_the_machine() {
    let tmp = tempfile::tempdir().unwrap();
    write(&tmp.path().join("filebeat.yml"), "filebeat.modules: [{module: mysql, slowlog.enabled: true}]\n");
    let config = config(&load(tmp.path())).unwrap();
    let module = config.root().sections("filebeat.modules").unwrap().remove(0);
    let paths = module.section("slowlog").unwrap().unwrap().strings("input.paths").unwrap();
    let host = String::from_utf8(World::real().fs.read(Path::new("/proc/sys/kernel/hostname"), 1024).unwrap()).unwrap();
    let host = host.trim().split('.').next().unwrap();
    assert_eq!(paths, ["/var/log/mysql/mysql-slow.log*".to_owned(), format!("/var/lib/mysql/{host}-slow.log")]);
}

#[test]
fn the_registry_tells_the_dialect_when_the_file_does_not() {
    use pillion_config::Compat;
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(&dir.join("filebeat.yml"), "filebeat.inputs:\n- {type: log, paths: [/x]}\n");
    let folder = dir.join("data/registry/filebeat");
    World::real().fs.create_dir_all(&folder, 0o700).unwrap();
    let compat = || {
        let config = config(&load(dir)).unwrap();
        (config.compat(), config.compat_reason().replace(dir.to_str().unwrap(), "DIR"))
    };
    write(&folder.join("meta.json"), r#"{"version":"1"}"#);
    assert_eq!(compat().0, Compat::V8);
    write(&folder.join("log.json"), "{\"op\":\"set\",\"id\":1}\n{\"v\":{\"meta\":{\"fingerprint_len\":0}}}\n");
    assert_eq!(compat(), (Compat::V9, "the registry in DIR/data/registry was written by Filebeat 9".into()));
    write(&folder.join("meta.json"), r#"{"version":"0"}"#);
    assert_eq!(compat().0, Compat::V7);
}
