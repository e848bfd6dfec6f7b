//! Random documents in random styles, random edits: the text means what was wanted, and every comment is still there.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is a failure of the test")]

use pillion_kube::inject::{Edit, apply};
use pillion_kube::yaml::{edit, read, write};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Small numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn scalar(&mut self) -> Value {
        match self.roll(12) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!(self.roll(100_000)),
            3 => json!(-1.5),
            4 => json!("two\nlines\n"),
            5 => json!("a\n\n  b #c"),
            _ => json!(self.pick(&[
                "word",
                "two words",
                "1",
                "true",
                "",
                "a: b",
                "# no",
                "ü",
                "- x",
                "it's",
                "\"q\"",
                "{",
                "*a",
                "x\ty",
                "/run/pillion",
                "$(POD)",
                "null",
                "0644",
                "1:20",
                "a,b",
                "[x]",
                "trailing ",
                "y",
                "-e",
                "...",
            ])),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        let size = self.roll(4);
        match self.roll(if depth == 0 { 1 } else { 4 }) {
            0 => self.scalar(),
            1 => (0..size).map(|_| self.value(depth - 1)).collect(),
            _ => self.map(depth, size),
        }
    }

    fn map(&mut self, depth: usize, size: usize) -> Value {
        let mut map = Map::new();
        for _ in 0..size {
            let key = self.pick(&["a", "name", "b c", "ü", "x/y", "8080", "on", "k~", "long-key"]).to_owned();
            map.insert(key, self.value(depth.saturating_sub(1)));
        }
        Value::Object(map)
    }
}

/// Writes a value in a style of chance, with numbered comments.
struct Writer<'a> {
    dice: &'a mut Dice,
    comments: usize,
    step: usize,
    newline: &'static str,
    out: String,
}

impl Writer<'_> {
    fn comment(&mut self) -> String {
        self.comments += 1;
        format!("# comment {}!", self.comments)
    }

    fn line(&mut self, indent: usize, text: &str) {
        if self.dice.chance(10) {
            let comment = self.comment();
            self.out.push_str(&format!("{}{comment}{}", " ".repeat(indent), self.newline));
        }
        if self.dice.chance(5) {
            self.out.push_str(self.newline);
        }
        self.out.push_str(&format!("{}{text}", " ".repeat(indent)));
    }

    fn end(&mut self) {
        if self.dice.chance(15) {
            let comment = self.comment();
            self.out.push_str(&format!("   {comment}"));
        }
        self.out.push_str(self.newline);
    }

    fn quoted(&mut self, text: &str) -> String {
        let plain =
            matches!(text, "word" | "two words" | "ü" | "/run/pillion" | "name" | "a" | "b c" | "long-key" | "x/y");
        match self.dice.roll(3) {
            0 | 1 if plain => text.to_owned(),
            1 if !text.contains(['\n', '\t']) => format!("'{}'", text.replace('\'', "''")),
            _ => json!(text).to_string(),
        }
    }

    fn flow(&mut self, value: &Value) -> String {
        let comma = self.dice.pick(&[", ", ","]);
        match value {
            Value::Object(map) => {
                let parts: Vec<String> =
                    map.iter().map(|(k, v)| format!("{}: {}", self.quoted(k), self.flow(v))).collect();
                format!("{{{}}}", parts.join(comma))
            }
            Value::Array(list) => {
                let parts: Vec<String> = list.iter().map(|v| self.flow(v)).collect();
                format!("[{}]", parts.join(comma))
            }
            Value::String(text) => self.quoted(text),
            value => value.to_string(),
        }
    }

    /// What follows `key:` or `-`.
    fn follow(&mut self, value: &Value, indent: usize, below: usize) {
        match value {
            Value::Object(map) if !map.is_empty() && self.dice.chance(75) => {
                self.end();
                self.block(value, below);
            }
            Value::Array(list) if !list.is_empty() && self.dice.chance(75) => {
                self.end();
                self.block(value, below);
            }
            Value::String(text) if text.contains('\n') && self.dice.chance(70) => {
                let (mark, body) = text.strip_suffix('\n').map_or(("|-", text.as_str()), |body| ("|", body));
                self.out.push_str(&format!(" {mark}"));
                self.end();
                for line in body.lines() {
                    let pad = if line.is_empty() { String::new() } else { " ".repeat(indent + self.step.max(2)) };
                    self.out.push_str(&format!("{pad}{line}{}", self.newline));
                }
            }
            Value::Null if self.dice.chance(50) => self.end(),
            value => {
                let text = self.flow(value);
                self.out.push_str(&format!(" {text}"));
                self.end();
            }
        }
    }

    fn block(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let key = self.quoted(key);
                    self.line(indent, &format!("{key}:"));
                    let list = value.is_array() && self.dice.chance(50);
                    let below = if list { indent } else { indent + self.step };
                    self.follow(value, indent, below);
                }
            }
            Value::Array(list) => {
                for item in list {
                    self.line(indent, "-");
                    match item {
                        Value::Object(map) if !map.is_empty() && self.dice.chance(70) => {
                            let start = self.out.len();
                            self.block(item, indent + 2);
                            // The first key stands beside the dash, when nothing stands before it.
                            let pad = " ".repeat(indent + 2);
                            match self.out[start..].strip_prefix(&pad).filter(|rest| !rest.starts_with('#')) {
                                Some(rest) => self.out = format!("{} {rest}", &self.out[..start]),
                                None => self.out.insert_str(start, self.newline),
                            }
                        }
                        item => self.follow(item, indent, indent + 2),
                    }
                }
            }
            _ => {}
        }
    }
}

