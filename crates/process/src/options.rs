//! Processors from the configuration.
//!
//! Comes in: a section that may have `processors`. Goes out: [`Steps`]. Always holds: a processor that isn't known is
//! refused with its position; each entry has one processor, or `if`.
//! Tested below.

use std::sync::Arc;

use pillion_config::{Compat, Error, Section, nearest};

use crate::action::{self, Action};
use crate::cloud::Cloud;
use crate::condition::Condition;
use crate::kubernetes::Kubernetes;
use crate::machine::Machine;

/// One entry of `processors`.
#[derive(Debug)]
pub(crate) enum Step {
    /// A processor, perhaps with a condition.
    Do {
        /// Its name, for the log.
        name: &'static str,
        when: Option<Condition>,
        action: Box<dyn Action>,
    },
    /// `if`, `then`, `else`.
    If { condition: Condition, then: Vec<Step>, otherwise: Vec<Step> },
}

/// The processors of one place of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Steps(pub(crate) Arc<[Step]>);

/// The processors that the events of one input meet.
#[derive(Clone, Debug)]
pub struct Processors {
    pub(crate) compat: Compat,
    pub(crate) input: Steps,
    pub(crate) global: Steps,
    /// The input's events are lines alone.
    pub(crate) lines: bool,
}

impl Default for Processors {
    fn default() -> Processors {
        Processors { compat: Compat::V8, input: Steps::default(), global: Steps::default(), lines: false }
    }
}

impl Processors {
    /// An input's own processors and the global ones, in the dialect of their configuration.
    pub fn new(compat: Compat, input: Steps, global: Steps) -> Processors {
        Processors { compat, input, global, lines: false }
    }

    /// The same, where it is known whether the input's events are lines alone, with no fields of their own.
    pub fn of_lines(self, lines: bool) -> Processors {
        Processors { lines, ..self }
    }

    /// Every processor among them that has to be told something before it adds anything, wherever it stands.
    pub fn outside(&self) -> Vec<Outside<'_>> {
        let mut found = Vec::new();
        for steps in [&self.input, &self.global] {
            find_outside(&steps.0, &mut found);
        }
        found
    }

    /// Those of them that are `add_kubernetes_metadata`.
    pub fn kubernetes(&self) -> Vec<&Kubernetes> {
        let kubernetes = |outside| match outside {
            Outside::Kubernetes(kubernetes) => Some(kubernetes),
            _ => None,
        };
        self.outside().into_iter().filter_map(kubernetes).collect()
    }
}

