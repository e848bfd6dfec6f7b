//! From a loaded configuration, and the further files that it names, to everything that a run is made of, typed; nothing else
//! is opened yet.
//!
//! Comes in: [`Config`]. Goes out: [`Assembled`], or every error at once. `test config` ends here.
//!
//! Always holds: after this no option is left that nobody has read, refused or warned of.
//! Tested by the command line's tests (`tests/cli.rs`).

use pillion_config::{Compat, Config, Diagnostic, Error, Section};
use pillion_engine::settings::EngineSettings;
use pillion_input::{InputSpec, Limits, limits, specs_from_root};
use pillion_kube::autodiscover::{self, Provider};
use pillion_output::any::AnyOptions;
use pillion_output::tls::ServerTls;
use pillion_telemetry::{Form, Settings};
use pillion_world::World;
use tracing::Level;

use crate::cli::Log;
use crate::discover;
use crate::further;
use crate::reload::Watch;
use crate::several::{self, Further, Mine};
use crate::sharing::settings::Sharing;

/// What a run is made of.
pub struct Assembled {
    /// Queue, registry, drain.
    pub engine: EngineSettings,
    /// The inputs that are enabled.
    pub inputs: Vec<InputSpec>,
    /// TLS of inputs that listen, by the keys of their sections.
    pub server_tls: Vec<(String, ServerTls)>,
    /// What holds for all files together.
    pub limits: Limits,
    /// Further files of inputs that are looked at while it runs.
    pub watch: Option<Watch>,
    /// Who finds further inputs while it runs.
    pub providers: Vec<Provider>,
    /// The output.
    pub output: AnyOptions,
    /// `name`, when it is set.
    pub name: Option<String>,
    /// `features.fqdn.enabled`: `host.name` is the machine's full name.
    pub full_name: bool,
    /// `pillion.shards`: it shares its files with other replicas.
    pub sharing: Option<Sharing>,
    /// The endpoint and the line of metrics.
    pub monitoring: Settings,
    /// What to say before starting.
    pub warnings: Vec<Diagnostic>,
    /// `pillion.outputs`.
    pub further: Vec<Further>,
}

/// Reads everything, the further files of inputs included. `strict`: what isn't known is an error, not a warning. `needs_input`: a run
/// without any input is an error (a wrapped command brings its own).
///
/// # Errors
/// All of them.
pub fn assemble(config: &Config, strict: bool, needs_input: bool) -> Result<Assembled, Vec<Error>> {
    several::assemble(config, &|config, mine| assemble_one(config, strict, needs_input, mine))
}

/// The same with one output.
fn assemble_one(config: &Config, strict: bool, needs_input: bool, mine: &Mine<'_>) -> Result<Assembled, Vec<Error>> {
    let root = config.root();
    let mut errors = Vec::new();
    let mut keep = |e: Error| errors.push(e);
    let engine = EngineSettings::from_section(&root).map_err(&mut keep).ok();
    let mut inputs = specs_from_root(&root).map_err(&mut keep).ok();
    let mut server_tls = server_tls(&root, inputs.as_deref().unwrap_or_default()).map_err(&mut keep).ok();
    let more = further::read(config, &World::real(), inputs.as_deref().unwrap_or_default(), strict, &mut keep);
    inputs.iter_mut().for_each(|inputs| inputs.extend(more.specs.iter().cloned()));
    server_tls.iter_mut().for_each(|tls| tls.extend(more.tls.iter().cloned()));
    let limits = limits(&root, open_files()).map_err(&mut keep).ok();
    let providers = providers_of(config).map_err(&mut keep).ok();
    let output = AnyOptions::from_root(&root).map_err(&mut keep).ok();
    let name = names(&root).map_err(&mut keep).ok();
    precision(&root).unwrap_or_else(&mut keep);
    let sharing = Sharing::from_root(&root).map_err(&mut keep).ok();
    let monitoring = Settings::from_root(&root).map_err(&mut keep).ok();
    if let (Some(watch), Some(engine), Some(sharing)) = (&more.watch, &engine, &sharing) {
        watch.fits(&root, engine.beside.is_some(), sharing.is_some()).unwrap_or_else(&mut keep);
    }
    let discovers = providers.as_ref().is_none_or(|p| !p.is_empty()) || more.watch.is_some();
    if inputs.as_ref().is_some_and(Vec::is_empty) && needs_input && !discovers {
        keep(no_input(config));
    }
    // Its options are known here; at a run it has been set up before.
    if let Err(e) = log_options(config, &Log::default()) {
        keep(e);
    }
    let mut warnings = left_over(config, (strict, mine), &mut errors);
    warnings.extend(more.warnings);
    match (engine, inputs.zip(server_tls), limits, providers, output, name.zip(sharing).zip(monitoring)) {
        (
            Some(engine),
            Some((inputs, server_tls)),
            Some(limits),
            Some(providers),
            Some(output),
            Some((((name, full_name), sharing), monitoring)),
        ) if errors.is_empty() => {
            let watch = more.watch;
            Ok(Assembled {
                engine,
                inputs,
                server_tls,
                limits,
                watch,
                providers,
                output,
                name,
                full_name,
                sharing,
                monitoring,
                warnings,
                further: Vec::new(),
            })
        }
        _ => Err(errors),
    }
}

/// `name`, and `features.fqdn.enabled`, which 8 and 9 have.
fn names(root: &Section<'_>) -> Result<(Option<String>, bool), Error> {
    let full = root.compat().is_modern() && root.bool("features.fqdn.enabled")?.unwrap_or(false);
    Ok((root.str("name")?.filter(|n| !n.is_empty()), full))
}

