// The helpers for Express and Next.js against a fake clerksync. They must do the same, so both run each case.
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { clerkMiddleware } from "@clerk/express";
import express from "express";
import { RowUnavailable, rowReader } from "./current-row.js"; // compiled
import { requireUser } from "./require-user.js";

const token = "a token of sixteen";
const deleted = [410, '{"error":"the user is deleted"}\n'];
const unknown = [404, '{"error":"no such user at Clerk"}\n'];
const rows = new Map(); // "key id" → row
const answers = {}; // what clerksync answers, each time the next, by user id
const asked = {}; // how often it was asked, by user id
const inFlight = new Set(); // for whom it is asked now
const together = new Set(); // for whom it was asked twice at the same time
let server;

before(async () => {
  server = createServer((req, res) => {
    const id = /^\/users\/(\w+)\/ensure$/.exec(req.url)?.[1];
    asked[id] = (asked[id] ?? 0) + 1;
    if (inFlight.has(id)) together.add(id);
    inFlight.add(id);
    res.on("close", () => inFlight.delete(id));
    if (req.method !== "POST" || req.headers.authorization !== `Bearer ${token}`) return res.writeHead(401).end("{}");
    const [status, body = "{}", headers = {}] = answers[id].length > 1 ? answers[id].shift() : answers[id][0];
    if (status === 200) rows.set(`_id ${id}`, { _id: id }).set(`clerkId ${id}`, { clerkId: id });
    if (status === "breaks off") return res.destroy();
    if (status === "hangs") return;
    setImmediate(() => res.writeHead(status, headers).end(body));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  process.env.CLERKSYNC_URL = `http://127.0.0.1:${server.address().port}`;
  process.env.ADMIN_TOKEN = token;
});
after(() => server.closeAllConnections() ?? server.close());

const signedIn = new AsyncLocalStorage();
globalThis.clerkAuth = async () => ({ userId: signedIn.getStore() || null });

const find = async (filter) => {
  const [[key, id]] = Object.entries(filter);
  return rows.get(`${key} ${id}`) ?? null;
};

// Each helper as a function that makes a request as a user and returns its status, the row, and Retry-After.
const helpers = {
  express: async (options) => {
    const app = express().set("env", "test");
    const getUserId = (req) => req.get("user");
    app.get("/", requireUser({ modelName: "User", findOne: find }, { getUserId, ...options }), (req, res) =>
      res.json(req.user));
    app.use((err, req, res, next) => next(Object.assign(err, { stack: err.message }))); // keeps the output short
    const web = app.listen(0, "127.0.0.1");
    await once(web, "listening");
    const get = async (user) => {
      const res = await fetch(`http://127.0.0.1:${web.address().port}/`, { headers: { user } });
      const row = res.ok ? await res.json() : (await res.text(), null);
      return { status: res.status, row, after: res.headers.get("retry-after") };
    };
    return { get, close: () => web.close() };
  },
  nextjs: async (options) => {
    const currentRow = rowReader(async () => ({ namespace: "clerksync.users", findOne: find }), options);
    const get = (user) =>
      signedIn.run(user, async () => {
        try {
          const row = await currentRow();
          return { status: row ? 200 : user ? 403 : 401, row, after: null };
        } catch (err) {
          return { status: err instanceof RowUnavailable ? 503 : 500, row: null, after: "5" };
        }
      });
    return { get, close: () => {} };
  },
};

const cases = {
  "nobody is signed in": { user: "", want: [401], asks: 0 },
  "the row is there": { there: true, answers: [[500]], want: [200], asks: 0 },
  "a new user": { answers: [[200]], want: [200, 200], asks: 1 },
  "a new user, 50 at once": { answers: [[200]], want: [200], atOnce: 50, asks: 1 },
  "another key": { key: "clerkId", answers: [[200]], want: [200], asks: 1 },
  "the wrong key": { key: "email", answers: [[200]], want: [503], asks: 1 },
  "a deleted user's old session": { answers: [deleted], want: [403, 403, 403], asks: 1 },
  "a user whom Clerk does not know": { answers: [unknown], want: [403, 403], asks: 1 },
  "a 404 of another server": { answers: [[404, "<html>"], [200]], want: [500, 200], asks: 2 },
  "a clerksync without ADMIN_TOKEN": { answers: [[404, '{"message":"Not Found"}'], [200]], want: [500, 200], asks: 2 },
  "the wrong token": { answers: [[401]], want: [500], asks: 1 },
  "503 that passes": { answers: [[503, "{}", { "retry-after": "1" }], [200]], want: [200], asks: 2 },
  "503 that stays": { answers: [[503, "{}", { "retry-after": "x" }]], want: [503], asks: 2 },
  "503, then deleted": { answers: [[503], deleted], want: [403, 403], asks: 2 },
  "clerksync breaks off, and is back": { answers: [["breaks off"], [200]], want: [503, 200], asks: 2 },
};

for (const [name, make] of Object.entries(helpers)) {
  describe(name, { concurrency: true }, () => {
    for (const [what, c] of Object.entries(cases)) {
      test(what, async () => {
        const user = c.user ?? `user_${name}${Object.keys(cases).indexOf(what)}`;
        answers[user] = [...(c.answers ?? [])];
        if (c.there) rows.set(`_id ${user}`, { _id: user });
        const helper = await make(c.key ? { key: c.key } : {});
        for (const want of c.want) {
          const got = await Promise.all(Array.from({ length: c.atOnce ?? 1 }, () => helper.get(user)));
          for (const { status, row, after } of got) {
            assert.equal(status, want);
            if (want === 200) assert.equal(row[c.key ?? "_id"], user);
            if (want === 503) assert.equal(after, "5");
          }
        }
        assert.ok(!together.has(user), "clerksync was asked twice at the same time");
        // A request that read just before the row was written asks once more.
        if (c.atOnce) assert.ok(asked[user] >= c.asks);
        else assert.equal(asked[user] ?? 0, c.asks, "times that clerksync was asked");
        helper.close();
      });
    }
  });
}

const byHand = {
  express: (user) =>
    new Promise((resolve, reject) => {
      const next = (err) => (err ? reject(err) : resolve());
      requireUser({ findOne: find }, { getUserId: () => user })({}, { sendStatus: resolve }, next);
    }),
  nextjs: (user) => rowReader(() => ({ findOne: find }), { getUserId: async () => user })(),
};

for (const [name, get] of Object.entries(byHand)) {
  test(`${name}: what is kept of absent users is bounded`, async (t) => {
    const answer = { status: 410, text: async () => deleted[1] };
    const { mock } = t.mock.method(globalThis, "fetch", async () => answer);
    for (let i = 0; i <= 10_000; i++) await get(`user_gone${i}`);
    assert.equal(mock.callCount(), 10_001);
    await get("user_gone10000"); // is still known
    assert.equal(mock.callCount(), 10_001);
    await get("user_gone0"); // was the oldest
    assert.equal(mock.callCount(), 10_002);

    const now = Date.now() + 61_000;
    t.mock.method(Date, "now", () => now);
    await get("user_gone10000"); // is asked for again after a minute
    assert.equal(mock.callCount(), 10_003);
  });

  test(`${name}: a clerksync that hangs`, async (t) => {
    const real = AbortSignal.timeout;
    const { mock } = t.mock.method(AbortSignal, "timeout", () => real(20));
    answers.user_hangs = [["hangs"]];
    await assert.rejects(get("user_hangs"), { message: "clerksync does not answer" });
    assert.deepEqual(mock.calls[0].arguments, [10_000]);
  });
}


test("express: the session token of Clerk's middleware", async () => {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const session = (sub) => {
    const now = Math.floor(Date.now() / 1000);
    const part = (v) => Buffer.from(JSON.stringify(v)).toString("base64url");
    const times = { iat: now, nbf: now - 9, exp: now + 60 };
    const claims = { iss: "https://clerk.app.example", sub, sid: "sess_1", sts: "active", v: 2, ...times };
    const head = part({ alg: "RS256", typ: "JWT", kid: "ins_1" }) + "." + part(claims);
    return head + "." + sign("RSA-SHA256", Buffer.from(head), privateKey).toString("base64url");
  };
  const app = express();
  app.use(clerkMiddleware({
    publishableKey: "pk_test_" + Buffer.from("clerk.app.example$").toString("base64"),
    secretKey: "sk_test_" + "x".repeat(20),
    jwtKey: publicKey.export({ type: "spki", format: "pem" }),
  }));
  app.get("/me", requireUser({ modelName: "User", findOne: find }), (req, res) => res.json(req.user));
  const web = app.listen(0, "127.0.0.1");
  await once(web, "listening");
  const me = (headers) => fetch(`http://127.0.0.1:${web.address().port}/me`, { headers });
  rows.set("_id user_token", { _id: "user_token" });
  const res = await me({ authorization: `Bearer ${session("user_token")}` });
  assert.equal(res.status, 200);
  assert.deepEqual(await res.json(), { _id: "user_token" });
  assert.equal((await me({})).status, 401);
  web.close();
});
