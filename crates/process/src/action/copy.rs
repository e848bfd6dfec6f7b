//! rename, copy_fields.

use pillion_config::{Error, Section};

use crate::action::{Action, Done, fail, missing, required};
use crate::doc::Doc;
use crate::tree;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rename,
    Copy,
}

#[derive(Debug)]
struct Copy {
    kind: Kind,
    fields: Vec<(String, String)>,
    ignore_missing: bool,
    fail_on_error: bool,
    /// 7.17 begins the message in the event with a capital.
    capital: bool,
}

impl Copy {
    fn one(&self, doc: &mut Doc<'_>, from: &str, to: &str) -> Result<(), String> {
        if doc.get(to).is_ok() {
            return Err(format!("target field {to} already exists, drop or rename this field first"));
        }
        let value = match doc.get(from) {
            Ok(got) => got.to_value(),
            Err(e) if self.ignore_missing && e == tree::NOT_FOUND => return Ok(()),
            Err(e) => return Err(format!("could not fetch value for key: {from}, Error: {e}")),
        };
        let shown = show(&value);
        if self.kind == Kind::Copy {
            return doc.put(to, value).map_err(|e| format!("could not copy value to {to}: {shown}, {e}"));
        }
        // First, so that `a` can become `a.b`.
        doc.delete(from).map_err(|e| format!("could not delete key: {from},  {e}"))?;
        doc.put(to, value).map_err(|e| format!("could not put value: {to}: {shown}, {e}"))
    }
}

/// A value as Go's `%v` shows it, as far as messages need it.
fn show(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Action for Copy {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = self.fail_on_error.then(|| doc.keep());
        for (from, to) in &self.fields {
            let Err(e) = self.one(doc, from, to) else { continue };
            if let Some(kept) = kept {
                doc.restore(kept);
                let what = if self.kind == Kind::Rename { "rename fields in" } else { "copy fields in copy_fields" };
                let failed = if self.capital { "Failed" } else { "failed" };
                return fail(doc, format!("{failed} to {what} processor: {e}"));
            }
        }
        Ok(Done::Keep)
    }
}

fn read(s: &Section<'_>, kind: Kind) -> Result<Box<dyn Action>, Error> {
    let mut fields = Vec::new();
    for item in s.sections("fields")? {
        fields.push((required(&item, "from")?, required(&item, "to")?));
    }
    if fields.is_empty() {
        return Err(missing(s, "fields"));
    }
    let ignore_missing = s.bool("ignore_missing")?.unwrap_or(false);
    let fail_on_error = s.bool("fail_on_error")?.unwrap_or(true);
    let capital = !s.compat().is_modern();
    Ok(Box::new(Copy { kind, fields, ignore_missing, fail_on_error, capital }))
}

pub(super) fn rename(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    read(s, Kind::Rename)
}

pub(super) fn copy_fields(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    read(s, Kind::Copy)
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::json;

    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "j": {"a": 1, "s": "text"}});
        let failed = |text: &str| {
            let mut e = event.clone();
            e["error"] = json!({"message": text});
            e
        };
        for (processor, want) in [
            ("rename: {fields: [{from: j.a, to: r.a}]}", json!({"message": "m", "j": {"s": "text"}, "r": {"a": 1}})),
            ("rename: {fields: [{from: message, to: text}]}", json!({"text": "m", "j": {"a": 1, "s": "text"}})),
            ("rename: {fields: [{from: j.s, to: j.s.x}]}", json!({"message": "m", "j": {"a": 1, "s": {"x": "text"}}})),
            (
                "rename: {fields: [{from: j.a, to: q}, {from: j.a, to: j.s}]}",
                failed(
                    "Failed to rename fields in processor: target field j.s already exists, drop or rename this field first",
                ),
            ),
            (
                "rename: {fields: [{from: j.a, to: j.s.x}]}",
                failed(
                    "Failed to rename fields in processor: could not put value: j.s.x: 1, expected map but type is string",
                ),
            ),
            ("rename: {fields: [{from: j.zz, to: x}], fail_on_error: false}", event.clone()),
            ("rename: {fields: [{from: j.zz, to: x}], ignore_missing: true}", event.clone()),
            (
                "copy_fields: {fields: [{from: message, to: event.original}]}",
                json!({"message": "m", "j": {"a": 1, "s": "text"}, "event": {"original": "m"}}),
            ),
            (
                "copy_fields: {fields: [{from: j.b, to: x}]}",
                failed(
                    "Failed to copy fields in copy_fields processor: could not fetch value for key: j.b, Error: key not found",
                ),
            ),
        ] {
            assert_eq!(processed(&format!("[{{{processor}}}]"), event.clone()), want, "{processor}");
        }
    }
}
