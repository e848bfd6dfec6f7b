//! What modules stand for: the input of each fileset, and what is refused. That it is what Filebeat 7.17.29 makes of its own
//! modules is shown by `cargo xtask e2e differential --case modules`.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

use pillion_config::{Config, Error, Form};
use serde_json::{Value, json};

/// The input of each fileset that is on, by its name; or the first error.
fn inputs(yaml: &str) -> Result<Vec<(String, Value)>, String> {
    let config = Config::from_yaml(yaml).map_err(|e| e.one_line())?;
    let told = |e: Error| e.one_line();
    let mut found = Vec::new();
    for module in config.root().sections("filebeat.modules").map_err(told)? {
        if module.bool("enabled").map_err(told)? == Some(false) {
            continue;
        }
        for name in module.keys().filter(|name| !["module", "enabled"].contains(name)) {
            let Some(fileset) = module.section(name).map_err(told)? else { continue };
            let Some(input) = fileset.section("input").map_err(told)? else { continue };
            found.push((name.to_owned(), input.whole().map_err(told)?));
        }
    }
    Ok(found)
}

fn one(yaml: &str) -> Value {
    let mut found = inputs(yaml).unwrap();
    assert_eq!(found.len(), 1, "{yaml}");
    found.remove(0).1
}

fn names(yaml: &str) -> Vec<String> {
    inputs(yaml).unwrap().into_iter().map(|(name, _)| name).collect()
}

fn list(items: &str) -> String {
    format!("filebeat.modules:\n{items}")
}

const ECS: &str = r#"{"add_fields": {"target": "", "fields": {"ecs": {"version": "1.12.0"}}}}"#;

#[test]
fn a_fileset_is_an_input() {
    let ecs: Value = serde_json::from_str(ECS).unwrap();
    let nginx = one(&list("- {module: nginx, error.enabled: true}"));
    let want = json!({
        "type": "log",
        "paths": ["/var/log/nginx/error.log*"],
        "exclude_files": [".gz$"],
        "multiline": {"pattern": r"^\d{4}\/\d{2}\/\d{2} ", "negate": true, "match": "after"},
        "processors": [{"add_locale": null}, ecs],
        "pipeline": "filebeat-8.19.14-nginx-error-pipeline",
        "_module_name": "nginx",
        "_fileset_name": "error",
    });
    assert_eq!(nginx, want);
    let syslog = one(&list("- {module: haproxy, log: }"));
    assert_eq!((&syslog["type"], &syslog["protocol"]), (&json!("syslog"), &json!({"udp": {"host": "localhost:9001"}})));
    let dfw = one(&list("- {module: pensando, dfw.var: {syslog_host: '::', syslog_port: 514}}"));
    assert_eq!((&dfw["type"], &dfw["host"]), (&json!("udp"), &json!("[::]:514")));
    let file = one(&list("- {module: haproxy, log.var.input: file}"));
    assert_eq!((&file["type"], &file["paths"]), (&json!("log"), &json!(["/var/log/haproxy.log"])));
    let kafka = one(&list("- {module: kafka, log.var.kafka_home: /k}"));
    assert_eq!(kafka["paths"][1], "/k/logs/server.log*");
    let auth = one(&list("- {module: system, auth.var.tags: [forwarded]}"));
    assert_eq!((&auth["tags"], &auth["publisher_pipeline"]["disable_host"]), (&json!(["forwarded"]), &json!(true)));
    assert!(one(&list("- {module: santa, log: }")).get("tags").is_none());
}

#[test]
fn what_the_user_writes_comes_over_it() {
    let yaml = "- module: elasticsearch\n  gc:\n    var.paths: /x\n    input:\n      paths: ['/a', '/b', '/c']\n      exclude_lines: [mine]\n      \
                multiline.negate: false\n      processors: [{add_tags: {tags: [t]}}]\n      pipeline: own\n      type: container\n";
    let gc = one(&list(yaml));
    assert_eq!(gc["paths"], json!(["/a", "/b", "/c"]), "paths are replaced");
    assert_eq!(gc["exclude_lines"][0], "mine", "lists are merged place by place");
    assert_eq!(gc["exclude_lines"].as_array().unwrap().len(), 4);
    assert_eq!((&gc["multiline"]["negate"], &gc["multiline"]["match"]), (&json!(false), &json!("after")));
    assert_eq!(
        gc["processors"][1],
        json!({"add_tags": {"tags": ["t"]}}),
        "processors come behind those that are there"
    );
    assert_eq!((&gc["pipeline"], &gc["type"]), (&json!("own"), &json!("container")));
    assert_eq!(one(&list("- {module: nats, log.var.paths: '${P:/y}'}"))["paths"], json!(["/y"]));
    // A null takes nothing away from a section, and counts as nothing else.
    assert_eq!(
        one(&list("- {module: nats, log.input: {paths: ~, tags: ~}}"))["paths"],
        json!(["/var/log/nats/nats.log*"])
    );
}

#[test]
fn which_filesets_are_on() {
    let all = ["access", "error", "ingress_controller"];
    for (compat, yaml, want) in [
        (7, "{module: nginx}", &all[..]),
        (7, "{module: nginx, access.enabled: false}", &all[1..]),
        (7, "{module: nginx, enabled: false}", &[]),
        (7, "{module: icinga, debug.enabled: false, main.enabled: 'false', startup.enabled: 0}", &["startup"]),
        (8, "{module: nginx, access: , error: {enabled: false}}", &["access"]),
        (9, "{module: nginx, enabled: false, nonsense: 1}", &[]),
        (8, "{module: nginx, access.enabled: true, none.enabled: false}", &["access"]),
    ] {
        let mut found = names(&format!("pillion.compat: {compat}\n{}", list(&format!("- {yaml}"))));
        found.sort();
        assert_eq!(found, want, "{compat} {yaml}");
    }
}

