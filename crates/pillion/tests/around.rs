//! `keystore`, `modules`, `export` and `setup`: the real executable.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const CONFIG: &str = "filebeat.inputs: [{type: log, paths: [/none]}]\n";

/// Runs it in a folder with what standard input says.
fn pillion(dir: &Path, line: &str, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
    command.args(line.split_whitespace()).arg("--strict.perms=true").arg("--path.home").arg(dir).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("ES_PWD");
    let mut child = command.spawn().unwrap();
    // It may not read it, and be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> (i32, String, String) {
    let of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), of(&output.stdout), of(&output.stderr))
}

fn configure(dir: &Path, more: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = dir.join("filebeat.yml");
    fs::write(&file, format!("{CONFIG}{more}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_keystore_from_its_making_to_its_use() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    // Its keys mean nothing before they are there: the commands must work all the same.
    configure(dir, "output.file: {path: '${WHERE}', filename: a}\n");
    for (line, input, code, out, err) in [
        ("keystore list", "", 1, "", "there is no keystore"),
        ("keystore add WHERE --stdin", "/tmp/x", 1, "", "There is nobody to ask"),
        ("keystore create", "", 0, "Created filebeat keystore\n", ""),
        ("keystore create", "", 1, "", "--force overwrites it"),
        ("keystore add WHERE --stdin", "/tmp/hunter2", 0, "Successfully updated the keystore\n", ""),
        ("keystore add WHERE --stdin", "/tmp/y", 1, "", "--force replaces it"),
        ("keystore add OTHER", "x", 1, "", "pass the secret there with --stdin"),
        ("keystore add B --stdin --force", "y", 0, "Successfully updated the keystore\n", ""),
        ("keystore list", "", 0, "B\nWHERE\n", ""),
        ("keystore remove B", "", 0, "successfully removed key: B\n", ""),
        ("keystore remove B", "", 1, "", "`B` isn't in the keystore"),
        ("test config", "", 0, "Config OK\n", ""),
    ] {
        let (got, stdout, stderr) = text(&pillion(dir, line, input));
        assert_eq!((got, stdout.as_str()), (code, out), "{line}: {stderr}");
        assert!(stderr.contains(err), "{line}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{line}");
    }
    let (_, shown, _) = text(&pillion(dir, "export config", ""));
    assert!(shown.contains("path: /tmp/hunter2"), "a path isn't a secret: {shown}");
    fs::write(dir.join("data/filebeat.keystore"), "v1AAAA").unwrap();
    let (code, _, stderr) = text(&pillion(dir, "test config", ""));
    assert!(code == 2 && stderr.contains("it is cut off"), "{stderr}");
}

#[test]
fn several_commands_at_once_lose_no_secret() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    configure(dir, "");
    assert_eq!(text(&pillion(dir, "keystore create", "")).0, 0);
    let names: Vec<String> = (0..8).map(|i| format!("KEY_{i}")).collect();
    let mut adding = Vec::new();
    for name in &names {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
        command.args(["keystore", "add", name, "--stdin", "--path.home"]).arg(dir).current_dir(dir);
        adding.push(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    }
    // All of them run before one hears the end of its secret.
    adding.iter_mut().for_each(|child| child.stdin.as_mut().unwrap().write_all(b"x").unwrap());
    adding.iter_mut().for_each(|child| drop(child.stdin.take()));
    for child in adding {
        let (code, _, err) = text(&child.wait_with_output().unwrap());
        assert_eq!(code, 0, "{err}");
    }
    let (_, list, _) = text(&pillion(dir, "keystore list", ""));
    assert_eq!(list.lines().collect::<Vec<_>>(), names);
}

/// `create` has seen that there is no keystore, and waits for the lock; then another command makes one.
#[test]
fn a_keystore_that_was_just_made_is_not_overwritten() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    configure(dir, "");
    fs::create_dir(dir.join("data")).unwrap();
    let folder = fs::File::open(dir.join("data")).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
    command.args(["keystore", "create", "--path.home"]).arg(dir).current_dir(dir);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let fds = format!("/proc/{}/fd", child.id());
    let is_open = || {
        let mut links = fs::read_dir(&fds).into_iter().flatten().flatten();
        links.any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == dir.join("data")))
    };
    let begin = std::time::Instant::now();
    while !is_open() {
        assert!(begin.elapsed().as_secs() < 60, "it never asked for the lock");
        std::thread::yield_now();
    }
    fs::write(dir.join("data/filebeat.keystore"), "another's").unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::Unlock).unwrap();
    let (code, _, err) = text(&child.wait_with_output().unwrap());
    assert!(code != 0 && err.contains("just made"), "{code}: {err}");
    assert_eq!(fs::read_to_string(dir.join("data/filebeat.keystore")).unwrap(), "another's");
}

