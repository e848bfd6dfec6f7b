//! Inputs from the configuration.
//!
//! Comes in: the root section. Goes out: [`InputSpec`]s, or what is wrong and where. Defaults are Filebeat's, by dialect.
//! Always holds: an option that delivery depends on is taken or refused, never passed over.
//!
//! Tested below.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use pillion_event::{InputDesc, InputKind};
use pillion_process::{Processors, Steps};
use serde_json::{Map, Value, json};

use crate::net::Listen;
use crate::parse::{Chain, ChainOptions, Pattern};
use crate::scan::{Glob, PatternError};
use crate::spec::{Backoff, Close, Compression, Identity, InputSpec, Limits, Order, TakeOver};

/// What all inputs share: the general settings `tags`, `fields`, `fields_under_root`.
struct Globals {
    tags: Vec<String>,
    fields: Map<String, Value>,
    under_root: bool,
    steps: Steps,
}

/// The enabled inputs of a configuration: `filebeat.inputs`, or `filebeat.prospectors` in 5.6.
///
/// # Errors
/// The first option that is wrong or can't be honoured.
pub fn specs_from_root(root: &Section<'_>) -> Result<Vec<InputSpec>, Error> {
    specs(root, root, &[])
}

/// The enabled inputs of one configuration, with the tags and fields that another one gives to all events. `before`: those
/// that are there already, beside which they have to fit.
///
/// # Errors
/// As [`specs_from_root`].
pub fn specs(globals: &Section<'_>, root: &Section<'_>, before: &[&InputSpec]) -> Result<Vec<InputSpec>, Error> {
    let globals = Globals {
        tags: globals.strings("tags")?,
        fields: object(globals, "fields")?,
        under_root: globals.bool("fields_under_root")?.unwrap_or(false),
        steps: Steps::from_section(globals)?,
    };
    let mut specs: Vec<InputSpec> = Vec::new();
    for section in sections(root)? {
        let spec = from_section(&section, &globals)?;
        check_among(&section, &spec, || before.iter().copied().chain(&specs))?;
        specs.push(spec);
    }
    Ok(specs)
}

/// The sections of the enabled inputs of a configuration, those of modules behind the others.
///
/// # Errors
/// As [`specs`].
pub fn sections<'a>(root: &Section<'a>) -> Result<Vec<Section<'a>>, Error> {
    let key = if root.compat() == Compat::V5 { "filebeat.prospectors" } else { "filebeat.inputs" };
    let mut enabled = Vec::new();
    for section in root.sections(key)? {
        if section.bool("enabled")?.unwrap_or(true) {
            enabled.push(section);
        } else {
            section.ignore();
        }
    }
    if root.compat() != Compat::V5 {
        for module in root.sections("filebeat.modules")? {
            of_module(&module, &mut enabled)?;
        }
    }
    Ok(enabled)
}

/// The inputs of a module's filesets.
fn of_module<'a>(module: &Section<'a>, enabled: &mut Vec<Section<'a>>) -> Result<(), Error> {
    if !module.bool("enabled")?.unwrap_or(true) {
        module.ignore();
        return Ok(());
    }
    module.str("module")?;
    for name in module.keys().filter(|name| !["module", "enabled", "path"].contains(name)) {
        let Some(fileset) = module.section(name)? else { continue };
        if !fileset.bool("enabled")?.unwrap_or(true) {
            fileset.ignore();
            continue;
        }
        let Some(input) = fileset.section("input")? else { continue };
        if input.bool("enabled")?.unwrap_or(true) {
            enabled.push(input);
        } else {
            input.ignore();
        }
    }
    Ok(())
}

/// What a configuration says of all files together (`pillion.files.*`). `files`: how many the process may have open
/// (RLIMIT_NOFILE).
///
/// # Errors
/// An option that is wrong.
pub fn limits(root: &Section<'_>, files: u64) -> Result<Limits, Error> {
    let order = match root.choice("pillion.files.order", &["fair", "oldest"])? {
        Some("oldest") => Order::Oldest,
        _ => Order::Fair,
    };
    let open = root.u64_in("pillion.files.open", 2..=1_000_000)?;
    let default = Limits::default();
    // Half at most: the rest is for connections and for its own files.
    let most = usize::try_from(files / 2).unwrap_or(usize::MAX).max(16);
    let wanted = open.map_or(default.descriptors, |n| n as usize);
    if open.is_some() && wanted > most {
        root.warn(
            "pillion.files.open",
            format!("the process may open {files} files: {most} of them are logs at most"),
            "raise the limit (ulimit -n), or leave the option out",
        );
    }
    let descriptors = wanted.min(most);
    // A deleted file that isn't read yet is only there as long as its descriptor is.
    let deleted = default.deleted.min(descriptors.div_ceil(2));
    Ok(Limits { descriptors, deleted, order, ..default })
}

