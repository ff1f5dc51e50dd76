// What client.mjs and worker.mjs share: the connection to the broker, as docs/protocol.md describes it.

import { readFileSync } from "node:fs";
import { Dealer } from "zeromq";
import { decode, encode } from "@msgpack/msgpack";

export const VERSION = 2;
export const LARGE = 64 * 1024; // bytes from which a body travels as an attachment
export const FULL = 256 * 1024; // bytes of bodies that fill a message
export const AT_ONCE = 500; // requests or replies in one message

// libzmq's draft options, for which the binding has no names.
const ZMQ_HELLO_MSG = 110;
const ZMQ_HICCUP_MSG = 114;

/** A connection that libzmq makes anew when it breaks; each begins with the introduction. */
export class Connection {
  #socket;
  #sending = Promise.resolve();

  constructor(endpoint, introduction, keys) {
    this.#socket = new Dealer({
      sendHighWaterMark: 0, // no limit: the protocol bounds what is under way
      receiveHighWaterMark: 0, // libzmq 4.3.5 miscounts its hiccup messages under any other
      heartbeatInterval: 3000,
      heartbeatTimeout: 10000,
      linger: 1000,
      reconnectInterval: 10,
      reconnectMaxInterval: 200,
      maxMessageSize: (64 << 20) + 33, // what the protocol allows, and CURVE's overhead
      ...(keys && { curvePublicKey: keys.public, curveSecretKey: keys.secret, curveServerKey: keys.broker }),
    });
    this.#socket.setStringOption(ZMQ_HELLO_MSG, Buffer.from(encode(introduction)));
    this.#socket.setStringOption(ZMQ_HICCUP_MSG, Buffer.from(encode("Hiccup")));
    for (const [event, reason] of [
      ["handshake:error:auth", "this key is not let in here"],
      ["handshake:error:protocol", keys ? "there are no keys at the other end, or no broker" : "the broker wants keys, or is none"],
    ]) {
      // libzmq does not connect again after these.
      this.#socket.events.on(event, () => this.close(new Error(`refused: ${reason}`)));
    }
    this.#socket.connect(endpoint);
    this.introduction = introduction;
    this.failure = null;
  }

  /** Yields `[name, fields, attachments]` for each message, until the connection is closed. */
  async *messages() {
    try {
      for await (const [envelope, ...attachments] of this.#socket) {
        const message = decode(envelope);
        if (typeof message === "string") yield [message, [], attachments];
        else yield [...Object.entries(message)[0], attachments];
      }
    } catch (error) {
      // The socket was closed while it was read.
      if (error.code !== "EAGAIN" && !this.#socket.closed) throw error;
    }
    if (this.failure) throw this.failure;
  }

  /** Sends a message: its name, or an object with its name and fields. The binding sends one at a time. */
  send(message, attachments = []) {
    const frames = [encode(message), ...attachments];
    this.#sending = this.#sending.then(() => this.#socket.send(frames)).catch((error) => this.close(error));
    return this.#sending;
  }

  /** Introduces itself again over the same connection. */
  introduce() {
    return this.send(this.introduction);
  }

  close(failure = null) {
    this.failure ??= failure;
    this.#socket.close();
  }
}

/** A body itself, if it was the index of an attachment. */
export const whole = (body, attachments) => (typeof body === "number" ? attachments[body] : body);

/** A body itself, or the index of the attachment that it becomes. */
export const attached = (body, attachments) => (body.length < LARGE ? body : attachments.push(body) - 1);

/** The options of the command line that clients and workers share, for node:util's parseArgs. */
export const OPTIONS = {
  broker: { type: "string" },
  name: { type: "string" },
  pool: { type: "string", default: "compute" },
  keys: { type: "string" },
  "broker-key": { type: "string" },
};

/** Reads the certificates that --keys and --broker-key name; undefined without. */
export function readKeys(values) {
  if (!values.keys && !values["broker-key"]) return undefined;
  if (!values.keys || !values["broker-key"]) throw new TypeError("--keys and --broker-key belong together");
  const key = (path, which) => new RegExp(`${which}-key *= *"(.{40})"`).exec(readFileSync(path, "utf8"))?.[1];
  return {
    public: key(values.keys, "public"),
    secret: key(values.keys, "secret"),
    broker: key(values["broker-key"], "public"),
  };
}
