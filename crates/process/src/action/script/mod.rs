//! script: JavaScript that sees each event.
//!
//! Comes in: a script in the configuration or in files, then events. Goes out: the same, as the script leaves them.
//!
//! Always holds: a script has an engine of its own, with a bound on its memory, its stack and its time, and neither files
//! nor a network, but for the nameservers of a `DNS` that it makes; events see it one after another. What a script throws is added to the event, which passes. A number that
//! a script leaves alone stays as it was, beyond the 53 bits that JavaScript has too.
//! Tested below. Why it is a cargo feature: docs/decisions/script.md.

mod engine;
mod host;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pillion_config::{Error, Section, further_text};
use pillion_world::World;
use serde_json::{Map, Value, json};

use crate::action::{Action, Done, required, tag};
use crate::doc::Doc;
use engine::{Engine, Text};
use host::{At, Host};

/// How long a script may take for one event without `timeout`: one that never ends must not hold up the files.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Script {
    engine: Mutex<Engine>,
    tag_on_exception: String,
}

impl Action for Script {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let before = Seen::of(doc);
        let at = At { id: Some(doc.id()), read_ms: doc.read_ms(), replayed: doc.is_replayed() };
        let (thrown, after) =
            self.engine.lock().unwrap_or_else(PoisonError::into_inner).process(&before.to_json().to_string(), at);
        let mut cancelled = false;
        let thrown = match after {
            Ok(after) => {
                cancelled = after["cancelled"] == true;
                before.put_back(after, doc);
                thrown
            }
            Err(why) => thrown.or(Some(why)),
        };
        let Some(thrown) = thrown else { return Ok(if cancelled { Done::Drop } else { Done::Keep }) };
        if !self.tag_on_exception.is_empty() {
            // Tags of another type stay as they are, as in Filebeat.
            let _ = tag(doc, "tags", std::slice::from_ref(&self.tag_on_exception));
        }
        append(doc, "error.message", &thrown)?;
        Err(format!("failed in process function: {thrown}"))
    }
}

/// Adds a text to what is there: alone, or in a list.
fn append(doc: &mut Doc<'_>, path: &str, text: &str) -> Result<(), String> {
    let value = match doc.get(path).map(|got| got.to_value()) {
        Ok(Value::String(old)) if old != text => json!([old, text]),
        Ok(Value::Array(mut items)) => {
            items.push(text.into());
            Value::Array(items)
        }
        _ => text.into(),
    };
    doc.put(path, value)
}

/// What a script sees of an event.
struct Seen {
    fields: Map<String, Value>,
    metadata: Map<String, Value>,
    time_ms: i64,
}

impl Seen {
    fn of(doc: &mut Doc<'_>) -> Seen {
        let (fields, metadata, time_ms) = doc.whole();
        Seen { fields, metadata, time_ms }
    }

    fn to_json(&self) -> Value {
        json!({"fields": self.fields, "metadata": self.metadata, "time": self.time_ms})
    }

    /// Puts into the event what the script has changed.
    fn put_back(self, mut after: Value, doc: &mut Doc<'_>) {
        let mut map = |key: &str| match after.get_mut(key).map(Value::take) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let (mut fields, mut metadata) = (map("fields"), map("metadata"));
        keep_numbers(&self.fields, &mut fields);
        keep_numbers(&self.metadata, &mut metadata);
        if let Some(ms) = after["time"].as_i64() {
            doc.set_time(ms);
        }
        if fields != self.fields || metadata != self.metadata {
            let text = fields.get("message") == self.fields.get("message");
            doc.set_whole(fields, metadata, text);
        }
    }
}

/// A number that is the same to JavaScript is the one that was there.
fn keep_numbers(before: &Map<String, Value>, after: &mut Map<String, Value>) {
    for (key, new) in after {
        if let Some(old) = before.get(key) {
            keep_number(old, new);
        }
    }
}