/// What an input may not be beside others.
fn check_among<'s, I: Iterator<Item = &'s InputSpec>>(
    section: &Section<'_>,
    spec: &InputSpec,
    before: impl Fn() -> I,
) -> Result<(), Error> {
    let stdin = |s: &InputSpec| s.desc.kind == InputKind::Stdin;
    if before().next().is_some() && (stdin(spec) || before().any(stdin)) {
        return Err(section.error("type", "stdin has to be the only input", "remove the other inputs, or this one"));
    }
    let same = |s: &InputSpec| s.is_filestream() && s.desc.id == spec.desc.id;
    if !spec.is_filestream() || !before().any(same) {
        return Ok(());
    }
    if spec.desc.id.is_empty() && section.compat() != Compat::V9 {
        section.warn(
            "id",
            "several filestream inputs have no id: they share their registry entries",
            "give each one an id of its own",
        );
        return Ok(());
    }
    let shown = if spec.desc.id.is_empty() { "nothing".to_owned() } else { section.shown("id") };
    Err(section.error(
        "id",
        format!("another filestream input has {shown} as id too"),
        "give each one an id of its own",
    ))
}

fn from_section(s: &Section<'_>, globals: &Globals) -> Result<InputSpec, Error> {
    let kind = kind(s)?;
    let desc = Arc::new(desc(s, kind, globals)?);
    if kind.is_network() {
        let processors = Processors::new(s.compat(), Steps::from_section(s)?, globals.steps.clone()).of_lines(false);
        let listen = Some(Listen::from_section(s, kind)?);
        let chain = Arc::new(Chain::new(ChainOptions::default()));
        return Ok(InputSpec { processors, listen, ..InputSpec::new(desc, chain, Vec::new()) });
    }
    let chain = Arc::new(Chain::new(ChainOptions::from_section(s, kind)?));
    let processors = Processors::new(s.compat(), Steps::from_section(s)?, globals.steps.clone());
    let processors = processors.of_lines(chain.options().gives_lines());
    if kind == InputKind::Stdin {
        // What is about files has no meaning here, and Filebeat takes it all the same.
        let mut spec = InputSpec { processors, ..InputSpec::new(desc, chain, Vec::new()) };
        log_options(s, &mut spec)?;
        return Ok(spec);
    }
    let filestream = kind == InputKind::Filestream;
    let recursive = if filestream {
        s.bool("prospector.scanner.recursive_glob")?.unwrap_or(true)
    } else {
        s.bool("recursive_glob.enabled")?.unwrap_or(s.compat() != Compat::V5)
    };
    let mut spec = InputSpec { processors, ..InputSpec::new(desc, chain, globs(s, kind, recursive)?) };
    spec.ignore_older = s.duration("ignore_older")?.filter(|d| !d.is_zero());
    if filestream {
        filestream_options(s, &mut spec)?;
    } else {
        log_options(s, &mut spec)?;
        log_file_options(s, &mut spec)?;
    }
    Ok(spec)
}

fn kind(s: &Section<'_>) -> Result<InputKind, Error> {
    let known = ["log", "filestream", "container", "docker", "stdin", "tcp", "udp", "unix", "syslog"];
    let word = if s.compat() == Compat::V5 {
        // 5.6 says `input_type`, 6.x says `type`.
        let old = s.choice("input_type", &["log", "stdin"])?;
        s.choice("type", &["log", "docker", "stdin"])?.or(old).unwrap_or("log")
    } else {
        s.choice("type", &known)?.unwrap_or("log")
    };
    if s.compat().is_modern() && word == "docker" {
        return Err(s.error(
            "type",
            format!("Filebeat {} has no docker input any more", s.compat().name()),
            "use `type: container` with `paths: [/var/lib/docker/containers/*/*.log]`, or set `pillion.compat: 7`",
        ));
    }
    if s.compat() == Compat::V9 && matches!(word, "log" | "container") && s.bool("allow_deprecated_use")? != Some(true)
    {
        s.warn(
            "type",
            format!("Filebeat 9 refuses `type: {word}` without `allow_deprecated_use: true`"),
            "use `type: filestream`",
        );
    }
    Ok(match word {
        "filestream" => InputKind::Filestream,
        "container" => InputKind::Container,
        "docker" => InputKind::Docker,
        "stdin" => InputKind::Stdin,
        "tcp" => InputKind::Tcp,
        "udp" => InputKind::Udp,
        "unix" => InputKind::Unix,
        "syslog" => InputKind::Syslog,
        _ => InputKind::Log,
    })
}