/// Pointers to every mapping, list and other value.
fn places(value: &Value, at: &str, out: &mut Vec<(String, Value)>) {
    out.push((at.to_owned(), value.clone()));
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), out);
            }
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), out));
        }
        _ => {}
    }
}

fn random_edit(dice: &mut Dice, value: &Value) -> Edit {
    let mut all = Vec::new();
    places(value, "", &mut all);
    let (at, there) = all.swap_remove(dice.roll(all.len()));
    let new = dice.value(2);
    match there {
        Value::Object(_) if at.is_empty() || dice.chance(70) => {
            Edit::Add { at: format!("{at}/new{}", dice.roll(1000)), value: new }
        }
        Value::Array(list) if dice.chance(70) => {
            let place =
                if list.is_empty() || dice.chance(60) { "-".to_owned() } else { dice.roll(list.len()).to_string() };
            Edit::Add { at: format!("{at}/{place}"), value: new }
        }
        _ => Edit::Replace { at, value: new },
    }
}

/// Whether an edit is of the kind that injection makes; others may be refused.
fn must_work(text: &str, edit: &Edit) -> bool {
    match edit {
        Edit::Add { at, .. } if read(text).unwrap().unwrap().pointer(at).is_none() => true,
        Edit::Add { at, .. } | Edit::Replace { at, .. } => {
            let value = read(text).unwrap().unwrap();
            let there = value.pointer(at).cloned().unwrap_or_default();
            let in_list = at.rsplit('/').next().is_some_and(|part| part.parse::<usize>().is_ok());
            !in_list && matches!(there, Value::Number(_) | Value::Bool(_))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_text_means_what_was_wanted_and_comments_survive(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let size = 1 + dice.roll(4);
        let value = dice.map(3, size);
        let (step, newline) = ([1, 2, 4][dice.roll(3)], if dice.chance(10) { "\r\n" } else { "\n" });
        let mut writer = Writer { dice: &mut dice, comments: 0, step, newline, out: String::new() };
        writer.block(&value, 0);
        let (mut text, comments) = (writer.out, writer.comments);
        if dice.chance(20) {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        // What the writer above wrote is no subject of the test.
        prop_assume!(read(&text).is_ok_and(|read| read.as_ref() == Some(&value)));
        let mut wanted = value;
        for _ in 0..3 {
            let change = random_edit(&mut dice, &wanted);
            match edit(&text, std::slice::from_ref(&change)) {
                Ok(edited) => {
                    apply(&mut wanted, std::slice::from_ref(&change)).unwrap();
                    text = edited.text;
                }
                Err(fault) => prop_assert!(!must_work(&text, &change), "{fault}\n{change:?}\n{text}"),
            }
            prop_assert_eq!(read(&text).unwrap(), Some(wanted.clone()), "{}", text);
            for n in 1..=comments {
                prop_assert!(text.contains(&format!("# comment {n}!")), "comment {n} is lost\n{change:?}\n{text}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let value = dice.map(4, 4);
        prop_assert_eq!(read(&write(&value)).unwrap(), Some(value));
    }

    #[test]
    fn any_text_is_read_again(text in any::<String>(), other in "[ -~\n\t]{0,20}") {
        let value = json!({"a": &text, "b": [&other, {"c": &text}], &*text: &other});
        prop_assert_eq!(read(&write(&value)).unwrap(), Some(value));
    }
}
