// Filebeat's modules for scripts. It is called with what the host has (host.rs), the states of events, and what counts
// arguments; it gives back the modules by their names.
(function (host, states, need) {
  "use strict";
  const { parse, stringify } = JSON;

  // util.format of Node, as far as Filebeat's engine has it.
  function format(first, ...rest) {
    const text = String(first).replace(/%([sdj%])/g, (whole, kind) => {
      if (kind === "%") return "%";
      if (rest.length === 0) return whole;
      const value = rest.shift();
      if (kind === "d") return String(Number(value));
      return kind === "j" ? stringify(value) : String(value);
    });
    return [text, ...rest.map(String)].join(" ");
  }
  const log = (level) => (...given) => host.log(level, given.length === 0 ? "" : format(...given));
  const console = { debug: log("debug"), info: log("info"), log: log("info"), warn: log("warn"), error: log("error") };

  const net = {
    isIP: (text) => host.isIP(String(text)),
    isIPv4: (text) => host.isIP(String(text)) === 4,
    isIPv6: (text) => host.isIP(String(text)) === 6,
  };

  // Go's package path, by separator. Drives and shares of Windows aren't known.
  function paths(sep, isSep) {
    const rooted = (path) => path !== "" && isSep(path[0]);
    const parts = (path) => [...path].map((c) => (isSep(c) ? sep : c)).join("").split(sep);
    function normalize(path) {
      const root = rooted(path);
      const kept = [];
      for (const part of parts(path)) {
        if (part === "" || part === ".") continue;
        if (part !== "..") kept.push(part);
        else if (kept.length > 0 && kept[kept.length - 1] !== "..") kept.pop();
        else if (!root) kept.push(part);
      }
      return (root ? sep : "") + kept.join(sep) || (root ? sep : ".");
    }
    return {
      basename(path) {
        if (path === "") return ".";
        return parts(path).filter((part) => part !== "").pop() ?? sep;
      },
      dirname(path) {
        const all = parts(path);
        all.pop();
        return normalize(all.length === 1 && all[0] === "" ? sep : all.join(sep));
      },
      extname(path) {
        const last = parts(path).pop();
        const dot = last.lastIndexOf(".");
        return dot < 0 ? "" : last.slice(dot);
      },
      isAbsolute: rooted,
      normalize,
      sep,
    };
  }
  const posix = paths("/", (c) => c === "/");
  const win32 = paths("\\", (c) => c === "\\" || c === "/");
  const path = { posix, win32, ...posix };

  function replace(map, by) {
    for (const key of Object.keys(map)) delete map[key];
    Object.assign(map, by);
  }

  // Runs the processor with this number on an event.
  function run(number, event) {
    const state = states.get(event);
    if (state === undefined) throw new Error("Run requires an event");
    if (state.cancelled) return null;
    const given = stringify({ fields: state.fields, metadata: state.metadata, time: state.time.getTime() });
    const { fields, metadata, time, dropped, error } = parse(host.run(number, given));
    replace(state.fields, fields);
    replace(state.metadata, metadata);
    state.time = new Date(time);
    if (error !== undefined) throw new Error(error);
    state.cancelled ||= dropped;
    return state.cancelled ? null : event;
  }

  function construct(name, options) {
    const [number, error] = parse(host.construct(name, stringify(options ?? {})));
    if (error !== undefined) throw new Error(error);
    return { Run: (event) => run(number, event) };
  }

  const processor = {};
  for (const [name, known] of parse(host.names)) {
    processor[name] = function (options) { return construct(known, options); };
  }
  processor.Chain = function Chain() {
    need(arguments, 0, "Chain accepts no arguments");
    const all = [];
    const chain = {
      Add(one) {
        if (typeof one === "function") all.push(one);
        else if (typeof one?.Run === "function") all.push(one.Run);
        else throw new Error("Add requires a processor or a function");
        return chain;
      },
      Build: () => ({
        Run(event) {
          for (const one of all) {
            if (states.get(event)?.cancelled) return null;
            one(event);
          }
          return states.get(event)?.cancelled ? null : event;
        },
      }),
    };
    for (const [name, known] of parse(host.names)) chain[name] = (options) => chain.Add(construct(known, options));
    return chain;
  };
  return { console, net, path, processor };
})