fn desc(s: &Section<'_>, kind: InputKind, globals: &Globals) -> Result<InputDesc, Error> {
    let v5 = s.compat() == Compat::V5;
    // Filebeat marks what a filestream sends that takes over.
    let marked = kind == InputKind::Filestream && take_over(s)?.is_some();
    let mut tags: Vec<String> = marked.then(|| "take_over".to_owned()).into_iter().collect();
    tags.extend(globals.tags.iter().cloned());
    tags.extend(s.strings("tags")?);
    let (service_type, mut root_fields) = if v5 { (None, Map::new()) } else { of_fileset(s)? };
    let mut fields = Map::new();
    let under_root = s.bool("fields_under_root")?.unwrap_or(false);
    let own = object(s, "fields")?;
    merge(if globals.under_root { &mut root_fields } else { &mut fields }, globals.fields.clone());
    merge(if under_root { &mut root_fields } else { &mut fields }, own);
    Ok(InputDesc {
        kind,
        keep_null: !v5 && s.bool("keep_null")?.unwrap_or(false),
        without_host: !v5 && s.bool("publisher_pipeline.disable_host")?.unwrap_or(false),
        id: if v5 { String::new() } else { s.str("id")?.unwrap_or_default() },
        tags,
        fields,
        root_fields,
        pipeline: s.str("pipeline")?.filter(|p| !p.is_empty()),
        index: if v5 { None } else { s.str("index")?.filter(|i| !i.is_empty()) },
        service_type,
        document_type: if v5 { s.str("document_type")?.unwrap_or_else(|| "log".to_owned()) } else { "log".to_owned() },
    })
}

/// What the events of a module's fileset say of it: `service.type`, and `event` and `fileset`.
fn of_fileset(s: &Section<'_>) -> Result<(Option<String>, Map<String, Value>), Error> {
    let text = |key: &str| Ok::<_, Error>(s.str(key)?.filter(|text| !text.is_empty()));
    let (module, fileset) = (text("_module_name")?, text("_fileset_name")?);
    let mut fields = Map::new();
    if let Some(module) = &module {
        let dataset = fileset.as_ref().map(|fileset| json!({"dataset": format!("{module}.{fileset}")}));
        let mut event = dataset.and_then(|dataset| dataset.as_object().cloned()).unwrap_or_default();
        event.insert("module".to_owned(), json!(module));
        fields.insert("event".to_owned(), Value::Object(event));
    }
    if let Some(fileset) = fileset {
        fields.insert("fileset".to_owned(), json!({"name": fileset}));
    }
    Ok((text("service.type")?.or(module), fields))
}

fn object(s: &Section<'_>, key: &str) -> Result<Map<String, Value>, Error> {
    match s.json(key)? {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(s.error(key, "not a mapping", "write names and values: `fields: {team: payments}`")),
    }
}

/// Objects are merged, other values replaced.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// `type: docker`: the files of each container; they take the places of the first `paths`, as in Filebeat.
fn docker_paths(s: &Section<'_>) -> Result<Vec<String>, Error> {
    const IDS: &str = "containers.ids";
    let ids = s.strings(IDS)?;
    if ids.is_empty() || ids.iter().any(String::is_empty) {
        return Err(s.error(
            IDS,
            "which containers' files are to be read isn't said",
            "give their ids, or \"*\" for all",
        ));
    }
    let folder = s.str("containers.path")?.unwrap_or_else(|| "/var/lib/docker/containers".to_owned());
    let folder = folder.trim_end_matches('/');
    let own = ids.iter().map(|id| format!("{folder}/{}/*.log", id.trim_matches('/')));
    Ok(own.chain(s.strings("paths")?.into_iter().skip(ids.len())).collect())
}

fn globs(s: &Section<'_>, kind: InputKind, recursive: bool) -> Result<Vec<Glob>, Error> {
    let paths = if kind == InputKind::Docker { docker_paths(s)? } else { s.strings("paths")? };
    if paths.is_empty() {
        return Err(s.error("paths", "there is nothing to read", "give the files: `paths: [/data/*.log]`"));
    }
    let wrong = |path: &str, e: PatternError| {
        let remedy = match e {
            PatternError::Syntax => "close each `[`, and put nothing behind a `\\` at the end",
            PatternError::SeveralDoubleStars => "use one `**`; it stands for up to 8 folders",
            PatternError::Empty | PatternError::Relative => "give an absolute path such as `/data/*.log`",
        };
        s.error("paths", format!("`{path}`: {e}"), remedy)
    };
    let absolute = |path: &str| {
        if path.starts_with('/') || path.is_empty() {
            return PathBuf::from(path);
        }
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")).join(path)
    };
    paths.iter().map(|p| Glob::new(absolute(p).as_os_str() as &OsStr, recursive).map_err(|e| wrong(p, e))).collect()
}

