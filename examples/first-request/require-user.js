// Express and mongoose: each request of a signed-in user has the user's row, from the first request on, which is often
// faster than Clerk's webhook. Copy this file into your app, with CLERKSYNC_URL and ADMIN_TOKEN in its environment:
//
//   app.use(clerkMiddleware());
//   app.get("/me", requireUser(User), (req, res) => res.json(req.user));
import { setTimeout as wait } from "node:timers/promises";
import { getAuth } from "@clerk/express";

const timeout = 10_000; // milliseconds for clerksync; it goes on without us, and the next request finds the row
const absentFor = 60_000; // milliseconds: as long as the session token of a deleted user is valid
const absentMost = 10_000; // users

const asking = new Map(); // user id → the answer to come: one request to clerksync for each user
const absent = new Map(); // user id → until when it is not asked for again; the oldest first

// requireUser returns a middleware that sets req.user to the document of the signed-in user. It answers 401 if nobody
// is signed in, 403 if Clerk no longer has the user, and 503 if the row cannot be had now. key is the field that holds
// Clerk's id.
export function requireUser(Model, { key = "_id", getUserId = (req) => getAuth(req).userId } = {}) {
  return async (req, res, next) => {
    try {
      const id = getUserId(req);
      if (!id) return res.sendStatus(401);
      const read = () => Model.findOne({ [key]: id });
      req.user = await read();
      if (!req.user) {
        if (!(await ensure(id))) return res.sendStatus(403);
        req.user = await read();
        if (!req.user) throw unavailable(`clerksync has the row, but ${Model.modelName} does not find it by ${key}`);
      }
      next();
    } catch (err) {
      next(err);
    }
  };
}

// ensure makes clerksync write the user's row. It returns false if Clerk has no such user.
async function ensure(id) {
  if (absent.get(id) > Date.now()) return false;
  if (!asking.has(id)) asking.set(id, ask(id).finally(() => asking.delete(id)));
  return asking.get(id);
}

async function ask(id) {
  const signal = AbortSignal.timeout(timeout);
  const post = () =>
    fetch(`${process.env.CLERKSYNC_URL}/users/${encodeURIComponent(id)}/ensure`, {
      method: "POST",
      headers: { authorization: `Bearer ${process.env.ADMIN_TOKEN}` },
      signal,
    });
  let res, body;
  try {
    res = await post();
    if (res.status === 503) {
      await wait(1000 * Math.min(Number(res.headers.get("retry-after")) || 1, 5), null, { signal });
      res = await post();
    }
    body = await res.text();
  } catch (cause) {
    throw unavailable("clerksync does not answer", cause);
  }
  if (res.status === 503) throw unavailable("clerksync answers 503");
  if (res.ok) return true;
  // Another server's 404 says nothing about the user, and has no error in JSON.
  if ((res.status === 404 || res.status === 410) && body.startsWith('{"error"')) {
    absent.delete(id);
    absent.set(id, Date.now() + absentFor);
    if (absent.size > absentMost) absent.delete(absent.keys().next().value);
    return false;
  }
  throw new Error(`clerksync answers ${res.status}: check CLERKSYNC_URL and ADMIN_TOKEN, here and there`);
}

// unavailable returns an error that Express answers with 503 and Retry-After.
const unavailable = (text, cause) =>
  Object.assign(new Error(text, { cause }), { status: 503, headers: { "Retry-After": "5" } });