fn keep_number(old: &Value, new: &mut Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => keep_numbers(old, new),
        (Value::Array(old), Value::Array(new)) => old.iter().zip(new).for_each(|(old, new)| keep_number(old, new)),
        (Value::Number(old), Value::Number(new)) if old.as_f64() == new.as_f64() => *new = old.clone(),
        _ => {}
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let lang = required(s, "lang")?;
    if !matches!(lang.as_str(), "javascript" | "js") {
        return Err(s.error("lang", format!("there is no language `{lang}`"), "write `lang: javascript`"));
    }
    let (key, sources) = sources(s)?;
    let timeout = s.duration("timeout")?.filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT);
    let params = s.json("params")?.filter(|params| params.as_object().is_some_and(|map| !map.is_empty()));
    // Names for logs and metrics, and a number of sessions of which there is one here.
    let _ = (s.str("tag")?, s.str("id")?, s.usize("max_cached_sessions")?);
    let engine = Engine::load(&sources, params.as_ref(), timeout, Host::new(s.compat()))
        .map_err(|why| s.error(key, why, "correct the script; docs/processors.md says what it may use"))?;
    let tag_on_exception = s.str("tag_on_exception")?.unwrap_or_else(|| "_js_exception".to_owned());
    Ok(Box::new(Script { engine: Mutex::new(engine), tag_on_exception }))
}

/// The option that has the script, and its texts with the names of their files.
fn sources(s: &Section<'_>) -> Result<(&'static str, Vec<Text>), Error> {
    let source = s.str("source")?.filter(|text| !text.is_empty());
    let file = s.str("file")?.filter(|name| !name.is_empty());
    let files = s.strings("files")?;
    match (source, file, files.is_empty()) {
        (Some(text), None, true) => Ok(("source", vec![("inline.js".to_owned(), text)])),
        (None, Some(name), true) => Ok(("file", vec![load(s, "file", &name)?])),
        (None, None, false) => {
            Ok(("files", files.iter().map(|name| load(s, "files", name)).collect::<Result<_, _>>()?))
        }
        _ => Err(s.error_here("not exactly one script is given", "give one of `source`, `file` and `files`")),
    }
}

/// A script's file; a relative name lies below `path.config`. As with the configuration itself, others mustn't be able to
/// write it.
fn load(s: &Section<'_>, key: &str, name: &str) -> Result<Text, Error> {
    if name.contains(['*', '?', '[']) {
        return Err(s.error(key, format!("`{name}` is a pattern"), "name each file in `files`, in order"));
    }
    let path = s.paths().config.join(Path::new(name));
    let remedy = "check the name; relative ones lie below path.config";
    let found = further_text(&*World::real().fs, &path, s.strict());
    let text = found.map_err(|e| s.error(key, e.reason(), e.remedy()))?;
    let text = text.ok_or_else(|| s.error(key, format!("{}: there is no such file", path.display()), remedy))?;
    Ok((path.display().to_string(), text))
}

#[cfg(test)]
mod tests {
    use super::engine::TIMED_OUT;
    use super::*;
    use crate::Steps;
    use crate::pipeline::testing::{config, processed, with};

    fn step(script: &str, more: &str) -> String {
        format!("[{{script: {{lang: javascript, source: {}{more}}}}}]", json!(script))
    }

    fn event() -> Value {
        json!({"message": "m", "a": {"b": 1}, "s": "txt", "big": 9_007_199_254_740_993_u64, "l": [1, "x"], "f": 1.0})
    }

    /// As Filebeat 7.17.29 leaves the event.
    #[test]
    fn the_events_api() {
        for (body, change) in [
            ("", json!({})),
            ("e.Put('x', e.Get('a')); e.Put('y', e.Get('nope'));", json!({"x": {"b": 1}, "y": null})),
            ("e.Put('z', e.Put('s', 'new'));", json!({"s": "new", "z": "txt"})),
            ("e.Put('n.m', e.Get('message') + e.fields.s);", json!({"n": {"m": "mtxt"}})),
            ("e.Put('message', 'other');", json!({"message": "other"})),
            ("e.Tag('t'); e.Tag('u'); e.Tag('t');", json!({"tags": ["t", "u"]})),
            ("e.AppendTo('s', 'u'); e.AppendTo('q', 'v');", json!({"s": ["txt", "u"], "q": "v"})),
            ("e.Put('r', [e.Rename('s', 'a'), e.Rename('nope', 'y')]);", json!({"r": [false, false]})),
            ("e.Put('r', [e.Delete('a.nope'), e.Delete('s.x')]);", json!({"r": [false, false]})),
            ("e.Put('r', [e.Rename('a', 'a.b'), e.Rename('f', 'f.g')]);", json!({"r": [false, true], "f": {"g": 1}})),
            ("e.Put('@metadata.k', 'v');", json!({"@metadata": {"k": "v"}})),
            ("e.Put('@timestamp', new Date(5));", json!({"@timestamp": 5})),
            ("e.fields.live = 1; var a = e.Get('a'); a.c = 2;", json!({"live": 1, "a": {"b": 1, "c": 2}})),
            ("e.Put('u', undefined); e.Put('d', new Date(0));", json!({"u": null, "d": "1970-01-01T00:00:00.000Z"})),
            ("e.Cancel();", Value::Null),
        ] {
            let script = format!("function process(e) {{ {body} }}");
            let want = if change.is_null() { change } else { with(&event(), change) };
            assert_eq!(processed(&step(&script, ""), event()), want, "{body}");
        }
    }