fn patterns(s: &Section<'_>, key: &str) -> Result<Vec<Pattern>, Error> {
    let compile = |go: &String| {
        Pattern::new(go).map_err(|e| {
            let reason = e.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            s.error(key, format!("not a regular expression: {reason}"), "write it in Go's RE2 syntax")
        })
    };
    s.strings(key)?.iter().map(compile).collect()
}

/// A time span that must not be 0.
fn interval(s: &Section<'_>, key: &str, default: Duration) -> Result<Duration, Error> {
    match s.duration(key)? {
        None => Ok(default),
        Some(d) if d.is_zero() => {
            Err(s.error(key, "a time span of 0 isn't possible here", "give a time span such as `10s`"))
        }
        Some(d) => Ok(d),
    }
}

/// What `log`, `container`, `docker` and `stdin` share.
fn log_options(s: &Section<'_>, spec: &mut InputSpec) -> Result<(), Error> {
    let older = if s.compat() == Compat::V5 { s.duration("close_older")? } else { None };
    let close = &mut spec.close;
    close.inactive = s.duration("close_inactive")?.or(older).unwrap_or(close.inactive);
    close.eof = s.bool("close_eof")?.unwrap_or(false);
    close.after = s.duration("close_timeout")?.filter(|d| !d.is_zero());
    let backoff = &mut spec.backoff;
    backoff.init = interval(s, "backoff", backoff.init)?;
    backoff.max = interval(s, "max_backoff", backoff.max)?;
    backoff.factor = s.f64("backoff_factor")?.unwrap_or(2.0);
    if backoff.factor < 1.0 {
        return Err(s.error("backoff_factor", "a factor below 1 isn't possible", "give 1 (always the same) or more"));
    }
    spec.tail = s.bool("tail_files")?.unwrap_or(false);
    Ok(())
}

/// What `log`, `container` and `docker` say about files.
fn log_file_options(s: &Section<'_>, spec: &mut InputSpec) -> Result<(), Error> {
    spec.exclude_files = patterns(s, "exclude_files")?;
    spec.scan_every = interval(s, "scan_frequency", spec.scan_every)?;
    let forced = s.compat() == Compat::V5 && s.bool("force_close_files")?.unwrap_or(false);
    spec.close.renamed = s.bool("close_renamed")?.unwrap_or(false) || forced;
    spec.close.removed = s.bool("close_removed")?.unwrap_or(true) || forced;
    spec.clean_removed = s.bool("clean_removed")?.unwrap_or(true);
    let symlinks = s.bool("symlinks")?;
    // Filebeat's container input always follows them: a runtime may link its logs.
    spec.symlinks = symlinks.unwrap_or(false) || spec.desc.kind == InputKind::Container;
    let stream = match spec.desc.kind {
        InputKind::Container => s.str("stream")?,
        InputKind::Docker => s.str("containers.stream")?,
        _ => None,
    };
    if let Some(stream @ ("stdout" | "stderr")) = stream.as_deref() {
        spec.meta = vec![("stream".to_owned(), stream.to_owned())];
    }
    if s.compat() != Compat::V5 {
        spec.identity = identity(s, Identity::Native)?;
    }
    Ok(())
}

fn filestream_options(s: &Section<'_>, spec: &mut InputSpec) -> Result<(), Error> {
    let compat = s.compat();
    let v9 = compat == Compat::V9;
    spec.scan_every = interval(s, "prospector.scanner.check_interval", spec.scan_every)?;
    spec.include_files = patterns(s, "prospector.scanner.include_files")?;
    spec.exclude_files = patterns(s, "prospector.scanner.exclude_files")?;
    spec.symlinks = s.bool("prospector.scanner.symlinks")?.unwrap_or(false);
    spec.resend_on_touch = s.bool("prospector.scanner.resend_on_touch")?.unwrap_or(false);
    let default = if v9 { scanner_fingerprint(s, true)? } else { Identity::Native };
    spec.identity = identity(s, default)?;
    spec.registry_v9 = v9;
    spec.close = Close {
        inactive: s.duration("close.on_state_change.inactive")?.unwrap_or(spec.close.inactive),
        renamed: s.bool("close.on_state_change.renamed")?.unwrap_or(false),
        removed: s.bool("close.on_state_change.removed")?.unwrap_or(!v9),
        eof: s.bool("close.reader.on_eof")?.unwrap_or(false),
        after: s.duration("close.reader.after_interval")?.filter(|d| !d.is_zero()),
    };
    // State changes are seen at once where there are watches, else by the search.
    s.duration("close.on_state_change.check_interval")?;
    spec.backoff = Backoff {
        init: interval(s, "backoff.init", Duration::from_secs(2))?,
        max: interval(s, "backoff.max", Duration::from_secs(10))?,
        factor: 2.0,
    };
    spec.tail = s.bool("seek_to_tail")?.unwrap_or(false);
    spec.clean_removed = s.bool("clean_removed")?.unwrap_or(true);
    spec.take_over = take_over(s)?;
    if v9 {
        spec.compression = compression(s)?;
        spec.delete_after = delete_after(s, spec.compression)?;
    }
    if v9 {
        spec.show_owner = s.bool("include_file_owner_name")?.unwrap_or(false);
        spec.show_group = s.bool("include_file_owner_group_name")?.unwrap_or(false);
    }
    spec.show_fingerprint = if v9 { s.bool("include_file_fingerprint")?.unwrap_or(true) } else { true };
    match s.choice("ignore_inactive", &["", "since_last_start", "since_first_start"])? {
        Some("since_last_start") => spec.ignore_before_start = true,
        Some("since_first_start") => spec.ignore_before_first_start = true,
        _ => {}
    }
    Ok(())
}