/// `timestamp.precision`: an event's time has milliseconds, whether it was read or stands in the line.
fn precision(root: &Section<'_>) -> Result<(), Error> {
    const KEY: &str = "timestamp.precision";
    if root.compat() == Compat::V5 {
        return Ok(());
    }
    match root.choice(KEY, &["millisecond", "microsecond", "nanosecond"])? {
        None | Some("millisecond") => Ok(()),
        Some(_) => Err(root.error(
            KEY,
            "the times of events have milliseconds: finer digits, as of a container's lines, would be cut off",
            "write `millisecond` or take it out; where lines with the same time must keep their order, sort by log.offset as well",
        )),
    }
}

fn no_input(config: &Config) -> Error {
    let (key, how) = match config.compat() {
        Compat::V5 => ("filebeat.prospectors", "`filebeat.prospectors: [{paths: [/data/*.log]}]`"),
        _ => ("filebeat.inputs", "`filebeat.inputs: [{type: filestream, id: job, paths: [/data/*.log]}]`"),
    };
    config.root().error(key, "no input is enabled: there is nothing to read", format!("add one, such as {how}"))
}

/// What was said so far without being wrong, and what nobody has taken; the part of that which is wrong joins the errors.
pub(crate) fn left_over(
    config: &Config,
    (strict, mine): (bool, &Mine<'_>),
    errors: &mut Vec<Error>,
) -> Vec<Diagnostic> {
    let mut leftovers = config.leftovers();
    for list in leftovers.lists() {
        list.retain(mine);
    }
    leftovers.unknown.retain(|unknown| !errors.iter().any(|e| belongs_to(unknown, e)));
    if errors.is_empty() {
        leftovers.unknown.append(&mut leftovers.unasked);
    }
    errors.extend(leftovers.refused);
    let mut warnings = config.warnings();
    if strict {
        errors.extend(leftovers.unknown)
    } else {
        warnings.extend(leftovers.unknown)
    }
    warnings.extend(leftovers.harmless);
    warnings
}

/// Whether an option stands in a section that couldn't be read, as there is no such processor or type: it says nothing
/// that the error doesn't.
fn belongs_to(unknown: &Diagnostic, error: &Error) -> bool {
    let section = error.key().strip_suffix(".type").unwrap_or(error.key());
    !section.is_empty() && unknown.key().strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The TLS settings of inputs that have some.
pub(crate) fn server_tls(root: &Section<'_>, inputs: &[InputSpec]) -> Result<Vec<(String, ServerTls)>, Error> {
    let mut found = Vec::new();
    let keys: Vec<&String> = inputs.iter().filter_map(|input| input.listen.as_ref()?.ssl.as_ref()).collect();
    if keys.is_empty() {
        return Ok(found);
    }
    for section in pillion_input::sections(root)? {
        let below = |key: &&String| key.strip_prefix(section.path())?.strip_prefix('.').map(str::to_owned);
        for key in &keys {
            let Some(ssl) = below(key).map(|below| section.section(&below)).transpose()?.flatten() else { continue };
            found.extend(ServerTls::from_section(&ssl)?.map(|tls| ((*key).clone(), tls)));
        }
    }
    Ok(found)
}

/// How many files the process may have open.
fn open_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024)
}

/// The providers of autodiscovery, with configurations that can be used.
fn providers_of(config: &Config) -> Result<Vec<Provider>, Error> {
    let providers = autodiscover::providers(&config.root())?;
    for (i, provider) in providers.iter().enumerate() {
        discover::check(config, provider).map_err(|e| template_error(config, i, &e))?;
    }
    Ok(providers)
}

/// What is wrong with an input that a provider would begin: that input's text is made for the check, so the place is the
/// provider's.
fn template_error(config: &Config, provider: usize, e: &Error) -> Error {
    let below = |list: &str| e.key().strip_prefix(list);
    let key = below("filebeat.inputs.0.").or_else(|| below("filebeat.modules.0.")).unwrap_or(e.key());
    let reason = format!("an input that it would begin can't be used: {key}: {}", e.reason());
    config.root().error(&format!("filebeat.autodiscover.providers.{provider}"), reason, e.remedy())
}

/// The log's options: `logging.level`, raised by `-v` and `-d`; the form is that of the dialect's Filebeat.
pub fn log_options(config: &Config, flags: &Log) -> Result<pillion_telemetry::Options, Error> {
    let words = ["debug", "info", "warning", "warn", "error", "critical"];
    // Its letters may be of any size, as with Filebeat.
    let said = config.root().str("logging.level")?.map(|word| word.to_lowercase());
    let level = match words.into_iter().find(|word| said.as_deref() == Some(word)) {
        None => config.root().choice("logging.level", &words)?,
        known => known,
    };
    let level = match level {
        Some("debug") => Level::DEBUG,
        Some("warning" | "warn") => Level::WARN,
        Some("error" | "critical") => Level::ERROR,
        _ => Level::INFO,
    };
    let mut selectors = config.root().strings("logging.selectors")?;
    let level = if !flags.selectors.is_empty() {
        Level::DEBUG
    } else if flags.verbose {
        level.max(Level::INFO)
    } else {
        level
    };
    let json = config.root().bool("logging.json")?;
    let form = match json {
        Some(true) => Form::Json,
        None if config.compat() >= Compat::V8 => Form::Json,
        _ => Form::Text,
    };
    selectors.extend(flags.selectors.iter().cloned());
    let libraries = flags.selectors.iter().any(|s| s == "*");
    if selectors.iter().any(|s| s == "*") {
        selectors.clear();
    }
    let destination = pillion_telemetry::Destination::from_config(config, flags.stderr)?;
    Ok(pillion_telemetry::Options { level, form, selectors, libraries, destination })
}
