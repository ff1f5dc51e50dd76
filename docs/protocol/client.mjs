// A client of Giostra, for Node 18 or newer.
//
//     npm install zeromq @msgpack/msgpack
//     node client.mjs                    a thousand random additions, their results checked
//     node client.mjs add 2 3            one request, its result printed
//     node client.mjs echo @picture.png  a file's bytes as the argument
//
// Exit status: 0 if every request was answered correctly, 1 if not, 2 for a wrong command line.
// With --keys and --broker-key (certificates of `giostra keys new`) the connection is encrypted.

import { readFileSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { decode, encode } from "@msgpack/msgpack";
import { AT_ONCE, Connection, FULL, OPTIONS, VERSION, attached, defaultName, readKeys, whole } from "./connection.mjs";

/** A request that has failed. `code` is a word for programs, such as "expired". */
export class RequestError extends Error {
  constructor(code, message) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

/** A client: `await client.compute("add", [1, 2])`. Any number of requests may be made at once. */
export class Client {
  #connection;
  #pool;
  #unanswered = new Map(); // id -> {body, timeoutMs, resolve, reject, timer}
  #unsent = []; // ids, in order
  #lastId = 0;
  #session = null; // from the broker's Welcome; nothing may be submitted without it
  #credit = Infinity;
  #maxBatch = AT_ONCE;
  #flushing = false;

  constructor({ broker = "tcp://127.0.0.1:5555", name = defaultName(), pool = "compute", keys } = {}) {
    this.#connection = new Connection(broker, { Hello: [VERSION, name] }, keys);
    this.#pool = pool;
    this.#run().then(
      () => this.#failAll(new RequestError("interrupted", "the client was closed")),
      (error) => this.#failAll(error),
    );
  }

  /** Resolves to the result, or rejects with a RequestError. A `timeoutMs` of 0 is no limit. */
  compute(operation, args, { timeoutMs = 30_000 } = {}) {
    if (this.#connection.failure) return Promise.reject(this.#connection.failure);
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId;
      // The broker itself reports requests that expire. After another second it must be gone.
      const failure = new RequestError("no-broker", `no reply within ${timeoutMs} ms`);
      const late = () => this.#end(id, (request) => request.reject(failure));
      const timer = timeoutMs > 0 ? setTimeout(late, timeoutMs + 1000) : undefined;
      this.#unanswered.set(id, { body: encode([operation, args]), timeoutMs, resolve, reject, timer });
      this.#unsent.push(id);
      this.#flushSoon();
    });
  }

  close() {
    this.#connection.close();
  }

  async #run() {
    for await (const [name, fields, attachments] of this.#connection.messages()) {
      switch (name) {
        case "Welcome": {
          const [, , session, maxBytes, maxBatch] = fields;
          this.#session = session;
          this.#credit = Infinity;
          this.#maxBatch = Math.min(AT_ONCE, maxBatch);
          for (const [id, { body }] of this.#unanswered) {
            if (body.length <= maxBytes) continue;
            const message = `the request has ${body.length} bytes, and this broker takes ${maxBytes} at most`;
            this.#end(id, (request) => request.reject(new RequestError("invalid", message)));
          }
          this.#unsent = [...this.#unanswered.keys()]; // all of them: this broker, or this connection, is new
          this.#flushSoon();
          break;
        }
        case "Replies":
          for (const [id, outcome] of fields) {
            this.#end(id, (request) => {
              if (outcome.Error) request.reject(new RequestError(...outcome.Error));
              else request.resolve(decode(whole(outcome.Ok, attachments)));
            });
          }
          break;
        case "Rejected":
          this.#unsent.push(...fields.filter((id) => this.#unanswered.has(id)));
          this.#credit = 0;
          break;
        case "Credit":
          [this.#credit] = fields;
          this.#flushSoon();
          break;
        case "HelloAgain":
          this.#session = null;
          this.#connection.introduce();
          break;
        case "Hiccup": // the connection broke; libzmq makes another, and sends Hello over it
        case "Closing": // replies may still come, then the connection breaks
          this.#session = null;
          break;
        case "Goodbye":
          this.#connection.send("Goodbye"); // everything has been read: the broker waits for this
          break;
        case "Declined":
          for (const id of fields[1]) {
            this.#end(id, (request) => request.reject(new RequestError("refused", fields[0])));
          }
          break;
        case "Refused":
          throw new RequestError("refused", fields[0]);
      }
    }
  }

  #end(id, settle) {
    const request = this.#unanswered.get(id);
    if (!request) return; // ended already, by its time limit
    this.#unanswered.delete(id);
    clearTimeout(request.timer);
    settle(request);
  }

  #failAll(error) {
    this.#connection.close(error);
    for (const id of [...this.#unanswered.keys()]) this.#end(id, (request) => request.reject(error));
  }

  /** Sends once the running code has returned, so that requests made together travel together. */
  #flushSoon() {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush() {
    while (this.#session !== null && this.#credit > 0) {
      const requests = [];
      const attachments = [];
      let bytes = 0;
      let timeoutMs;
      while (this.#unsent.length > 0 && requests.length < Math.min(this.#maxBatch, this.#credit) && bytes < FULL) {
        const request = this.#unanswered.get(this.#unsent[0]);
        if (request && requests.length > 0 && request.timeoutMs !== timeoutMs) break; // a message has one time limit
        const id = this.#unsent.shift();
        if (!request) continue;
        ({ timeoutMs } = request);
        bytes += request.body.length;
        requests.push([id, attached(request.body, attachments)]);
      }
      if (requests.length === 0) return;
      this.#credit -= requests.length;
      const fields = [this.#session, this.#pool, timeoutMs, "Normal", true, requests];
      this.#connection.send({ Submit: fields }, attachments);
    }
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { ...OPTIONS, timeout: { type: "string", default: "30" } },
    allowPositionals: true,
  });
  const timeoutMs = Number(values.timeout) * 1000;
  if (!(timeoutMs > 0)) throw new TypeError("--timeout takes seconds");
  const client = new Client({ ...values, keys: readKeys(values) });
  try {
    const [operation, ...words] = positionals;
    if (operation) {
      const args = words.map((word) => (word.startsWith("@") ? readFileSync(word.slice(1)) : Number(word)));
      const result = await client.compute(operation, args, { timeoutMs });
      if (result instanceof Uint8Array) for (let at = 0; at < result.length; ) at += writeSync(1, result, at);
      else console.log(result);
      return 0;
    }
    const pairs = Array.from({ length: 1000 }, () => [0, 0].map(() => Math.floor(Math.random() * 1000)));
    const results = await Promise.allSettled(pairs.map((pair) => client.compute("add", pair, { timeoutMs })));
    const answered = results.filter(({ status }) => status === "fulfilled").length;
    const right = results.filter(({ value }, place) => value === pairs[place][0] + pairs[place][1]).length;
    console.log(`${answered} of 1000 answered, ${right} of them correctly`);
    return right === 1000 ? 0 : 1;
  } catch (error) {
    console.error(error.message);
    return 1;
  } finally {
    client.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = await main();
  } catch (error) {
    console.error(`client.mjs: ${error.message}`);
    process.exitCode = 2;
  }
}
