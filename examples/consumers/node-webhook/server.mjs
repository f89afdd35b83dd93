// Takes what the server posts (dispatcher `http`, format ndjson): checks the signature, keeps each record once in a file of
// lines, and answers when they are on the disk, since the vehicle's ack follows the answer. Node 18 or later, nothing to install.
//
//   WEBHOOK_SECRET=whsec_… node server.mjs 8080 records.ndjson

import { createHmac, timingSafeEqual } from "node:crypto";
import { existsSync, fdatasync, openSync, readFileSync, write } from "node:fs";
import { createServer } from "node:http";
import { promisify } from "node:util";

const [port, path] = process.argv.slice(2);
const secret = process.env.WEBHOOK_SECRET;
if (!port || !path || !secret) {
  console.error("usage: WEBHOOK_SECRET=… node server.mjs PORT FILE");
  process.exit(64);
}
const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret);
// Signatures that are older than this may be repetitions of somebody who has listened.
const TOLERANCE_SECONDS = 300;
const MAX_BODY_BYTES = 16 << 20;

/** https://www.standardwebhooks.com: `v1,` and base64, several of them while a secret is changed. */
function isGenuine(headers, body) {
  const [id, timestamp] = [headers["webhook-id"], headers["webhook-timestamp"]];
  if (!id || !(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE_SECONDS)) return false;
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return (headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

// A record that is sent again has the same id. What the file has survives a restart; a last line that a crash cut is not
// a record yet, and comes again.
const known = new Set();
const old = existsSync(path) ? readFileSync(path, "utf8") : "";
for (const line of old.slice(0, old.lastIndexOf("\n") + 1).split("\n").filter(Boolean)) {
  try {
    known.add(JSON.parse(line).id);
  } catch {
    // A line that a crash cut, closed below at the start after it.
  }
}
const file = openSync(path, "a");
const [append, sync] = [promisify(write), promisify(fdatasync)];
if (old && !old.endsWith("\n")) await append(file, "\n");

// One at a time, so that two requests with the same record do not both find it new.
let turn = Promise.resolve();
function keep(records) {
  const kept = turn.then(async () => {
    const fresh = records.filter((record, at) => !known.has(record.id) && records.findIndex((r) => r.id === record.id) === at);
    if (fresh.length) await append(file, fresh.map((record) => JSON.stringify(record) + "\n").join(""));
    await sync(file);
    for (const record of fresh) known.add(record.id);
  });
  turn = kept.catch(() => {});
  return kept;
}

async function read(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const server = createServer(async (request, response) => {
  const answer = (status) => response.writeHead(status).end();
  try {
    const body = await read(request);
    if (!body) return answer(413);
    if (!isGenuine(request.headers, body)) return answer(401);
    await keep(body.toString().split("\n").filter(Boolean).map((line) => JSON.parse(line)));
    answer(204);
  } catch (error) {
    console.error(error.message);
    // A body that is no JSON never will be; what the disk refuses is worth another attempt.
    answer(error instanceof SyntaxError ? 400 : 503);
  }
});
server.listen(Number(port), "127.0.0.1", () => console.error(`listening on 127.0.0.1:${port}`));
process.on("SIGTERM", async () => {
  server.close();
  await turn;
  // What has had no answer comes again, with the same ids.
  process.exit(0);
});
