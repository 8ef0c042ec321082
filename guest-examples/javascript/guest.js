// Ten events, two seconds apart, for everybody who opens the stream: what ../rust/quickstart does, in JavaScript.

import { closed } from "fanfare:sse/closing@0.1.0";
import { upgrade } from "fanfare:sse/connections@0.1.0";
import { Publisher } from "fanfare:sse/publishers@0.1.0";
import * as publishing from "fanfare:sse/publishing@0.1.0";
import { connect } from "fanfare:sse/redis@0.1.0";
import * as registry from "fanfare:sse/registry@0.1.0";
import * as config from "wasi:config/store@0.2.0-rc.1";
import page from "./page.js"; // made of the page of ../rust/quickstart by `build`

export const lifecycle = {
  start: answering(() => {
    if (registry.has("publisher")) return;
    const url = config.get("redis-url");
    const publisher = url === undefined ? Publisher.inMemory() : Publisher.redis(connect(url), "quickstart");
    publishing.start(publisher);
    registry.setPublisher("publisher", publisher);
  }),
};

export const handler = {
  handle: answering((request) => {
    const method = request.method();
    const path = request.path();
    if (["GET", "HEAD"].includes(method) && path === "/") {
      respond(request, 200, page, { "content-type": "text/html; charset=utf-8" });
    } else if (["GET", "OPTIONS"].includes(method) && path === "/events") {
      // OPTIONS too: a browser may ask before it opens a stream of another origin, and the host answers it.
      events(request);
    } else if (method === "GET") {
      respond(request, 404, "not found\n");
    } else {
      respond(request, 405, "allowed here: GET\n", { allow: "GET" });
    }
  }),
};

function events(request) {
  const query = new URLSearchParams(request.query());
  const channel = query.get("channel") ?? "quickstart";
  const name = query.get("name") ?? "";
  const interval = milliseconds("interval-ms", 2000n);
  const allowedOrigins = list("allowed-origins");

  const stream = upgrade(request, { allowedOrigins: allowedOrigins.length ? allowedOrigins : undefined });
  try {
    const publisher = registry.getPublisher("publisher");
    publishing.register(publisher, stream, channel);
    countToTen(publisher, stream, channel, name, interval);
  } catch (error) {
    // A stream that hears a channel outlives its handler: after a mistake nobody else would close it.
    stream.close();
    throw error;
  }
}

function countToTen(publisher, stream, channel, eventType, interval) {
  for (let index = 0; index < 10; index++) {
    publishing.publish(publisher, channel, { eventType, data: { tag: "text", val: String(index) } });
    // A pause that ends when the client leaves; then there is a reason.
    if (closed(stream, interval) !== undefined) return;
  }
  try {
    publishing.remove(publisher, stream.id(), channel);
  } catch (error) {
    // The client may leave at any moment, this one included.
    if (error.payload?.tag !== "not-found") throw error;
  }
}

function respond(request, status, text, headers = {}) {
  const bytes = new TextEncoder();
  const pairs = Object.entries({ "content-type": "text/plain; charset=utf-8", ...headers });
  request.respond({
    status,
    headers: pairs.map(([name, value]) => [name, bytes.encode(value)]),
    body: bytes.encode(text),
  });
}

/** A variable in milliseconds. The error does not name the value, which could be a secret. */
function milliseconds(name, otherwise) {
  const value = config.get(name)?.trim();
  if (value === undefined) return otherwise;
  const number = /^\d+$/.test(value) ? BigInt(value) : -1n;
  if (number < 0n || number >= 2n ** 64n) {
    throw { tag: "invalid", val: `the app's variable \`${name}\`: not a number of milliseconds` };
  }
  return number;
}

/** The parts of a variable that is separated by commas. */
function list(name) {
  return (config.get(name) ?? "").split(",").map((part) => part.trim()).filter((part) => part !== "");
}

/**
 * What an export throws has to be an error of the contract, `{ tag, val }`; anything else is a trap. What the host's
 * functions throw has it in `payload`. An error of `wasi:config` is of another type.
 */
function answering(call) {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      const problem = error.payload ?? error;
      if (problem.tag === "upstream" || problem.tag === "io") throw { tag: "other", val: problem.val };
      throw problem;
    }
  };
}
