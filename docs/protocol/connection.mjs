// What client.mjs and worker.mjs share: the connection to the broker, as docs/protocol.md has it.

import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { Dealer } from "zeromq";
import { decode, encode } from "@msgpack/msgpack";

export const VERSION = 4;
export const LARGE = 64 * 1024; // bytes from which a body travels as an attachment
export const FULL = 256 * 1024; // bytes of bodies that fill a message
export const AT_ONCE = 500; // requests or replies in one message

// libzmq's draft options, for which the binding has no names.
const ZMQ_HELLO_MSG = 110;
const ZMQ_HICCUP_MSG = 114;

/**
 * The connection to the broker. When it breaks, libzmq makes a new one, which begins with the
 * introduction.
 */
export class Connection {
  #socket;
  #sending = Promise.resolve();

  constructor(endpoint, introduction, keys) {
    this.#socket = new Dealer({
      sendHighWaterMark: 0, // no limit: the protocol bounds how much is sent
      receiveHighWaterMark: 0, // libzmq 4.3.5 miscounts its hiccup messages under any other
      heartbeatInterval: 3000,
      heartbeatTimeout: 10000,
      linger: 1000,
      reconnectInterval: 10,
      reconnectMaxInterval: 200,
      maxMessageSize: (64 << 20) + 33, // the protocol's limit and CURVE's overhead
      ...(keys && { curvePublicKey: keys.public, curveSecretKey: keys.secret, curveServerKey: keys.broker }),
    });
    this.#socket.setStringOption(ZMQ_HELLO_MSG, Buffer.from(encode(introduction)));
    this.#socket.setStringOption(ZMQ_HICCUP_MSG, Buffer.from(encode("Hiccup")));
    for (const [event, reason] of [
      ["handshake:error:auth", "this key is not let in here"],
      ["handshake:error:protocol", `the other end ${keys ? "has no" : "requires"} keys, or is not a broker`],
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

  /**
   * Sends a message: its name, or an object of its name and fields. Messages queue up here, because
   * the binding sends one at a time.
   */
  send(message, attachments = []) {
    const frames = [encode(message), ...attachments];
    this.#sending = this.#sending.then(() => this.#socket.send(frames)).catch((error) => this.close(error));
    return this.#sending;
  }

  /** Sends the introduction again, over the same connection. */
  introduce() {
    return this.send(this.introduction);
  }

  close(failure = null) {
    this.failure ??= failure;
    this.#socket.close();
  }
}

/** Returns a received body, which may be the index of an attachment. */
export const whole = (body, attachments) => (typeof body === "number" ? attachments[body] : body);

/** Returns a body for sending: a large one becomes an attachment, and its index stands for it. */
export const attached = (body, attachments) => (body.length < LARGE ? body : attachments.push(body) - 1);

/** Returns host and process id, such as `render7-4711`: in a container each program is process 1. */
export const defaultName = () => `${hostName().slice(-40) || "host"}-${process.pid}`;

/** The name of this machine as one word; may be empty. */
export const hostName = () => hostname().replace(/[^A-Za-z0-9._-]/g, "-").slice(0, 64);

/** The command-line options that clients and workers share, for node:util's parseArgs. */
export const OPTIONS = {
  broker: { type: "string" },
  name: { type: "string" },
  pool: { type: "string", default: "compute" },
  keys: { type: "string" },
  "broker-key": { type: "string" },
};

/** Reads the certificates that --keys and --broker-key name. Returns undefined without them. */
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
