//! Several outputs: what each further one is read from.

use std::path::Path;

use pillion_config::Config;

const TEXT: &str = "\
path.data: /data
output.logstash.hosts: ['l:5044']
cloud.id: x
http.enabled: true
setup.template.enabled: false
pillion:
  exactly_once: true
  outputs:
    archive:
      file: {path: /archive}
    off: {enabled: false, what: ever}
    search:
      elasticsearch.hosts: ['e:9200']
";

#[test]
fn each_is_the_same_but_for_output_and_data() {
    let config = Config::from_yaml(TEXT).unwrap();
    let all = config.further_outputs().unwrap();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["archive", "search"]);
    for (name, further) in &all {
        let root = further.root();
        assert_eq!(further.paths().data, Path::new("/data/outputs").join(name));
        assert_eq!(further.paths().home, config.paths().home);
        assert_eq!(root.bool("pillion.exactly_once").unwrap(), Some(true));
        assert_eq!(root.bool("setup.template.enabled").unwrap(), Some(false));
        assert!(!root.has("cloud.id") && !root.has("http.enabled") && !root.has("output.logstash"));
        assert!(further.further_outputs().unwrap().is_empty());
    }
    assert_eq!(all[0].1.root().str("output.file.path").unwrap().as_deref(), Some("/archive"));
    assert_eq!(all[1].1.root().strings("output.elasticsearch.hosts").unwrap(), ["e:9200"]);
    let wrong = all[0].1.root().error("output.file.path", "no", "").renamed("output", "pillion.outputs.archive");
    assert_eq!(wrong.one_line(), "filebeat.yml:10:20: pillion.outputs.archive.file.path: no");
    let left = config.leftovers();
    assert!(left.unknown.is_empty() && !left.unasked.iter().any(|d| d.key().starts_with("pillion.outputs")));
}

#[test]
fn what_cannot_be() {
    let name = "x".repeat(33);
    let many: String = (0..9).map(|n| format!("o{n}: {{console: {{}}}}, ")).collect();
    for (outputs, want) in [
        ("{A: {file: {}}}", "can't be an output's name"),
        ("{'../x': {file: {}}}", "can't be an output's name"),
        (&*format!("{{{name}: {{file: {{}}}}}}"), "can't be an output's name"),
        ("{a: 1}", "a section with options of its own"),
        ("[1]", "pillion.outputs"),
        (&*format!("{{{many}}}"), "more than 8 outputs"),
    ] {
        let config = Config::from_yaml(&format!("pillion.outputs: {outputs}")).unwrap();
        let wrong = config.further_outputs().map(|all| all.len()).unwrap_err().one_line();
        assert!(wrong.starts_with("filebeat.yml:1:") && wrong.contains(want), "{outputs}: {wrong}");
    }
    assert!(Config::from_yaml("{}").unwrap().further_outputs().unwrap().is_empty());
}