#[test]
fn the_version_in_pipelines() {
    let pipeline =
        |more: &str, module: &str| one(&format!("{more}\n{}", list(&format!("- {module}"))))["pipeline"].clone();
    for (more, module, want) in [
        ("pillion.compat: 9", "{module: nginx, access: }", "filebeat-9.6.0-nginx-access-pipeline"),
        ("pillion.agent_version: 8.13.4", "{module: nginx, access: }", "filebeat-8.13.4-nginx-access-pipeline"),
        ("pillion.modules.version: 8.1.0", "{module: redis, log: }", "filebeat-8.1.0-redis-log-pipeline"),
        ("", "{module: system, auth: }", "filebeat-8.19.14-system-auth-entrypoint"),
        ("pillion.modules.version: 8.16.9", "{module: system, syslog: }", "filebeat-8.16.9-system-syslog-pipeline"),
        ("", "{module: apache2, error: }", "filebeat-8.19.14-apache-error-pipeline"),
    ] {
        assert_eq!(pipeline(more, module), want, "{more} {module}");
    }
    assert!(one(&format!("pillion.compat: 9\n{}", list("- {module: nats, log: }")))["allow_deprecated_use"] == true);
    assert!(Config::from_yaml("pillion.modules.version: latest").is_err());
}

#[test]
fn a_text_makes_so_many_inputs_and_no_more() {
    let many = "- {module: nats, log: }\n".repeat(1000);
    assert_eq!(inputs(&list(&many)).unwrap().len(), 1000);
    let told = inputs(&list(&format!("{many}- {{module: nats, log: }}"))).unwrap_err();
    assert!(told.starts_with("filebeat.yml:1002:18: filebeat.modules.1000.log: there are more than 1000"), "{told}");
}

#[test]
fn the_old_name_is_said() {
    let config = Config::from_yaml(&list("- module: apache2\n  error:\n")).unwrap();
    let warned: Vec<String> = config.warnings().iter().map(Error::one_line).collect();
    assert!(warned.len() == 1 && warned[0].ends_with("write `apache`"), "{warned:?}");
}

#[test]
fn what_is_refused_and_where() {
    for (compat, yaml, place, part) in [
        (8, "- module: ngnix", "3:11: filebeat.modules.0.module", "did you mean `nginx`?"),
        (8, "- module: aws", "3:11: filebeat.modules.0.module", "`pipeline: filebeat-8.19.14-aws-FILESET-pipeline`"),
        (8, "- access: ", "3:3: filebeat.modules.0.module", "begin it with its name"),
        (8, "- module: nginx\n  acess: ", "4:3: filebeat.modules.0.acess", "did you mean `access`?"),
        (
            8,
            "- module: nginx\n  slow: ",
            "4:3: filebeat.modules.0.slow",
            "there are `access`, `error`, `ingress_controller`",
        ),
        (8, "- module: nginx", "3:11: filebeat.modules.0", "such as `access.enabled: true`"),
        (8, "- module: nginx\n  access: 7", "4:3: filebeat.modules.0.access", "a fileset is a section"),
        (8, "- module: iis\n  access: ", "4:3: filebeat.modules.0.access.var.paths", "var.paths"),
        (7, "- module: redis", "3:11: filebeat.modules.0.slowlog", "set `slowlog.enabled: false`"),
        (
            8,
            "- module: system\n  auth.var.use_journald: true",
            "4:26: filebeat.modules.0.auth.var.use_journald",
            "journal",
        ),
        (8, "- module: santa\n  log.var.input: mac", "4:18: filebeat.modules.0.log.var.input", "`mac`"),
        (8, "- module: nats\n  log.var.paths: {a: 1}", "4:18: filebeat.modules.0.log.var.paths", "not a list"),
        (8, "- module: nats\n  log.var.paths: ['${NONE}']", "4:19", "no option is named `NONE`"),
    ] {
        let yaml = format!("pillion.compat: {compat}\n{}", list(yaml));
        let told = inputs(&yaml).unwrap_err();
        assert!(told.starts_with(&format!("filebeat.yml:{place}: ")) && told.contains(part), "{yaml}\n{told}");
    }
    // Its own paths at the input do as well.
    assert_eq!(names(&list("- {module: iis, error.input.paths: [/x]}")), ["error"]);
}

#[test]
fn an_export_has_modules_as_they_are_written() {
    let text = "filebeat:\n  modules:\n    -\n      module: nginx\n      access:\n        enabled: true\n";
    assert!(Config::from_yaml(text).unwrap().export(false).contains("        enabled: true\n"));
    assert!(!Config::from_yaml(text).unwrap().export(false).contains("pipeline"));
}

#[test]
fn a_file_of_modules() {
    let config = Config::from_yaml("pillion.modules.version: 7.0.1").unwrap();
    let own = config.further_config("m/nginx.yml", "- module: nginx\n  access:\n", Form::Modules).unwrap();
    let module = own.root().sections("filebeat.modules").unwrap().remove(0);
    let input = module.section("access").unwrap().unwrap().section("input").unwrap().unwrap();
    assert_eq!(input.str("pipeline").unwrap().unwrap(), "filebeat-7.0.1-nginx-access-pipeline");
    let wrong = config.further_config("m/nginx.yml", "filebeat.modules: []\n", Form::Modules).unwrap_err();
    assert!(wrong.one_line().starts_with("m/nginx.yml:1:1: a file of modules is a list"), "{wrong}");
}
