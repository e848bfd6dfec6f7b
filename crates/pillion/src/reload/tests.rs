//! Looks and judgements, without readers.

use super::*;

struct Rig {
    tmp: tempfile::TempDir,
    world: World,
    config: Config,
    watch: Watch,
    /// The ids of the inputs by their labels.
    ids: HashMap<u64, String>,
}

fn input(id: &str, path: &str) -> String {
    format!("- {{type: filestream, id: {id}, paths: [{path}]}}\n")
}

impl Rig {
    fn new() -> Rig {
        let tmp = tempfile::tempdir().unwrap();
        let yaml = format!(
            "filebeat.config.inputs: {{path: '{}/*.yml', reload: {{enabled: true, period: 1s}}}}\n\
             filebeat.inputs: [{{type: filestream, id: main, paths: [/m]}}]\n",
            tmp.path().display()
        );
        let config = Config::from_yaml(&yaml).unwrap();
        let fixed = pillion_input::specs_from_root(&config.root()).unwrap();
        let watch = Watch::new(config.further().unwrap(), fixed, false);
        Rig { tmp, world: World::real(), config, watch, ids: HashMap::new() }
    }

    fn write(&self, name: &str, text: &str) {
        // Two files of one time and length would differ by their inodes.
        self.world.fs.replace(&self.tmp.path().join(name), text.as_bytes(), 0o600).unwrap();
    }

    /// Makes a link, in the place of another one.
    fn link(&self, to: &str, name: &str) {
        let (new, path) = (self.tmp.path().join("new"), self.tmp.path().join(name));
        std::os::unix::fs::symlink(to, &new).unwrap();
        self.world.fs.rename(&new, &path).unwrap();
    }

    fn remove(&self, name: &str) {
        self.world.fs.remove(&self.tmp.path().join(name)).unwrap();
    }

    /// Which inputs end, which begin, and what is said.
    fn look(&mut self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let seen = self.watch.look(&self.config)(&*self.world.fs);
        let changes = self.watch.judge(&self.config, seen);
        let mut go: Vec<_> = changes.go.iter().map(|label| self.ids.remove(label).unwrap()).collect();
        self.ids.extend(changes.come.iter().map(|spec| (spec.label, spec.desc.id.clone())));
        assert_eq!(self.ids.len(), self.watch.files.values().map(|file| file.inputs.len()).sum::<usize>());
        let mut come: Vec<_> = changes.come.iter().map(|spec| spec.desc.id.clone()).collect();
        go.sort();
        come.sort();
        let dir = format!("{}/", self.tmp.path().display());
        (go, come, changes.wrong.iter().map(|e| e.one_line().replace(&dir, "")).collect())
    }

    /// Nothing is wrong.
    fn good(&mut self) -> (Vec<String>, Vec<String>) {
        let (go, come, wrong) = self.look();
        assert_eq!(wrong, [""; 0]);
        (go, come)
    }
}

