// A server of the forward protocol by the Fluent project's own package for Node. Takes its settings as JSON: port, out (a
// file), key, user, password, cert, certKey, deaf (it answers nothing). Writes each event as a line of JSON, with what its
// message said under "@forward"; says "ready" when it listens. SIGUSR2 makes it deaf, and it says how many events it had by then; the
// end of its input ends it.
"use strict";

const fs = require("fs");
const { FluentServer } = require("@fluent-org/logger");
const protocol = require("@fluent-org/logger/build/src/protocol");

const settings = JSON.parse(process.argv[2]);
const out = fs.openSync(settings.out, "a");
let deaf = settings.deaf || false;
let events = 0;

// The package answers before it hands over what came: here it is written first, so that what is answered survives the
// server's sudden end.
const parse = protocol.parseTransport;
protocol.parseTransport = (message) => {
  const parsed = parse(message);
  const options = message[message.length - 1];
  const lines = parsed.entries.map(([time, record]) => {
    const said = { tag: parsed.tag, chunk: options.chunk, size: options.size, compressed: options.compressed || null };
    const ms = time.epoch * 1000 + time.nano / 1e6;
    return JSON.stringify({ ...record, "@forward": { ...said, entries: parsed.entries.length, ms } }) + "\n";
  });
  fs.writeSync(out, lines.join(""));
  events += lines.length;
  return deaf ? { ...parsed, chunk: undefined } : parsed;
};

const security = settings.key && {
  serverHostname: "forward.test",
  sharedKey: settings.key,
  authorize: settings.user !== undefined,
  userDict: settings.user ? { [settings.user]: settings.password } : {},
};
const tlsOptions = settings.cert && { cert: fs.readFileSync(settings.cert), key: fs.readFileSync(settings.certKey) };
const server = new FluentServer({ listenOptions: { port: settings.port, host: "127.0.0.1" }, security, tlsOptions });

process.on("SIGUSR2", () => {
  deaf = true;
  console.log(`deaf after ${events}`);
});
process.stdin.on("end", () => process.exit(0)).resume();
server.listen().then(() => console.log("ready"));