    #[test]
    fn what_is_thrown_is_added_and_the_event_passes() {
        for (body, want) in [
            ("e.Put('k', 1); throw 'text';", "text"),
            ("e.Put('k', 1); e.Cancel(); throw 'after';", "after"),
            ("e.Put('k', 1); e.Put('@timestamp', '2020-01-01T00:00:00Z');", "value is no timestamp"),
            ("e.Put('k', 1); throw new Error('bad');", "Error: bad at process (inline.js:2:"),
            ("e.Put('k', 1); nope();", "ReferenceError: nope is not defined at process (inline.js:2:"),
            ("e.Put('k', 1); e.Put('s.x', 1);", "Error: expected map but type is string"),
            ("e.Put('k', 1); e.Put('s');", "Error: Put requires two arguments (key and value)"),
            ("e.Put('k', 1); e.AppendTo('a', 'x');", "found for a field"),
            ("e.Put('k', 1); (function f() { f(); f(); })();", "call stack"),
            ("e.Put('k', 1); while (true) {}", TIMED_OUT),
            ("e.Put('k', 1); try { while (true) {} } catch (x) {}", TIMED_OUT),
            ("e.Put('k', 1); let all = []; while (true) all.push(new Array(9999).fill(0));", "out of memory"),
        ] {
            let script = format!("\nfunction process(e) {{ {body} }}");
            let got = processed(&step(&script, ", timeout: 200ms, tag_on_exception: oops"), event());
            let said = got["error"]["message"].as_str().unwrap_or_default();
            assert!(said.contains(want), "{body}: {got}");
            assert_eq!(
                (&got["k"], &got["tags"], &got["message"]),
                (&json!(1), &json!(["oops"]), &json!("m")),
                "{body}"
            );
        }
    }

    /// An engine goes on after whatever a script did before.
    #[test]
    fn the_next_event_is_a_new_one() {
        let script = "var n = 0; function process(e) { if (n++ == 0) { while (true) {} } e.Put('n', n); }";
        let one = step(script, ", timeout: 100ms");
        let config = config(&format!("processors: {one}"));
        let steps = Steps::from_section(&config.root()).unwrap();
        let crate::options::Step::Do { action, .. } = &steps.0[0] else { panic!("no processor") };
        let run = || crate::pipeline::testing::on_event(event(), |doc| (action.run(doc).is_ok(), doc.text("message")));
        assert_eq!((run().0, run()), (false, (true, Some("m".to_owned()))));
    }

    #[test]
    fn parameters_and_the_scripts_own_test() {
        let script = "var p; function register(q) { p = q; } function process(e) { e.Put('p', p.a.b); }\nfunction \
                      test() { var e = new Event({x: 1}); process(e); if (e.Get('p') !== 7) throw 'expected'; }";
        let got = processed(&step(script, ", params: {a: {b: 7}}"), event());
        assert_eq!(got, with(&event(), json!({"p": 7})));
    }

