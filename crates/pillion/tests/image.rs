//! The image's own filebeat.yml: what each variable does.

use std::collections::BTreeMap;
use std::path::Path;

use pillion::assemble::assemble;
use pillion_config::{Config, Load};
use pillion_world::World;

/// The output's name and what is warned of, or the errors.
fn with(variables: &[(&str, &str)]) -> Result<(&'static str, String), String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/image/filebeat.yml");
    let load = Load {
        files: vec![file],
        settings: Vec::new(),
        strict_perms: false,
        env: variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        home: "/usr/share/filebeat".into(),
        euid: 1000,
    };
    let config = Config::load(&World::real(), &load).map_err(|e| e.to_string())?;
    let text = |errors: &[pillion_config::Error]| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let parts = assemble(&config, true, true).map_err(|errors| text(&errors))?;
    assert_eq!(parts.inputs.len(), 1);
    Ok((parts.output.name(), text(&parts.warnings)))
}

#[test]
fn the_environment_names_the_target() {
    let ca = ("ELASTICSEARCH_CA", "/etc/ssl/certs/ca-certificates.crt");
    let es = ("ELASTICSEARCH_HOSTS", "https://es1:9200,https://es2:9200");
    let logstash = ("LOGSTASH_HOSTS", "logstash1:5044,logstash2");
    let plain = String::new();
    for (variables, output) in [
        (vec![es], "elasticsearch"),
        (vec![es, ("ELASTICSEARCH_USERNAME", "elastic"), ("ELASTICSEARCH_PASSWORD", "a,{b}: 0123")], "elasticsearch"),
        (vec![es, ("ELASTICSEARCH_API_KEY", "id:key")], "elasticsearch"),
        (vec![es, ca], "elasticsearch"),
        (vec![es, ("LOGSTASH_HOSTS", "")], "elasticsearch"),
        (vec![logstash], "logstash"),
        (vec![logstash, ("LOGSTASH_CA", "/ca.pem")], "logstash"),
    ] {
        assert_eq!(with(&variables), Ok((output, plain.clone())), "{variables:?}");
    }
}

#[test]
fn none_and_two_are_refused() {
    let none = with(&[]).unwrap_err();
    assert!(none.contains("nothing says where to ship to") && none.contains("ELASTICSEARCH_HOSTS"), "{none}");
    assert_eq!(none.matches("LOGSTASH_HOSTS=").count(), 1, "{none}");
    let two = with(&[("ELASTICSEARCH_HOSTS", "http://es:9200"), ("LOGSTASH_HOSTS", "logstash:5044")]).unwrap_err();
    assert!(two.contains("several outputs are enabled: elasticsearch, logstash"), "{two}");
}