#[test]
fn what_is_exported() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    configure(dir, "output.logstash.hosts: [a]\nsetup.template.settings.index.number_of_shards: 3\n");
    let json = |line: &str| {
        let (code, stdout, stderr) = text(&pillion(dir, line, ""));
        assert_eq!(code, 0, "{line}: {stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    let template = json("export template");
    assert_eq!(template["index_patterns"][0], "filebeat-8.19.14");
    let index = &template["template"]["settings"]["index"];
    assert_eq!((&index["number_of_shards"], &index["lifecycle"]["name"]), (&3.into(), &"filebeat".into()));
    let older = json("export template --es.version 7.3.0 --noilm -E pillion.compat=7");
    assert_eq!(older["index_patterns"][0], "filebeat-7.17.29-*");
    assert!(older["settings"]["index"].get("lifecycle").is_none());
    assert_eq!(json("export ilm-policy")["policy"]["phases"]["hot"]["actions"]["rollover"]["max_age"], "30d");
    // One saved object, as Filebeat 7 to 9 write it; 5.6 had a list of them.
    let pattern = json("export index-pattern");
    assert_eq!((&pattern["id"], &pattern["type"]), (&"filebeat-*".into(), &"index-pattern".into()));
    assert_eq!(pattern["attributes"]["title"], "filebeat-*");
    assert!(pattern.get("objects").is_none(), "{pattern}");
    let older = json("export index-pattern -E pillion.compat=5.6");
    assert_eq!(older["objects"][0]["attributes"]["title"], "filebeat-*");
    let (code, stdout, _) = text(&pillion(dir, "export template --dir out", ""));
    let file = dir.join("out/template/filebeat-8.19.14.json");
    assert_eq!((code, stdout.trim_end()), (0, "out/template/filebeat-8.19.14.json"));
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap(), template);
    // As with Filebeat: who puts it by hand has switched it off.
    assert_eq!(json("export template -E setup.template.enabled=false"), template);
    let (code, _, stderr) = text(&pillion(dir, "export template --es.version x", ""));
    assert!(code == 2 && stderr.contains("isn't a version"), "{stderr}");
}