/// A processor that depends on what isn't in the event.
#[derive(Clone, Copy, Debug)]
pub enum Outside<'p> {
    /// It wants pods' metadata.
    Kubernetes(&'p Kubernetes),
    /// It wants to look at the machine.
    Machine(&'p Machine),
    /// It wants to know in whose cloud this is.
    Cloud(&'p Cloud),
}

fn find_outside<'s>(steps: &'s [Step], found: &mut Vec<Outside<'s>>) {
    for step in steps {
        match step {
            Step::Do { action, .. } => found.extend(action.outside()),
            Step::If { then, otherwise, .. } => {
                find_outside(then, found);
                find_outside(otherwise, found);
            }
        }
    }
}

impl Steps {
    /// Reads `processors` of a section; none when it isn't there.
    ///
    /// # Errors
    /// The first processor that isn't known or whose options are wrong.
    pub fn from_section(s: &Section<'_>) -> Result<Steps, Error> {
        Ok(Steps(list(s, "processors", Always::Yes)?.into()))
    }
}

/// Every processor that Filebeat has: its options besides `when` (by their first names), or why it is refused.
pub fn listed() -> Vec<(&'static str, Result<&'static [&'static str], &'static str>)> {
    let known = action::KNOWN.iter().map(|known| (known.name, Ok(known.options)));
    let mut all: Vec<_> = known.chain(action::ABSENT.iter().map(|(name, why)| (*name, Err(*why)))).collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    all
}

/// Whether a processor without `when` meets every event; not below `then` or `else`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Always {
    Yes,
    No,
}

/// A list of processors, or one alone.
fn list(s: &Section<'_>, key: &str, always: Always) -> Result<Vec<Step>, Error> {
    let items = match s.sections(key) {
        Ok(items) => items,
        Err(e) => match s.section(key) {
            Ok(one) => one.into_iter().collect(),
            Err(_) => return Err(e),
        },
    };
    items.iter().map(|item| step(item, always)).collect()
}

fn step(item: &Section<'_>, always: Always) -> Result<Step, Error> {
    if item.has("if") {
        let Some(condition) = item.section("if")? else {
            return Err(item.error("if", "there is no condition here", "give one"));
        };
        let condition = Condition::from_section(&condition)?;
        let (then, otherwise) = (list(item, "then", Always::No)?, list(item, "else", Always::No)?);
        if then.is_empty() {
            return Err(item.error("if", "`if` without `then` does nothing", "add `then:` with processors"));
        }
        return Ok(Step::If { condition, then, otherwise });
    }
    let keys: Vec<&str> = item.keys().collect();
    let [key] = keys.as_slice() else {
        let shown = keys.join(", ");
        return Err(item.error_here(
            format!("each entry has exactly one processor, and here are {}: {shown}", keys.len()),
            "begin each processor with `- `, and indent its options below its name",
        ));
    };
    let sections = item.named_sections()?;
    let Some((_, options)) = sections.first() else {
        return Err(item.error_here("there is no processor here", "remove the entry"));
    };
    let Some(known) = action::KNOWN.iter().find(|known| known.name == *key) else {
        return Err(unknown(item, key));
    };
    let when = match options.section("when")? {
        None => None,
        Some(when) => Some(Condition::from_section(&when)?),
    };
    if known.name == "drop_event" && when.is_none() && always == Always::Yes {
        options.warn("when", "drop_event without `when` drops every event", "give a condition");
    }
    Ok(Step::Do { name: known.name, when, action: (known.read)(options)? })
}

fn unknown(item: &Section<'_>, key: &str) -> Error {
    if let Some((_, reason)) = action::ABSENT.iter().find(|(name, _)| *name == key) {
        return item.error(
            key,
            format!("the processor `{key}` is refused: {reason}; events would reach the target without it"),
            "remove it if the target can do without, or let the target do its work; docs/processors.md has those that \
             are here",
        );
    }
    let absent = action::ABSENT.iter().map(|(name, _)| *name);
    let names = action::KNOWN.iter().map(|known| known.name).chain(absent);
    let remedy = match nearest(key, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "see docs/processors.md for those that are there".to_owned(),
    };
    item.error(key, format!("there is no processor `{key}`"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::config;

    #[test]
    fn what_is_wrong_is_refused() {
        for (processors, want) in [
            ("[{add_tag: {tags: [a]}}]", "did you mean `add_tags`?"),
            #[cfg(not(feature = "script"))]
            ("[{script: {lang: javascript}}]", "`--features script`"),
            ("[{add_tags: {tags: [a]}, drop_event: ~}]", "exactly one processor"),
            ("[{if: {equals.a: 1}}]", "without `then`"),
            ("[{if: {equal.a: 1}, then: {add_tags: {tags: [a]}}}]", "no condition"),
            ("[{rename: ~}]", "fields"),
            ("[{add_tags: {tags: [a], when: {range.a: x}}}]", "range"),
        ] {
            let config = config(&format!("processors: {processors}"));
            let error = Steps::from_section(&config.root()).unwrap_err().to_string();
            assert!(error.contains(want), "{processors}: {error}");
        }
    }

    /// One good configuration of each processor, with each of its options.
    fn whole(name: &str) -> &'static str {
        match name {
            "add_fields" => "{fields: {a: 1}, target: t}",
            "add_cloud_metadata" => "{timeout: 1s, providers: [aws], overwrite: true, ssl: {enabled: false}, host: h}",
            "add_docker_metadata" => {
                "{host: h, match_fields: [a], match_pids: [b], match_source: true, match_source_index: 4, \
                 match_short_id: true, labels.dedot: true, cleanup_timeout: 1m, hostfs: /, system.hostfs: /, ssl: {enabled: false}, \
                 skip_older: true, wait_for_metadata: true}"
            }
            "add_host_metadata" => {
                "{netinfo.enabled: true, cache.ttl: 5m, expire_update_timeout: 10s, geo.name: g, replace_fields: true, \
                 name: n1}"
            }
            "add_observer_metadata" => "{netinfo.enabled: true, cache.ttl: 5m, geo.name: g, overwrite: true}",
            "add_id" => "{target_field: t, type: elasticsearch}",
            "add_kubernetes_metadata" => {
                "{source: api, podinfo: /p, node: n1, host: h, scope: node, namespace: s, api_server: 'http://h', \
                 kube_config: '', kube_client_options: {qps: 1}, in_cluster: true, use_kubeadm: true, sync_period: 1m, \
                 cleanup_timeout: 1m, indexers: [{container: ~}], matchers: [{logs_path: {logs_path: /l}}], \
                 default_indexers.enabled: true, default_matchers.enabled: true, add_resource_metadata.node.enabled: \
                 true, include_labels: [a], exclude_labels: [b], include_annotations: [c], labels.dedot: true, \
                 annotations.dedot: true, wait_for_metadata: true, wait_for_metadata_timeout: 1s}"
            }
            "add_labels" => "{labels: {a: b}}",
            "add_network_direction" => "{source: a, destination: b, target: c, internal_networks: [private]}",
            "add_tags" => "{tags: [a], target: t}",
            "append" => {
                "{target_field: t, fields: [a], values: [b], ignore_missing: true, ignore_empty_values: true, \
                 fail_on_error: true, allow_duplicate: true}"
            }
            "cache" => {
                "{backend.memory.id: whole, put: {key_field: a, value_field: b, ttl: 1h}, ignore_missing: true, \
                 ignore_failure: true, overwrite_keys: true}"
            }
            "community_id" => "{fields.source_ip: a, target: t, seed: 1}",
            "convert" => "{fields: [{from: a, to: b}], mode: copy, tag: x, ignore_missing: true, fail_on_error: true}",
            "copy_fields" | "rename" => "{fields: [{from: a, to: b}], ignore_missing: true, fail_on_error: true}",
            "decode_base64_field" => "{field: {from: a, to: b}, ignore_missing: true, fail_on_error: true}",
            "decode_cef" => {
                "{field: a, target_field: t, ecs: false, timezone: UTC, ignore_missing: true, ignore_failure: true, \
                 ignore_empty_values: true, id: i}"
            }
            "decode_csv_fields" => {
                "{fields: {a: b}, separator: ',', ignore_missing: true, trim_leading_space: true, overwrite_keys: \
                 true, fail_on_error: true}"
            }
            "decode_duration" => "{field: a, format: hours}",
            "decode_json_fields" => {
                "{fields: [a], target: t, max_depth: 1, process_array: true, overwrite_keys: true, expand_keys: true, \
                 add_error_key: true, document_id: i}"
            }
            "decode_xml" => {
                "{field: a, target_field: t, overwrite_keys: true, document_id: i, to_lower: true, ignore_missing: \
                 true, ignore_failure: true}"
            }
            "decompress_gzip_field" => {
                "{field: {from: a, to: b}, ignore_missing: true, fail_on_error: true, overwrite_keys: true}"
            }
            "add_process_metadata" => {
                "{match_pids: [a], target: t, include_fields: [process], ignore_missing: true, overwrite_keys: true, \
                 restricted_fields: true, host_path: /, cgroup_prefixes: [/a], cgroup_regex: (a), \
                 cgroup_cache_expire_time: 1s}"
            }
            "add_locale" => "{format: offset}",
            "detect_mime_type" => "{field: a, target: t}",
            "registered_domain" => {
                "{field: a, target_field: t, target_subdomain_field: s, target_etld_field: e, ignore_missing: true, \
                 ignore_failure: true, id: i}"
            }
            "dns" => {
                "{type: reverse, action: append, fields: {a: b}, nameservers: [127.0.0.1], timeout: 1s, transport: udp, \
                 tag_on_failure: [t], success_cache: {capacity.initial: 1, capacity.max: 2, min_ttl: 1s}, \
                 failure_cache: {capacity.initial: 1, capacity.max: 2, ttl: 1s}}"
            }
            "dissect" => {
                "{tokenizer: '%{a}', field: f, target_prefix: p, ignore_failure: true, overwrite_keys: true, \
                 trim_values: all, trim_chars: ' '}"
            }
            "drop_event" => "{}",
            "drop_fields" => "{fields: [a], ignore_missing: true}",
            "extract_array" => {
                "{field: a, mappings: {b: 0}, ignore_missing: true, omit_empty: true, overwrite_keys: true, \
                 fail_on_error: true}"
            }
            "fingerprint" => "{fields: [a], target_field: t, method: sha1, encoding: hex, ignore_missing: true}",
            "include_fields" => "{fields: [a]}",
            "lowercase" | "uppercase" => {
                "{fields: [a], values: [b], ignore_missing: true, fail_on_error: true, alter_full_field: true}"
            }
            "move_fields" => "{from: a, fields: [b], exclude: [c], to: d, ignore_missing: true}",
            "now" => "{field: a}",
            "rate_limit" => "{limit: 1/s, fields: [a], algorithm.token_bucket: {burst_multiplier: 2, gc.num_calls: 1}}",
            "replace" => {
                "{fields: [{field: a, pattern: b, replacement: c}], ignore_missing: true, fail_on_error: true}"
            }
            "script" => {
                "{lang: js, tag: t, id: i, source: 'function register(p) {} function process(e) {}', params: {a: 1}, \
                 timeout: 1s, tag_on_exception: x, max_cached_sessions: 1}"
            }
            "syslog" => {
                "{field: a, format: auto, timezone: UTC, overwrite_keys: true, ignore_missing: true, ignore_failure: \
                 true, tag: t}"
            }
            "timestamp" => {
                "{field: a, target_field: t, layouts: [UNIX], timezone: UTC, test: ['1'], ignore_missing: true, \
                 ignore_failure: true}"
            }
            "truncate_fields" => {
                "{fields: [a], max_bytes: 1, max_characters: 0, ignore_missing: true, fail_on_error: true}"
            }
            "urldecode" => "{fields: [{from: a, to: b}], ignore_missing: true, fail_on_error: true}",
            _ => "",
        }
    }

    /// The table of options, from which docs/compatibility.md is made, is what the code reads: neither more nor less.
    #[test]
    fn every_option_of_the_table_is_read_and_no_other() {
        for known in action::KNOWN {
            let config = config(&format!("processors: [{{{}: {}}}]", known.name, whole(known.name)));
            Steps::from_section(&config.root()).unwrap();
            let left = config.leftovers();
            let told: Vec<String> =
                [left.refused, left.unknown, left.unasked].iter().flatten().map(|e| e.one_line()).collect();
            assert!(told.is_empty(), "{}: {told:?}", known.name);
            let item = config.root().sections("processors").unwrap().remove(0);
            let (_, section) = item.named_sections().unwrap().remove(0);
            let mut written: Vec<&str> = section.keys().map(|key| key.split('.').next().unwrap_or(key)).collect();
            let mut listed = known.options.to_vec();
            // Of these only one can be there at a time.
            let others: &[&str] = match known.name {
                "cache" => &["get", "delete"],
                "script" => &["file", "files"],
                _ => &[],
            };
            listed.retain(|option| !others.contains(option));
            written.sort_unstable();
            listed.sort_unstable();
            assert_eq!(written, listed, "{}", known.name);
        }
    }

    #[test]
    fn names_are_unique_and_in_order() {
        let known: Vec<&str> = action::KNOWN.iter().map(|known| known.name).collect();
        let absent: Vec<&str> = action::ABSENT.iter().map(|(name, _)| *name).collect();
        assert!(known.is_sorted() && absent.is_sorted());
        assert!(known.iter().all(|name| !absent.contains(name)));
    }

    #[test]
    fn a_single_processor_stands_for_a_list() {
        let config = config("processors: [{if: {equals.a: 1}, then: {add_tags: {tags: [a]}}, else: [{add_id: ~}]}]");
        let steps = Steps::from_section(&config.root()).unwrap();
        assert!(matches!(&steps.0[0], Step::If { then, otherwise, .. } if then.len() == 1 && otherwise.len() == 1));
        assert!(config.leftovers().refused.is_empty());
    }
}
