//! The fields of the template: those that aren't plain strings, and what the user appends.
//!
//! Comes in: the dialect, `setup.template.append_fields`. Goes out: `properties` and `dynamic_templates` of a mapping.
//! Every string that isn't named here becomes a keyword, so that the list holds only what would go wrong by that: numbers
//! in strings, addresses, places, long texts. Filebeat's own list of some thousand fields describes what its modules
//! send. Tested below.

use pillion_config::{Compat, Error, Section};
use serde_json::{Map, Value, json};

use super::template::KEYWORD_LIMIT;

/// Fields of ECS, as 7 to 9 write them.
const ECS: &[(&str, &str)] = &[
    ("@timestamp", "date"),
    ("message", "text"),
    ("tags", "keyword"),
    ("log.level", "keyword"),
    ("log.offset", "long"),
    ("log.file.path", "keyword"),
    ("log.file.inode", "keyword"),
    ("log.file.device_id", "keyword"),
    ("log.file.fingerprint", "keyword"),
    ("log.source.address", "keyword"),
    ("host.name", "keyword"),
    ("host.ip", "ip"),
    ("host.mac", "keyword"),
    ("host.geo.location", "geo_point"),
    ("agent.name", "keyword"),
    ("agent.version", "keyword"),
    ("agent.ephemeral_id", "keyword"),
    ("ecs.version", "keyword"),
    ("input.type", "keyword"),
    ("stream", "keyword"),
    ("error.message", "text"),
    ("error.code", "keyword"),
    ("error.stack_trace", "text"),
    ("event.created", "date"),
    ("event.ingested", "date"),
    ("event.start", "date"),
    ("event.end", "date"),
    ("event.duration", "long"),
    ("event.severity", "long"),
    ("event.original", "text"),
    ("process.pid", "long"),
    ("client.ip", "ip"),
    ("client.port", "long"),
    ("client.geo.location", "geo_point"),
    ("server.ip", "ip"),
    ("server.port", "long"),
    ("source.ip", "ip"),
    ("source.port", "long"),
    ("source.geo.location", "geo_point"),
    ("destination.ip", "ip"),
    ("destination.port", "long"),
    ("destination.geo.location", "geo_point"),
    ("http.response.status_code", "long"),
    ("http.request.bytes", "long"),
    ("http.response.bytes", "long"),
    ("url.port", "long"),
];

/// Fields of 5.6.
const FIVE: &[(&str, &str)] = &[
    ("@timestamp", "date"),
    ("message", "text"),
    ("offset", "long"),
    ("source", "keyword"),
    ("type", "keyword"),
    ("input_type", "keyword"),
    ("tags", "keyword"),
    ("beat.name", "keyword"),
    ("beat.hostname", "keyword"),
    ("beat.version", "keyword"),
    ("error.message", "text"),
];

/// What of `append_fields` is for Kibana, or for people.
const NOT_FOR_MAPPINGS: &[&str] = &[
    "description",
    "level",
    "title",
    "short",
    "group",
    "required",
    "example",
    "count",
    "searchable",
    "aggregatable",
    "analyzed",
    "script",
    "pattern",
    "input_format",
    "output_format",
    "output_precision",
    "label_template",
    "url_template",
    "open_link_in_current_tab",
    "overwrite",
    "default_field",
    "migration",
    "footnote",
    "release",
];

/// What is taken over into a mapping as it is.
const OF_MAPPINGS: &[&str] = &[
    "format",
    "analyzer",
    "search_analyzer",
    "norms",
    "index",
    "doc_values",
    "copy_to",
    "ignore_above",
    "path",
    "scaling_factor",
    "dynamic",
    "enabled",
];

/// What the user appends.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    /// A field's path, and its mapping.
    own: Vec<(String, Value)>,
    /// Objects whose members are all of one type: their paths, and the type.
    objects: Vec<(String, String)>,
}