#[test]
fn set_up_by_hand() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    configure(dir, "output.logstash.hosts: [a]\n");
    let (code, _, stderr) = text(&pillion(dir, "setup", ""));
    assert!(code == 2 && stderr.contains("output.logstash needs no set-up"), "{stderr}");
    let (code, stdout, _) = text(&pillion(dir, "setup --pipelines", ""));
    assert!(code == 1 && stdout.contains("ingest pipelines: not set up"), "{stdout}");

    let mut receiver = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(["receive", "--elasticsearch", "127.0.0.1:0", "--to"])
        .arg(dir.join("to"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(receiver.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = said.find_map(|line| {
        let at = line.find("127.0.0.1:")?;
        Some(line[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect::<String>())
    });
    configure(dir, &format!("output.elasticsearch.hosts: ['{}']\n", address.unwrap()));
    let (code, stdout, stderr) = text(&pillion(dir, "setup", ""));
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("the index template `filebeat-8.19.14` is put"), "{stdout}");
    assert!(stdout.contains("dashboards and machine learning jobs: not set up"), "{stdout}");
}

const MODULES: &str = "filebeat.config.modules.path: ${path.config}/modules.d/*.yml\noutput.console.enabled: true\n";

/// A folder `modules.d` with these files.
fn modules(files: &[(&str, &str)]) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let tmp = tempfile::tempdir().unwrap();
    configure(tmp.path(), MODULES);
    fs::create_dir(tmp.path().join("modules.d")).unwrap();
    for (name, content) in files {
        let file = tmp.path().join("modules.d").join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    tmp
}

#[test]
fn modules_are_switched_on_and_off() {
    let nginx = "- module: nginx\n  access:\n    enabled: true\n    var.paths: [/none/a.log]\n";
    let files = [("nginx.yml.disabled", nginx), ("redis.yml.disabled", ""), ("system.yml", ""), ("notes.txt", "")];
    let tmp = modules(&files);
    for (line, code, out, err) in [
        ("modules list", 0, "Enabled:\nsystem\n\nDisabled:\nnginx\nredis\n", ""),
        ("modules enable nginx redis", 0, "Enabled nginx\nEnabled redis\n", ""),
        ("modules enable nginx", 0, "Module nginx is already enabled\n", ""),
        ("modules list", 0, "Enabled:\nnginx\nredis\nsystem\n\nDisabled:\n", ""),
        ("modules disable redis system", 0, "Disabled redis\nDisabled system\n", ""),
        ("modules disable redis", 0, "Module redis is already disabled\n", ""),
        (
            "modules enable system apche nginx",
            1,
            "Enabled system\n",
            "Module apche doesn't exist!\nremedy: see `modules list`",
        ),
        ("modules", 2, "", "there are `modules list`"),
        ("modules enable", 2, "", "there are `modules list`"),
        ("modules list -E filebeat.config.modules.path=/x/y.yml", 2, "", "`/x/y.yml` doesn't end with *.yml"),
        ("modules list -E filebeat.config.modules.path=/none/*.yml", 0, "Enabled:\n\nDisabled:\n", ""),
        (
            "modules enable nginx -E filebeat.config.modules.path=/none/*.yml",
            1,
            "",
            "a file of its own: /none/nginx.yml",
        ),
        ("test config", 0, "Config OK\n", ""),
    ] {
        let (got, stdout, stderr) = text(&pillion(tmp.path(), line, ""));
        assert_eq!((got, stdout.as_str()), (code, out), "{line}: {stderr}");
        assert!(stderr.contains(err), "{line}: {stderr}");
    }
    let left = |name: &str| fs::read_to_string(tmp.path().join("modules.d").join(name));
    assert_eq!(left("nginx.yml").unwrap(), nginx);
    configure(tmp.path(), "");
    let (code, _, stderr) = text(&pillion(tmp.path(), "modules list", ""));
    assert!(code == 2 && stderr.contains("it isn't said where the files of modules lie"), "{stderr}");
}

#[test]
fn a_module_that_cannot_be_switched_stays_as_it_is() {
    let tmp = modules(&[("nginx.yml", ""), ("nginx.yml.disabled", "mine")]);
    let (code, _, stderr) = text(&pillion(tmp.path(), "modules disable nginx", ""));
    assert!(code == 1 && stderr.contains("there was an error disabling module nginx"), "{stderr}");
    assert!(stderr.contains("remove one of the two"), "{stderr}");
    assert_eq!(fs::read_to_string(tmp.path().join("modules.d/nginx.yml.disabled")).unwrap(), "mine");
}

#[test]
fn a_file_of_modules_that_is_wrong_is_refused_with_its_place() {
    let tmp = modules(&[("nginx.yml", "- module: nginx\n  acess:\n")]);
    let (code, _, stderr) = text(&pillion(tmp.path(), "test config", ""));
    assert!(code == 2 && stderr.contains("modules.d/nginx.yml:2:3: filebeat.modules.0.acess: "), "{stderr}");
    assert!(stderr.contains("remedy: did you mean `access`?"), "{stderr}");
}
