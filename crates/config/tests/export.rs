//! `export config`: round trip and masking.

use pillion_config::Config;
use proptest::prelude::*;

#[test]
fn what_is_shown() {
    let yaml = "name: a b\ntags: [x, '1']\noutput.elasticsearch:\n  hosts: ['https://u:p@h:1']\n  password: ${PW}\n  \
                headers: {Authorization: z}\n  bulk_max_size: 0x10\nempty: {}\n";
    let config = Config::from_yaml_with_env(yaml, &[("PW", "hunter2")]).unwrap();
    assert_eq!(
        config.export(false),
        "path:\n  home: /usr/share/filebeat\n  config: /usr/share/filebeat\n  data: /usr/share/filebeat/data\n  logs: \
         /usr/share/filebeat/logs\nname: \"a b\"\ntags:\n  - x\n  - \"1\"\noutput:\n  elasticsearch:\n    hosts:\n      - \
         \"https://********@h:1\"\n    password: \"********\"\n    headers:\n      Authorization: \"********\"\n    \
         bulk_max_size: 16\nempty: {}\n"
    );
    let shown = config.export(true);
    assert!(shown.contains("password: hunter2\n") && shown.contains("https://u:p@h:1"), "{shown}");
}

proptest! {
    /// Reading what was exported gives the same values.
    #[test]
    fn round_trip(values in prop::collection::vec(any::<String>(), 0..5), numbers in prop::collection::vec(any::<f64>(), 0..3)) {
        prop_assume!(numbers.iter().all(|n| n.is_finite()));
        let fields = serde_json::json!({"texts": values.iter().map(|v| v.replace('$', "")).collect::<Vec<_>>(), "n": numbers});
        let one = Config::from_yaml(&format!("fields: {fields}")).unwrap();
        let two = Config::from_yaml(&one.export(true)).unwrap();
        prop_assert_eq!(one.root().json("fields").unwrap(), two.root().json("fields").unwrap());
    }
}