impl Fields {
    pub(super) fn from_sections(list: &[Section<'_>]) -> Result<Fields, Error> {
        let mut out = Fields::default();
        out.read(list, "", 0)?;
        Ok(out)
    }

    fn read(&mut self, list: &[Section<'_>], above: &str, depth: usize) -> Result<(), Error> {
        for s in list {
            let name = s.str("name")?.filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| s.error_here("a field without `name`", "Give each field a name."))?;
            let path = if above.is_empty() { name } else { format!("{above}.{name}") };
            let kind = s.str("type")?.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "keyword".to_owned());
            NOT_FOR_MAPPINGS.iter().try_for_each(|key| s.json(key).map(drop))?;
            if kind == "group" && depth < 16 {
                self.read(&s.sections("fields")?, &path, depth + 1)?;
                continue;
            }
            if let (true, Some(members)) = (kind == "object", s.str("object_type")?) {
                self.objects.push((path, members));
                continue;
            }
            let mut mapping = Map::new();
            mapping.insert("type".into(), kind.clone().into());
            if kind == "keyword" {
                mapping.insert("ignore_above".into(), KEYWORD_LIMIT.into());
            }
            for key in OF_MAPPINGS {
                if let Some(value) = s.json(key)? {
                    mapping.insert((*key).into(), value);
                }
            }
            let mut more = Map::new();
            for sub in s.sections("multi_fields")? {
                let kind = sub.str("type")?.unwrap_or_else(|| "keyword".to_owned());
                more.insert(sub.str("name")?.unwrap_or_else(|| kind.clone()), json!({"type": kind}));
                NOT_FOR_MAPPINGS.iter().try_for_each(|key| sub.json(key).map(drop))?;
            }
            if !more.is_empty() {
                mapping.insert("fields".into(), more.into());
            }
            self.own.push((path, mapping.into()));
        }
        Ok(())
    }
}

/// The fields of a dialect, with their types.
pub(super) fn listed(compat: Compat) -> impl Iterator<Item = (&'static str, &'static str)> {
    let list = if compat == Compat::V5 { FIVE } else { ECS };
    list.iter().copied()
}

/// `properties` and `dynamic_templates`.
pub(super) fn mapping(compat: Compat, append: &Fields) -> (Value, Value) {
    let mut properties = Map::new();
    for (path, kind) in listed(compat) {
        put(&mut properties, path, of_type(kind));
    }
    for (path, mapping) in &append.own {
        put(&mut properties, path, mapping.clone());
    }
    let mut dynamic: Vec<Value> = append
        .objects
        .iter()
        .map(|(path, kind)| json!({path: {"path_match": format!("{path}.*"), "mapping": of_type(kind)}}))
        .collect();
    dynamic.push(json!({"strings_as_keyword": {"match_mapping_type": "string", "mapping": of_type("keyword")}}));
    (properties.into(), dynamic.into())
}

fn of_type(kind: &str) -> Value {
    match kind {
        "keyword" => json!({"type": kind, "ignore_above": KEYWORD_LIMIT}),
        _ => json!({"type": kind}),
    }
}

/// Puts a field into its place; what stands in its way gives way.
fn put(properties: &mut Map<String, Value>, path: &str, mapping: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        properties.insert(path.to_owned(), mapping);
        return;
    };
    let above = properties.entry(first).or_insert(Value::Null);
    if above.get("properties").is_none() {
        *above = json!({"properties": {}});
    }
    if let Some(Value::Object(below)) = above.get_mut("properties") {
        put(below, rest, mapping);
    }
}

#[cfg(test)]
mod tests {
    use pillion_config::Config;

    use super::*;

    fn append(yaml: &str) -> Result<Fields, String> {
        let config = Config::from_yaml(yaml).unwrap();
        Fields::from_sections(&config.root().sections("f").unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_appended() {
        let fields = append(
            "f:\n- {name: order.id, type: long, description: x}\n- {name: note}\n- name: shop\n  type: group\n  fields:\n  \
             - {name: at, type: date, format: epoch_millis}\n  - {name: where, type: geo_point}\n- {name: labels, type: object, \
             object_type: keyword}\n- {name: title, type: text, multi_fields: [{name: raw, type: keyword}]}\n- {name: host.ip, type: keyword}",
        );
        let (properties, dynamic) = mapping(Compat::V8, &fields.unwrap());
        let of = |path: &str| properties.pointer(path).cloned().unwrap_or_default();
        assert_eq!(of("/order/properties/id"), json!({"type": "long"}));
        assert_eq!(of("/note"), json!({"type": "keyword", "ignore_above": 1024}));
        assert_eq!(of("/shop/properties/at"), json!({"type": "date", "format": "epoch_millis"}));
        assert_eq!(of("/title/fields/raw/type"), json!("keyword"));
        assert_eq!(of("/host/properties/ip/type"), json!("keyword"), "the user's word counts");
        assert_eq!(of("/host/properties/name/type"), json!("keyword"));
        assert_eq!(dynamic[0]["labels"]["path_match"], "labels.*");
        assert!(append("f: [{type: long}]").unwrap_err().contains("without `name`"));
    }

    #[test]
    fn no_field_is_in_the_way_of_another() {
        for compat in [Compat::V5, Compat::V8] {
            let (properties, _) = mapping(compat, &Fields::default());
            for (path, kind) in listed(compat) {
                let pointer = format!("/{}", path.replace('.', "/properties/"));
                assert_eq!(properties.pointer(&pointer).and_then(|p| p["type"].as_str()), Some(kind), "{path}");
            }
        }
    }
}
