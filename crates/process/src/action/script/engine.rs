//! The JavaScript engine of one script.
//!
//! Comes in: the script's texts, then events as JSON. Goes out: what was thrown, and the event as JSON.
//! Always holds: memory, stack and time of each call are bounded. Tested in [`super`]'s tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pillion_world::World;
use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Object, Runtime};
use serde_json::Value;

use super::host::{self, At, Host};

const PRELUDE: &str = include_str!("prelude.js");
const MODULES: &str = include_str!("modules.js");
/// The most memory of an engine, in bytes.
const MEMORY: usize = 32 << 20;
/// The most stack of a script, in bytes.
const STACK: usize = 256 << 10;
/// Where the prelude's functions lie; no script can change it.
const API: &str = "__pillion";
/// Filebeat's words.
pub(super) const TIMED_OUT: &str = "javascript processor execution timeout";

/// A script's text, after the name of its file.
pub(super) type Text = (String, String);

/// One script, loaded.
pub(super) struct Engine {
    context: Context,
    world: World,
    /// When the call at hand is interrupted, in nanoseconds of the monotonic clock.
    until: Arc<AtomicU64>,
    timeout: Duration,
    host: Arc<Host>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Engine {
    /// Evaluates the texts, each with its file's name, then `register(params)` and `test()`.
    pub(super) fn load(
        sources: &[Text],
        params: Option<&Value>,
        timeout: Duration,
        host: Host,
    ) -> Result<Engine, String> {
        let failed = |e: rquickjs::Error| format!("the JavaScript engine can't be made: {e}");
        let runtime = Runtime::new().map_err(failed)?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(STACK);
        let (world, until) = (World::real(), Arc::new(AtomicU64::new(u64::MAX)));
        let (clock, deadline) = (Arc::clone(&world.clock), Arc::clone(&until));
        runtime.set_interrupt_handler(Some(Box::new(move || clock.mono().0 > deadline.load(Ordering::Relaxed))));
        let context = Context::full(&runtime).map_err(failed)?;
        let engine = Engine { context, world, until, timeout, host: Arc::new(host) };
        engine.call(|ctx| {
            let modules: Function<'_> = ctx.eval_with_options(MODULES, options("modules.js"))?;
            let prelude: Function<'_> = ctx.eval_with_options(PRELUDE, options("prelude.js"))?;
            let api: Object<'_> = prelude.call((host::object(ctx, &engine.host)?, modules))?;
            ctx.globals().prop(API, rquickjs::object::Property::from(api))
        })?;
        for (name, text) in sources {
            engine.call(|ctx| ctx.eval_with_options::<(), _>(text.as_str(), options(name)))?;
        }
        engine.begin(params)?;
        Ok(engine)
    }

    fn begin(&self, params: Option<&Value>) -> Result<(), String> {
        match self.kind("process")?.as_str() {
            "function" => {}
            "undefined" => return Err("process function not found".to_owned()),
            _ => return Err("process is not a function".to_owned()),
        }
        if let Some(params) = params {
            match self.kind("register")?.as_str() {
                "function" => self.invoke("register", &params.to_string(), "failed to register script_params")?,
                "undefined" => return Err("params were provided but no register function was found".to_owned()),
                _ => return Err("register is not a function".to_owned()),
            }
        }
        match self.kind("test")?.as_str() {
            "function" => self.invoke("test", "", "failed in test() function"),
            "undefined" => Ok(()),
            _ => Err("test is not a function".to_owned()),
        }
    }

    fn kind(&self, name: &str) -> Result<String, String> {
        self.call(|ctx| api(ctx, "kind")?.call((name,)))
    }

    fn invoke(&self, name: &str, argument: &str, what: &str) -> Result<(), String> {
        let thrown: String = self.call(|ctx| api(ctx, "call")?.call((name, argument)))?;
        if thrown.is_empty() { Ok(()) } else { Err(format!("{what}: {thrown}")) }
    }

    /// What `process` threw, and what it left of the event; an error when that can't be told.
    pub(super) fn process(&mut self, event: &str, at: At) -> (Option<String>, Result<Value, String>) {
        self.host.look_at(at);
        let thrown = match self.call::<String>(|ctx| api(ctx, "start")?.call((event,))) {
            Ok(thrown) => Some(thrown).filter(|thrown| !thrown.is_empty()),
            Err(why) => Some(why),
        };
        let left = self.call::<String>(|ctx| api(ctx, "finish")?.call(()));
        let left = left.and_then(|text| serde_json::from_str(&text).map_err(|e| format!("the event isn't JSON: {e}")));
        (thrown, left)
    }

    /// Calls into the engine for at most the timeout.
    fn call<R>(&self, work: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<R>) -> Result<R, String> {
        let until = self.world.clock.mono().plus(self.timeout);
        self.until.store(until.0, Ordering::Relaxed);
        self.context.with(|ctx| {
            let done = work(&ctx).catch(&ctx);
            done.map_err(|e| if self.world.clock.mono() > until { TIMED_OUT.to_owned() } else { said(&ctx, e) })
        })
    }
}

fn options(name: &str) -> EvalOptions {
    let mut options = EvalOptions::default();
    (options.strict, options.filename) = (true, Some(name.to_owned()));
    options
}

fn api<'js>(ctx: &Ctx<'js>, name: &str) -> rquickjs::Result<Function<'js>> {
    ctx.globals().get::<_, Object<'js>>(API)?.get(name)
}

/// What was thrown, and where.
fn said<'js>(ctx: &Ctx<'js>, error: CaughtError<'js>) -> String {
    let thrown = match error {
        CaughtError::Exception(exception) => exception.into_value(),
        CaughtError::Value(value) => value,
        CaughtError::Error(e) => return e.to_string(),
    };
    let text = api(ctx, "said").and_then(|said| said.call::<_, String>((thrown,)));
    text.unwrap_or_else(|_| "an exception".to_owned())
}