/// `delete`: after which time delivered files go.
fn delete_after(s: &Section<'_>, compression: Compression) -> Result<Option<Duration>, Error> {
    let on = s.bool("delete.enabled")?.unwrap_or(false);
    let grace = s.duration("delete.grace_period")?.unwrap_or(Duration::from_secs(30 * 60));
    if on && compression != Compression::None {
        let why = "can't be used with `compression`: what was read of a compressed file isn't what lies there";
        return Err(s.error("delete.enabled", why, "leave one of the two out"));
    }
    Ok(on.then_some(grace))
}

/// `take_over`: a switch, or (8.19, 9.1 and later) a section.
fn take_over(s: &Section<'_>) -> Result<Option<TakeOver>, Error> {
    const KEY: &str = "take_over";
    let mut take = TakeOver::default();
    let on = match s.bool(KEY) {
        Ok(on) => on.unwrap_or(false),
        Err(_) => {
            let Some(section) = s.section(KEY)? else { return Ok(None) };
            take.from_ids = section.strings("from_ids")?;
            take.stream = match section.choice("stream", &["", "all", "stdout", "stderr"])? {
                Some(one @ ("stdout" | "stderr")) => Some(one.to_owned()),
                _ => None,
            };
            section.bool("enabled")?.unwrap_or(false)
        }
    };
    if on && s.str("id")?.is_none_or(|id| id.is_empty()) {
        return Err(s.error(KEY, "needs an id that no other filestream has", "give the input an `id`"));
    }
    Ok(on.then_some(take))
}

/// `compression`; 9.2 had `gzip_experimental` for what is `auto` now.
fn compression(s: &Section<'_>) -> Result<Compression, Error> {
    let old = s.bool("gzip_experimental")?.unwrap_or(false);
    Ok(match s.choice("compression", &["", "none", "auto", "gzip"])? {
        Some("auto") => Compression::Auto,
        Some("gzip") => Compression::Gzip,
        None if old => Compression::Auto,
        _ => Compression::None,
    })
}

/// The fingerprint that the scanner's options describe.
fn scanner_fingerprint(s: &Section<'_>, growing: bool) -> Result<Identity, Error> {
    let length = s.size("prospector.scanner.fingerprint.length")?.unwrap_or(1024);
    if !(64..=10 << 20).contains(&length) {
        return Err(s.error("prospector.scanner.fingerprint.length", "out of range", "give 64 to 10485760 bytes"));
    }
    let offset = s.size("prospector.scanner.fingerprint.offset")?.unwrap_or(0);
    Ok(Identity::Fingerprint { offset, length, growing })
}

