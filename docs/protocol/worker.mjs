// A worker of Giostra that adds, subtracts, multiplies and divides, for Node 18 or newer.
//
//     npm install zeromq @msgpack/msgpack
//     node worker.mjs --name node-1 --threads 4
//
// It computes in other threads than the one that answers pings, however long an operation takes.
// SIGINT or SIGTERM makes it finish what it holds and leave; a second one ends it at once. Exit
// status: 0 after leaving, 1 if the broker refused it, 2 for a wrong command line. With --keys and
// --broker-key (certificates of `giostra keys new`) the connection is encrypted.

import { parseArgs } from "node:util";
import { Worker, isMainThread, parentPort } from "node:worker_threads";
import { decode, encode } from "@msgpack/msgpack";
import { AT_ONCE, Connection, FULL, OPTIONS, VERSION, attached, defaultName, hostName, readKeys, whole } from "./connection.mjs";

/** The operations. A result beyond 2^53 is an error, because it would not be exact. */
const OPERATIONS = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  // Keeps its thread busy, as a long computation does.
  block: (seconds) => (Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000), seconds),
};

/** Returns the outcome of a request: no request may end the worker, so every error is a reply. */
function compute(body) {
  let operation, args;
  try {
    [operation, args] = decode(body);
    if (!Object.hasOwn(OPERATIONS, operation)) throw new TypeError(`no operation '${operation}' here`);
    const { length } = OPERATIONS[operation];
    if (args.length !== length) throw new TypeError(`${operation} takes ${length} arguments`);
    if (!args.every((argument) => typeof argument === "number")) throw new TypeError("arguments are numbers");
  } catch (error) {
    return { Error: ["invalid", `not a request that this worker knows: ${error.message}`.slice(0, 200)] };
  }
  if (operation === "div" && args[1] === 0) return { Error: ["failed", "division by zero"] };
  const result = OPERATIONS[operation](...args);
  if (Number.isInteger(result) ? !Number.isSafeInteger(result) : !Number.isFinite(result)) {
    return { Error: ["failed", "the result is beyond what a number holds exactly"] };
  }
  return { Ok: encode(result) };
}

/** Works until the worker has left. Throws if the broker refuses it. */
async function serve({ broker = "tcp://127.0.0.1:5556", name = defaultName(), pool, threads }, keys) {
  const instance = Math.floor(Math.random() * (Number.MAX_SAFE_INTEGER - 1)) + 1; // once a process
  const introduction = { Register: [VERSION, name, pool, Object.keys(OPERATIONS), threads, 0, instance, hostName()] };
  const connection = new Connection(broker, introduction, keys);
  const waiting = []; // [ticket, body]
  const computing = new Map(); // ticket -> when it was begun
  const replies = []; // [ticket, outcome]
  let [registered, leaving, maxBytes, flushing] = [false, false, 0, false];

  const idle = Array.from({ length: threads }, () => {
    const thread = new Worker(new URL(import.meta.url));
    thread.on("message", ([ticket, outcome]) => {
      idle.push(thread);
      // A ticket that is missing was dispatched over a connection that has broken since.
      if (computing.delete(ticket)) replies.push([ticket, outcome]);
      begin();
      flushSoon();
    });
    thread.unref();
    return thread;
  });
  const begin = () => {
    while (idle.length > 0 && waiting.length > 0) {
      const [ticket, body] = waiting.shift();
      computing.set(ticket, Date.now());
      idle.pop().postMessage([ticket, body]);
    }
  };
  const forget = () => {
    registered = false;
    [waiting, replies].forEach((list) => list.splice(0));
    computing.clear();
  };
  const flushSoon = () => {
    if (flushing) return;
    flushing = true;
    setImmediate(() => {
      flushing = false;
      while (replies.length > 0) {
        const [some, attachments] = [[], []];
        for (let bytes = 0; replies.length > 0 && some.length < AT_ONCE && bytes < FULL; ) {
          let [ticket, outcome] = replies.shift();
          if (outcome.Ok) {
            bytes += outcome.Ok.length;
            const { length } = outcome.Ok;
            outcome =
              length <= maxBytes
                ? { Ok: attached(outcome.Ok, attachments) }
                : { Error: ["failed", `the result has ${length} bytes, and this broker takes ${maxBytes} at most`] };
          }
          some.push([ticket, outcome]);
        }
        connection.send({ Replies: some }, attachments);
      }
    });
  };
  const leave = () => {
    if (leaving) process.exit(1);
    leaving = true;
    connection.send("Leave");
    if (!registered) connection.close();
  };
  process.on("SIGINT", leave).on("SIGTERM", leave);

  for await (const [name, fields, attachments] of connection.messages()) {
    switch (name) {
      case "Welcome":
        registered = true;
        maxBytes = fields[4];
        console.error(`registered as w${fields[1]}`);
        if (leaving) connection.send("Leave");
        break;
      case "Dispatch":
        waiting.push(...fields[1].map(([ticket, body]) => [ticket, whole(body, attachments)]));
        begin();
        break;
      case "Cancel": {
        // The client no longer waits for these. Those that have not begun need not be computed.
        const cancelled = new Set(fields);
        for (const [ticket] of waiting.filter(([ticket]) => cancelled.has(ticket))) {
          replies.push([ticket, { Error: ["cancelled", "the client no longer waits for it"] }]);
        }
        waiting.splice(0, Infinity, ...waiting.filter(([ticket]) => !cancelled.has(ticket)));
        flushSoon();
        break;
      }
      case "Ping": {
        const oldest = Math.max(0, ...[...computing.values()].map((since) => Date.now() - since));
        connection.send({ Pong: [fields[0], computing.size, waiting.length, oldest] });
        break;
      }
      case "Goodbye":
        connection.close();
        break;
      case "RegisterAgain":
      case "Hiccup":
        forget();
        if (leaving) connection.close();
        else if (name === "RegisterAgain") connection.introduce();
        break;
      case "Refused":
        if (!registered) throw new Error(`refused: ${fields[0]}`);
        console.error(`the broker refused a message: ${fields[0]}`);
        break;
      // Closing: what still arrives is answered, too. Then the connection breaks, and libzmq makes
      // another.
    }
  }
}

if (!isMainThread) {
  parentPort.on("message", ([ticket, body]) => parentPort.postMessage([ticket, compute(body)]));
} else {
  try {
    const { values } = parseArgs({ options: { ...OPTIONS, threads: { type: "string", default: "1" } } });
    const threads = Number(values.threads);
    if (!Number.isInteger(threads) || threads < 1) throw new TypeError("--threads takes a whole number of at least 1");
    await serve({ ...values, threads }, readKeys(values));
    process.exit(0);
  } catch (error) {
    console.error(error.message);
    process.exit(error instanceof TypeError ? 2 : 1);
  }
}
