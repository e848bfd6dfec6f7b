// What a script finds of the event: Filebeat's API. It hands back two functions: the first gives a script an event (as JSON)
// and says what it threw, the second says what became of the event. `host` and `modules`: see modules.js.
(function (host, modules) {
  "use strict";
  const { parse, stringify } = JSON;
  const own = Object.prototype.hasOwnProperty;
  const has = (map, key) => own.call(map, key);
  const isMap = (v) => v !== null && typeof v === "object" && !Array.isArray(v) && !(v instanceof Date);

  // Go's name of a value's type, for messages.
  function type(v) {
    if (v === null || v === undefined) return "<nil>";
    if (Array.isArray(v)) return "[]interface {}";
    switch (typeof v) {
      case "string": return "string";
      case "boolean": return "bool";
      case "number": return Number.isInteger(v) ? "int64" : "float64";
      default: return "map[string]interface {}";
    }
  }

  // The map and the key in it for a dotted path; a key that is there as it is written comes first.
  function walk(map, key, create) {
    for (;;) {
      const dot = key.indexOf(".");
      if (has(map, key) || dot < 0) return [map, key];
      const first = key.slice(0, dot);
      if (!has(map, first)) {
        if (!create) throw new Error("key not found");
        map[first] = {};
      }
      if (!isMap(map[first])) throw new Error("expected map but type is " + type(map[first]));
      map = map[first];
      key = key.slice(dot + 1);
    }
  }

  function root(state, key) {
    if (key.startsWith("@metadata.")) return [state.metadata, key.slice(10)];
    return [state.fields, key];
  }

  function get(state, key) {
    if (key === "@timestamp") return state.time;
    if (key === "@metadata") return state.metadata;
    const [map, last] = walk(...root(state, key), false);
    if (!has(map, last)) throw new Error("key not found");
    return map[last];
  }

  function put(state, key, value) {
    if (key === "@timestamp") {
      if (!(value instanceof Date)) throw new Error("value is no timestamp");
      const old = state.time;
      state.time = value;
      return old;
    }
    if (key === "@metadata") {
      if (!isMap(value)) throw new Error("value is no map[string]interface{} type");
      const old = state.metadata;
      state.metadata = value;
      return old;
    }
    const [map, last] = walk(...root(state, key), true);
    const old = has(map, last) ? map[last] : null;
    map[last] = value === undefined ? null : value;
    return old;
  }

  function remove(state, key) {
    const [map, last] = walk(...root(state, key), false);
    if (!has(map, last)) throw new Error("key not found");
    delete map[last];
  }

  function append(state, key, value, alwaysArray) {
    let old = null;
    try { old = get(state, key); } catch { /* nothing is there yet */ }
    if (old === null) put(state, key, alwaysArray ? [value] : value);
    else if (typeof old === "string") { if (old !== value) put(state, key, [old, value]); }
    else if (Array.isArray(old)) { if (!old.includes(value)) put(state, key, old.concat([value])); }
    else throw new Error("unexpected type " + type(old) + " found for " + key + " field");
  }

  function tries(change) {
    try { change(); return true; } catch { return false; }
  }

  function rename(state, from, to) {
    if (tries(() => get(state, to))) return false;
    return tries(() => {
      const value = get(state, from);
      remove(state, from);
      if (!tries(() => put(state, to, value))) { put(state, from, value); throw new Error("undone"); }
    });
  }

  function need(given, count, what) {
    if (given.length !== count) throw new Error(what);
  }

  const states = new WeakMap();

  function make(event, state) {
    states.set(event, state);
    event.fields = state.fields;
    event.Get = function (key) {
      if (key === undefined) return state.fields;
      try { return get(state, String(key)); } catch { return null; }
    };
    event.Put = function (key, value) {
      need(arguments, 2, "Put requires two arguments (key and value)");
      return put(state, String(key), value);
    };
    event.Rename = function (from, to) {
      need(arguments, 2, "Rename requires two arguments (from and to)");
      return rename(state, String(from), String(to));
    };
    event.Delete = function (key) {
      need(arguments, 1, "Delete requires one argument");
      return tries(() => remove(state, String(key)));
    };
    event.Cancel = function () { state.cancelled = true; };
    event.Tag = function (tag) {
      need(arguments, 1, "Tag requires one argument");
      append(state, "tags", String(tag), true);
    };
    event.AppendTo = function (field, value) {
      need(arguments, 2, "AppendTo requires two arguments (field and value)");
      append(state, String(field), String(value), false);
    };
    return event;
  }

  globalThis.Event = function Event(fields) {
    need(arguments, 1, "Event constructor requires one argument");
    if (!isMap(fields)) {
      throw new Error("Event constructor requires a map[string]interface{} argument but got " + type(fields));
    }
    make(this, { fields, metadata: {}, time: new Date(0), cancelled: false });
  };

  const known = modules(host, states, need);
  globalThis.console = known.console;
  globalThis.require = function (name) {
    if (has(known, name)) return known[name];
    throw new Error("there is no module '" + name + "': known are " + Object.keys(known).join(", "));
  };

  // What was thrown, and where: the first place in the script's own text.
  function said(thrown) {
    const stack = thrown instanceof Error ? String(thrown.stack).split("\n") : [];
    const place = stack.map((line) => line.trim()).find((line) => line.startsWith("at ") && !/prelude|modules|native/.test(line));
    return String(thrown) + (place ? " " + place : "");
  }

  let state = null;
  let entry = null;
  const call = (name, ...args) => {
    try { globalThis[name](...args); return ""; } catch (thrown) { return said(thrown) || "an exception"; }
  };
  return Object.freeze({
    said,
    call: (name, text) => call(name, ...(text === "" ? [] : [parse(text)])),
    kind: (name) => typeof globalThis[name],
    start(text) {
      const given = parse(text);
      state = { fields: given.fields, metadata: given.metadata, time: new Date(given.time), cancelled: false };
      entry ??= globalThis.process;
      const event = make({}, state);
      try { entry(event); return ""; } catch (thrown) { return said(thrown) || "an exception"; }
    },
    finish() {
      const { fields, metadata, cancelled } = state;
      const time = state.time.getTime();
      state = null;
      return stringify({ fields, metadata, time, cancelled });
    },
  });
})