fn all(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn only_what_changed_in_a_file_ends_and_begins() {
    let mut rig = Rig::new();
    assert_eq!(rig.good(), (all(&[]), all(&[])));
    rig.write("x.yml", &(input("a", "/a") + &input("b", "/b")));
    assert_eq!(rig.good(), (all(&[]), all(&["a", "b"])));
    assert_eq!(rig.good(), Default::default());
    rig.write("x.yml", &("# a comment\n".to_owned() + &input("b", "/b") + &input("a", "/other") + &input("c", "/c")));
    assert_eq!(rig.good(), (all(&["a"]), all(&["a", "c"])));
    rig.write("y.yml", &input("w", "/y"));
    rig.write("x.yml", "");
    assert_eq!(rig.good(), (all(&["a", "b", "c"]), all(&["w"])));
    rig.remove("y.yml");
    assert_eq!(rig.good(), (all(&["w"]), all(&[])));
    // A folder isn't a file, whatever it is called.
    rig.world.fs.create_dir_all(&rig.tmp.path().join("z.yml"), 0o700).unwrap();
    assert_eq!(rig.good(), Default::default());
}

/// A file of a ConfigMap is a link by way of a folder's link, and that one is what changes.
#[test]
fn a_config_map_that_changes_is_seen() {
    let mut rig = Rig::new();
    for version in ["v1", "v2"] {
        rig.world.fs.create_dir_all(&rig.tmp.path().join(version), 0o700).unwrap();
        rig.write(&format!("{version}/x.yml"), &input(version, "/a"));
    }
    rig.link("v1", "..data");
    rig.link("..data/x.yml", "x.yml");
    assert_eq!(rig.good(), (all(&[]), all(&["v1"])));
    rig.link("v2", "..data");
    assert_eq!(rig.good(), (all(&["v1"]), all(&["v2"])));
}

#[test]
fn a_wrong_file_is_said_once_and_its_inputs_go_on() {
    let mut rig = Rig::new();
    rig.write("x.yml", &input("a", "/a"));
    rig.good();
    rig.write("x.yml", "- type: filestream\n  id: a\n  paths: [/b]\n  close.on_state_change.inactive: soon\n");
    let (go, come, wrong) = rig.look();
    assert_eq!((go.len() + come.len(), wrong.len()), (0, 1));
    assert!(
        wrong[0].starts_with("x.yml:4:35: filebeat.inputs.0.close.on_state_change.inactive: this is a text: `soon`"),
        "{wrong:?}"
    );
    assert_eq!(rig.good(), Default::default());
    rig.write("x.yml", "- type: [\n");
    assert!(rig.look().2[0].starts_with("x.yml:2:1: not valid YAML"));
    rig.write("x.yml", "- type: stdin\n");
    assert!(rig.look().2[0].contains("stdin"));
    rig.write("x.yml", &input("a", "/b"));
    assert_eq!(rig.good(), (all(&["a"]), all(&["a"])));
    rig.write("x.yml", "- type: [\n");
    assert_eq!(rig.look().2.len(), 1, "it was right in between");
    rig.remove("x.yml");
    assert_eq!(rig.good(), (all(&["a"]), all(&[])));
}

#[test]
fn a_file_that_others_may_write_is_not_believed() {
    let mut rig = Rig::new();
    rig.config = {
        // The check is that of the main file.
        let main = rig.tmp.path().join("main");
        rig.world.fs.replace(&main, b"name: x", 0o600).unwrap();
        let euid = rig.world.fs.stat(&main, true).unwrap().uid;
        let load = pillion_config::Load {
            files: vec![main],
            settings: Vec::new(),
            strict_perms: true,
            env: BTreeMap::new(),
            home: rig.tmp.path().to_owned(),
            euid,
        };
        Config::load(&rig.world, &load).unwrap()
    };
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(rig.tmp.path().join("x.yml"), mode).unwrap();
    };
    rig.write("x.yml", &input("a", "/a"));
    mode(0o622);
    let (seen, strict) = (|watch: &Watch| watch.look(&rig.config)(&*rig.world.fs), rig.config.strict());
    assert!(strict.perms);
    let wrong = rig.watch.judge(&rig.config, seen(&rig.watch)).wrong;
    assert!(wrong[0].reason().contains("can only be writable by the owner"), "{wrong:?}");
    // Only its rights change.
    mode(0o600);
    let changes = rig.watch.judge(&rig.config, seen(&rig.watch));
    assert_eq!((changes.come.len(), changes.wrong.len()), (1, 0));
}

#[test]
fn ids_are_one_of_a_kind_over_all_files() {
    let mut rig = Rig::new();
    rig.write("b.yml", &input("x", "/x"));
    rig.good();
    rig.write("a.yml", &input("main", "/x"));
    assert!(rig.look().2[0].contains("a.yml:1:26: filebeat.inputs.0.id: another filestream input has `main`"));
    // An input that moves from one file to another, whichever is looked at first.
    rig.write("a.yml", &input("x", "/x"));
    rig.write("b.yml", "");
    assert_eq!(rig.good(), (all(&["x"]), all(&["x"])));
    rig.write("c.yml", &input("x", "/x"));
    assert_eq!(rig.look().2.len(), 1);
    rig.write("a.yml", "");
    assert_eq!(rig.good(), (all(&["x"]), all(&["x"])), "a file that was wrong is right once the other has changed");
}

#[test]
fn an_input_that_could_not_begin_is_tried_again() {
    let mut rig = Rig::new();
    rig.write("x.yml", &(input("a", "/a") + &input("b", "/b")));
    rig.good();
    let label = *rig.ids.iter().find(|(_, id)| *id == "b").unwrap().0;
    assert!(rig.watch.refused(label, "the port is taken").unwrap().contains("x.yml: the port is taken"));
    rig.ids.remove(&label);
    assert_eq!(rig.good(), (all(&[]), all(&["b"])));
    let label = *rig.ids.iter().find(|(_, id)| *id == "b").unwrap().0;
    assert_eq!(rig.watch.refused(label, "the port is taken"), None, "said once");
    assert_eq!(rig.watch.refused(99, "nobody"), None);
}

#[test]
fn a_folder_that_cannot_be_listed_changes_nothing() {
    let mut rig = Rig::new();
    rig.write("x.yml", &input("a", "/a"));
    rig.good();
    let cannot = || vec![Err("no".to_owned())];
    let changes = rig.watch.judge(&rig.config, cannot());
    assert_eq!((changes.go.len(), changes.wrong.len()), (0, 1));
    assert_eq!(rig.watch.judge(&rig.config, cannot()).wrong.len(), 0);
    assert_eq!(rig.good(), Default::default());
}

#[test]
fn a_file_that_could_not_be_read_is_read_again_though_it_looks_the_same() {
    let mut rig = Rig::new();
    rig.write("x.yml", &input("a", "/a"));
    let mut seen = rig.watch.look(&rig.config)(&*rig.world.fs);
    for one in seen.iter_mut().flatten().flatten() {
        one.text = Some(Err(Error::new("x.yml: permission denied", "let this user read the file")));
    }
    assert_eq!(rig.watch.judge(&rig.config, seen).wrong.len(), 1);
    assert_eq!(rig.good(), (all(&[]), all(&["a"])));
    assert_eq!(rig.good(), Default::default());
}