/// `file_identity`: one name, with options of its own.
fn identity(s: &Section<'_>, default: Identity) -> Result<Identity, Error> {
    const KEY: &str = "file_identity";
    let filestream = s.has("prospector")
        || matches!(default, Identity::Fingerprint { .. })
        || s.str("type")?.as_deref() == Some("filestream");
    let enabled = if filestream { s.bool("prospector.scanner.fingerprint.enabled")? } else { None };
    let chosen = match s.section(KEY)? {
        None => default,
        Some(own) => {
            let named = own.named_sections()?;
            let [(name, options)] = named.as_slice() else {
                return Err(s.error(KEY, "not one identity", "give one: `file_identity.native: ~`"));
            };
            match *name {
                "native" => Identity::Native,
                "path" => Identity::Path,
                "inode_marker" => match options.str("path")?.filter(|p| !p.is_empty()) {
                    Some(path) => Identity::InodeMarker(path.into()),
                    None => return Err(options.error("path", "missing", "give the path of the marker file")),
                },
                "fingerprint" if filestream => {
                    let growing = match s.compat() {
                        Compat::V9 => options.bool("growing")?.unwrap_or(true),
                        _ => options.bool("growing")?.unwrap_or(false),
                    };
                    scanner_fingerprint(s, growing)?
                }
                other => {
                    let known = if filestream {
                        "native, path, inode_marker, fingerprint"
                    } else {
                        "native, path, inode_marker"
                    };
                    return Err(s.error(KEY, format!("`{other}` isn't known here"), format!("known are {known}")));
                }
            }
        }
    };
    if filestream {
        let fingerprint = matches!(chosen, Identity::Fingerprint { .. });
        if fingerprint && enabled == Some(false) {
            return Err(s.error(
                "prospector.scanner.fingerprint.enabled",
                "the file identity needs fingerprints",
                "set it to true, or choose `file_identity.native: ~`",
            ));
        }
        if !fingerprint {
            // Taken, and without effect: as with Filebeat's native identity.
            scanner_fingerprint(s, false)?;
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_config::Config;

    fn read(yaml: &str) -> Result<Vec<InputSpec>, String> {
        let config = Config::from_yaml(yaml).map_err(|e| e.to_string())?;
        let specs = specs_from_root(&config.root()).map_err(|e| e.one_line())?;
        let left = config.leftovers();
        assert!(left.unknown.is_empty() && left.unasked.is_empty(), "{left:?}");
        Ok(specs)
    }

    fn input(dialect: &str, more: &str) -> Result<InputSpec, String> {
        let list = if dialect == "5.6" { "prospectors" } else { "inputs" };
        let yaml = format!("pillion.compat: {dialect}\nfilebeat.{list}:\n- paths: [/l/*.log]\n{more}");
        read(&yaml).map(|mut specs| specs.remove(0))
    }

    #[test]
    fn what_is_deleted() {
        let read =
            |text: &str| input("9", &format!("  type: filestream\n  id: x\n{text}")).map(|spec| spec.delete_after);
        for (text, want) in [
            ("", None),
            ("  delete.enabled: true\n", Some(1800)),
            ("  delete: {enabled: true, grace_period: 5s}\n", Some(5)),
            ("  delete: {enabled: false, grace_period: 5s}\n", None),
        ] {
            assert_eq!(read(text), Ok(want.map(Duration::from_secs)), "{text}");
        }
        assert!(read("  delete.enabled: true\n  compression: auto\n").is_err());
    }

    #[test]
    fn what_is_taken_over() {
        let from = |ids: &[&str], stream: Option<&str>| {
            let from_ids = ids.iter().map(|id| (*id).to_owned()).collect();
            Some(TakeOver { from_ids, stream: stream.map(str::to_owned) })
        };
        for (text, want) in [
            ("", None),
            ("  take_over: true\n", from(&[], None)),
            ("  take_over: false\n", None),
            ("  take_over.enabled: true\n", from(&[], None)),
            ("  take_over: {enabled: true, from_ids: [a, b]}\n", from(&["a", "b"], None)),
            ("  take_over: {enabled: true, stream: stderr}\n", from(&[], Some("stderr"))),
            ("  take_over: {enabled: false, from_ids: [a]}\n", None),
            ("  take_over: ~\n", None),
        ] {
            let spec = input("8", &format!("  type: filestream\n  id: x\n  tags: [own]\n{text}")).unwrap();
            let tags: &[&str] = if want.is_some() { &["take_over", "own"] } else { &["own"] };
            assert_eq!(spec.desc.tags, tags, "{text}");
            assert_eq!(spec.take_over, want, "{text}");
        }
        for text in ["  id: x\n  take_over: 42\n", "  id: x\n  take_over.enabled: 42\n", "  take_over: true\n"] {
            assert!(input("9", &format!("  type: filestream\n{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_by_dialect() {
        let five = input("5.6", "").unwrap();
        assert_eq!(
            five.close,
            Close { inactive: Duration::from_secs(300), renamed: false, removed: true, eof: false, after: None }
        );
        assert_eq!((five.identity.clone(), five.symlinks, five.scan_every.as_secs()), (Identity::Native, false, 10));
        assert_eq!((five.backoff.init.as_secs(), five.backoff.max.as_secs(), five.backoff.factor), (1, 10, 2.0));
        assert_eq!(five.desc.document_type, "log");
        let growing = Identity::Fingerprint { offset: 0, length: 1024, growing: true };
        for (dialect, identity, removed) in
            [("7", Identity::Native, true), ("8", Identity::Native, true), ("9", growing, false)]
        {
            let spec = input(dialect, "  type: filestream\n  id: x\n").unwrap();
            assert_eq!(
                (spec.identity, spec.close.removed, spec.backoff.init.as_secs()),
                (identity, removed, 2),
                "{dialect}"
            );
        }
        let container = input("8", "  type: container\n  stream: stderr\n").unwrap();
        assert!(container.symlinks);
        assert_eq!(container.meta, [("stream".to_owned(), "stderr".to_owned())]);
    }

    #[test]
    fn files_of_the_docker_input() {
        let read = |dialect: &str, text: &str| {
            let list = if dialect == "5.6" { "prospectors" } else { "inputs" };
            read(&format!("pillion.compat: {dialect}\nfilebeat.{list}:\n- {{type: docker{text}}}"))
        };
        for (text, paths) in [
            (", containers.ids: '*'", &["/var/lib/docker/containers/*/*.log"] as &[&str]),
            (", containers: {ids: [a, b], path: /d/}, combine_partials: false", &["/d/a/*.log", "/d/b/*.log"]),
            (", containers.ids: a, paths: [/over, /more]", &["/var/lib/docker/containers/a/*.log", "/more"]),
        ] {
            for dialect in ["5.6", "7"] {
                let spec = read(dialect, text).unwrap().remove(0);
                let paths: Vec<Glob> = paths.iter().map(|path| Glob::new(OsStr::new(path), true).unwrap()).collect();
                assert_eq!((&spec.paths, spec.symlinks), (&paths, false), "{text}");
                assert_eq!((spec.desc.kind, spec.meta.as_slice()), (InputKind::Docker, &[] as &[_]));
            }
        }
        let spec =
            read("7", ", containers: {ids: [a], stream: stderr}, cri: {force: true, parse_flags: true}").unwrap();
        assert_eq!(spec[0].meta, [("stream".to_owned(), "stderr".to_owned())]);
        for (dialect, text, key) in [
            ("7", "", "containers.ids"),
            ("7", ", containers.ids: []", "containers.ids"),
            ("7", ", containers.ids: [a, '']", "containers.ids"),
            ("7", ", containers: {ids: [a], stream: both}", "containers.stream"),
            ("8", ", containers.ids: [a]", "type"),
            ("9", ", containers.ids: [a]", "type"),
        ] {
            let e = read(dialect, text).unwrap_err();
            assert!(e.contains(&format!("filebeat.inputs.0.{key}: ")), "{dialect} {text}: {e}");
        }
    }

    #[test]
    fn options_of_a_log_input() {
        let more = "  scan_frequency: 1s\n  ignore_older: 2h\n  close_inactive: 1m\n  close_renamed: true\n  close_removed: false\n  clean_removed: false\n  \
                    close_eof: true\n  close_timeout: 5m\n  backoff: 2s\n  max_backoff: 4s\n  backoff_factor: 1\n  tail_files: true\n  \
                    symlinks: true\n  exclude_files: ['\\.gz$']\n  document_type: t\n  pipeline: p\n";
        let spec = input("5.6", more).unwrap();
        assert_eq!(
            spec.close,
            Close {
                inactive: Duration::from_secs(60),
                renamed: true,
                removed: false,
                eof: true,
                after: Some(Duration::from_secs(300))
            }
        );
        assert_eq!((spec.backoff.factor, spec.tail, spec.symlinks), (1.0, true, true));
        assert!(!spec.clean_removed && input("8", "").unwrap().clean_removed);
        assert_eq!(spec.ignore_older, Some(Duration::from_secs(7200)));
        assert_eq!((spec.desc.document_type.as_str(), spec.desc.pipeline.as_deref()), ("t", Some("p")));
        assert!(spec.exclude_files[0].is_match(b"/l/a.gz"));
    }

    #[test]
    fn options_of_filestream() {
        let more = "  type: filestream\n  id: x\n  prospector.scanner: {check_interval: 1s, symlinks: true, resend_on_touch: true, include_files: [a], exclude_files: [b], \
                    fingerprint: {enabled: true, offset: 32, length: 64}}\n  file_identity.fingerprint: ~\n  close.on_state_change: {inactive: 1m, \
                    renamed: true, removed: true, check_interval: 1s}\n  close.reader: {on_eof: true, after_interval: 1h}\n  backoff: {init: 1s, max: 2s}\n  \
                    ignore_inactive: since_last_start\n  seek_to_tail: true\n  clean_removed: false\n  index: i\n";
        let spec = input("8", more).unwrap();
        assert_eq!(spec.identity, Identity::Fingerprint { offset: 32, length: 64, growing: false });
        assert_eq!(
            spec.close,
            Close {
                inactive: Duration::from_secs(60),
                renamed: true,
                removed: true,
                eof: true,
                after: Some(Duration::from_secs(3600))
            }
        );
        assert!(spec.tail && spec.symlinks && spec.ignore_before_start && spec.resend_on_touch && !spec.clean_removed);
        assert!(input("9", "  type: filestream\n  id: x\n").unwrap().clean_removed);
        assert_eq!((spec.scan_every.as_secs(), spec.desc.index.as_deref()), (1, Some("i")));
        for (option, want) in [("", (false, false)), ("  include_file_owner_name: true\n", (true, false))] {
            let spec = input("9", &format!("  type: filestream\n  id: x\n{option}")).unwrap();
            assert_eq!((spec.show_owner, spec.show_group), want, "{option}");
        }
        for (option, want) in [
            ("", Compression::None),
            ("  compression: ''\n", Compression::None),
            ("  compression: auto\n", Compression::Auto),
            ("  compression: gzip\n", Compression::Gzip),
            ("  gzip_experimental: true\n", Compression::Auto),
        ] {
            let spec = input("9", &format!("  type: filestream\n  id: x\n{option}")).unwrap();
            assert_eq!(spec.compression, want, "{option}");
        }
        for (word, want) in [
            ("native: ~", Identity::Native),
            ("path: ~", Identity::Path),
            ("inode_marker.path: /m", Identity::InodeMarker("/m".into())),
        ] {
            assert_eq!(
                input("9", &format!("  type: filestream\n  id: x\n  file_identity.{word}\n")).unwrap().identity,
                want
            );
        }
    }

    #[test]
    fn tags_and_fields_of_all_and_of_one() {
        let yaml = "tags: [g]\nfields: {a: {x: 1}, b: 1}\nfilebeat.inputs:\n- paths: [/l]\n  tags: [i]\n  fields: {a: {y: 2}, b: 2}\n\
                    - paths: [/l]\n  fields: {c: 1}\n  fields_under_root: true\n";
        let specs = read(yaml).unwrap();
        assert_eq!(specs[0].desc.tags, ["g", "i"]);
        assert_eq!(Value::Object(specs[0].desc.fields.clone()), serde_json::json!({"a": {"x": 1, "y": 2}, "b": 2}));
        assert_eq!(Value::Object(specs[1].desc.root_fields.clone()), serde_json::json!({"c": 1}));
        assert_eq!(Value::Object(specs[1].desc.fields.clone()), serde_json::json!({"a": {"x": 1}, "b": 1}));
    }

    #[test]
    fn what_is_refused() {
        for (dialect, more, what) in [
            ("8", "  encoding: utf-17\n", "encoding"),
            ("8", "  scan_frequency: 0\n", "scan_frequency"),
            ("8", "  backoff_factor: 0.5\n", "backoff_factor"),
            ("8", "  file_identity.fingerprint: ~\n", "file_identity"),
            ("8", "  exclude_files: ['(']\n", "exclude_files"),
            ("8", "  fields: 1\n", "fields"),
            ("8", "  type: mqtt\n", "type"),
            ("8", "- {}\n", "paths"),
            ("8", "- paths: ['/l/[']\n", "paths"),
            ("8", "- paths: ['/**/a/**']\n", "paths"),
            ("9", "  type: filestream\n  prospector.scanner.fingerprint.length: 10\n", "length"),
            ("9", "  type: filestream\n  prospector.scanner.fingerprint.enabled: false\n", "enabled"),
            ("8", "  type: filestream\n  id: x\n- {type: filestream, id: x, paths: [/m]}\n", "id"),
            ("8", "- type: stdin\n", "type"),
        ] {
            let e = input(dialect, more).unwrap_err();
            assert!(e.contains(what), "{more}: {e}");
        }
        assert!(read("filebeat.inputs:\n- type: stdin\n").unwrap()[0].paths.is_empty());
        assert!(read("filebeat.inputs:\n- {paths: [/a], enabled: false, encoding: x}\n").unwrap().is_empty());
    }

    #[test]
    fn descriptors_are_what_the_process_may_have() {
        let read = |yaml: &str, files| {
            let config = Config::from_yaml(yaml).unwrap();
            let limits = limits(&config.root(), files).unwrap();
            (limits.descriptors, limits.deleted, limits.order, config.warnings().len())
        };
        for (yaml, files, want) in [
            ("a: 1", 20_000, (10_000, 5000, Order::Fair, 0)),
            ("a: 1", 1024, (512, 256, Order::Fair, 0)),
            ("a: 1", 16, (16, 8, Order::Fair, 0)),
            ("a: 1", u64::MAX, (16_384, 8192, Order::Fair, 0)),
            ("pillion.files.open: 20", 1024, (20, 10, Order::Fair, 0)),
            ("pillion.files.open: 10000", 20_000, (10_000, 5000, Order::Fair, 0)),
            ("pillion.files: {open: 10000, order: oldest}", 64, (32, 16, Order::Oldest, 1)),
        ] {
            assert_eq!(read(yaml, files), want, "{yaml} {files}");
        }
        for yaml in ["pillion.files.open: 1", "pillion.files.order: newest"] {
            assert!(limits(&Config::from_yaml(yaml).unwrap().root(), 1024).is_err(), "{yaml}");
        }
    }
}