    /// As `module/*/*_test.go` of Filebeat 7.17.29 say.
    #[test]
    fn filebeats_modules() {
        for (body, change) in [
            (
                "e.Put('r', [net.isIP('1.2.3.4'), net.isIP('::1'), net.isIP('x'), net.isIPv4('::ffff:1.2.3.4'), net.isIPv6('::1')]);",
                json!({"r": [4, 6, 0, true, true]}),
            ),
            (
                "e.Put('r', [path.basename('/a/b.c'), path.dirname('/a/b.c'), path.extname('/a.d/b.c'), path.normalize('/a/../b//./c/')]);",
                json!({"r": ["b.c", "/a", ".c", "/b/c"]}),
            ),
            (
                "e.Put('r', ['', '/', 'a', '..', 'a/'].map((p) => [path.basename(p), path.dirname(p), path.normalize(p)].join(' ')));",
                json!({"r": [". . .", "/ / /", "a . a", ".. . ..", "a a a"]}),
            ),
            (
                "e.Put('r', [path.win32.basename('C:\\\\a\\\\b.exe'), path.isAbsolute('/a'), path.posix.isAbsolute('a'), path.sep]);",
                json!({"r": ["b.exe", true, false, "/"]}),
            ),
            ("cut.Run(e);", json!({"d": {"k": "t", "v": "t"}})),
            (
                "var got = chain.Run(e); e.Put('same', got === e);",
                json!({"d": {"k": "t", "v": "t"}, "x": {"y": 1}, "f2": 1, "f": null, "same": true}),
            ),
            (
                "e.Put('r', new p.Chain().Add((e) => e.Cancel()).AddFields({fields: {z: 1}}).Build().Run(e));",
                Value::Null,
            ),
            ("try { strict.Run(e); } catch (x) { e.Put('r', String(x).includes('nope')); }", json!({"r": true})),
            ("console.log('%s: %d %j', 'a', 1, {b: 2}); console.warn('x', 'y'); console.error();", json!({})),
        ] {
            let script = format!(
                "const net = require('net'), path = require('path'), p = require('processor');\n\
                 const cut = new p.Dissect({{field: 's', tokenizer: '%{{k}}x%{{v}}', target_prefix: 'd'}});\n\
                 const strict = new p.Convert({{fields: [{{from: 'nope', to: 'n', type: 'long'}}]}});\n\
                 const chain = new p.Chain().Add(cut).AddFields({{target: 'x', fields: {{y: 1}}}})\n\
                   .Rename({{fields: [{{from: 'f', to: 'f2'}}]}}).Build();\n\
                 function process(e) {{ {body} }}"
            );
            let mut want = if change.is_null() { change } else { with(&event(), change) };
            if let Some(map) = want.as_object_mut() {
                map.retain(|key, value| key != "f" || !value.is_null());
            }
            assert_eq!(processed(&step(&script, ""), event()), want, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (options, want) in [
            ("lang: lua, source: x", "no language `lua`"),
            ("lang: javascript", "not exactly one script"),
            ("lang: js, source: x, file: y", "not exactly one script"),
            ("lang: js, source: 'var x = 1;'", "process function not found"),
            ("lang: js, source: 'var process = 1;'", "process is not a function"),
            ("lang: js, source: 'function process(e) { e.( }'", "inline.js:1"),
            ("lang: js, source: 'function process(e) {}', params: {a: 1}", "no register function was found"),
            ("lang: js, source: 'function process(e) {} function test() { throw 5; }'", "failed in test() function: 5"),
            ("lang: js, source: 'while (true) {}', timeout: 100ms", TIMED_OUT),
            ("lang: js, source: 'require(`windows`);'", "no module 'windows'"),
            ("lang: js, source: 'const p = require(`processor`); new p.Dissect({})'", "dissect: "),
            ("lang: js, source: 'new (require(`processor`)).AddHostMetadata()'", "put it before the script"),
            (
                "lang: js, source: 'const p = require(`processor`); while (true) new p.AddLocale();'",
                "makes its processors once",
            ),
            ("lang: js, file: /nonexistent/x.js", "/nonexistent/x.js"),
            ("lang: js, file: '*.js'", "is a pattern"),
        ] {
            let config = config(&format!("processors: [{{script: {{{options}}}}}]"));
            let error = Steps::from_section(&config.root()).unwrap_err().to_string();
            assert!(error.contains(want), "{options}: {error}");
        }
    }

    /// Files of this crate stand for scripts.
    #[test]
    fn a_files_error_names_it_and_the_line() {
        for (file, want) in
            [("Cargo.toml", "Cargo.toml:1"), ("src/action/script/prelude.js", "process function not found")]
        {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            for option in ["file", "files"] {
                let config =
                    config(&format!("processors: [{{script: {{lang: js, {option}: {}}}}}]", json!(path.to_str())));
                let error = Steps::from_section(&config.root()).unwrap_err().to_string();
                assert!(error.contains(want), "{file}: {error}");
            }
        }
    }
}
