// Next.js (app router) and the mongodb driver: currentRow() is the row of the signed-in user, from the first request
// on, which is often faster than Clerk's webhook. Copy this file into your app, with CLERKSYNC_URL and ADMIN_TOKEN in
// its environment, and make one currentRow:
//
//   export const currentRow = rowReader(async () => (await client).db("clerksync").collection<User>("users"));
//   // in a page:
//   const { userId, redirectToSignIn } = await auth();
//   if (!userId) return redirectToSignIn();
//   const row = await currentRow();
//   if (!row) return notFound(); // Clerk no longer has the user
import { setTimeout as wait } from "node:timers/promises";
import { auth } from "@clerk/nextjs/server";
import type { Collection, Document, Filter, WithId } from "mongodb";

const timeout = 10_000; // milliseconds for clerksync; it goes on without us, and the next request finds the row
const absentFor = 60_000; // milliseconds: as long as the session token of a deleted user is valid
const absentMost = 10_000; // users

const asking = new Map<string, Promise<boolean>>(); // user id → the answer to come: one request for each user
const absent = new Map<string, number>(); // user id → until when it is not asked for again; the oldest first

// rowReader returns currentRow, which returns the row, or null if nobody is signed in or Clerk no longer has the user.
// It throws RowUnavailable if the row cannot be had now. key is the field that holds Clerk's id.
export function rowReader<Row extends Document>(
  users: () => Collection<Row> | Promise<Collection<Row>>,
  { key = "_id", getUserId = async (): Promise<string | null> => (await auth()).userId } = {},
): () => Promise<WithId<Row> | null> {
  return async () => {
    const id = await getUserId();
    if (!id) return null;
    const collection = await users();
    const read = () => collection.findOne({ [key]: id } as Filter<Row>);
    const row = await read();
    if (row) return row;
    if (!(await ensure(id))) return null;
    const written = await read();
    if (written) return written;
    throw new RowUnavailable(`clerksync has the row, but ${collection.namespace} does not find it by ${key}`);
  };
}

// RowUnavailable says that the row cannot be had now: answer 503, and let the browser ask again in some seconds.
export class RowUnavailable extends Error {}

// ensure makes clerksync write the user's row. It returns false if Clerk has no such user.
async function ensure(id: string): Promise<boolean> {
  if ((absent.get(id) ?? 0) > Date.now()) return false;
  const call = asking.get(id) ?? ask(id).finally(() => asking.delete(id));
  asking.set(id, call);
  return call;
}

async function ask(id: string): Promise<boolean> {
  const signal = AbortSignal.timeout(timeout);
  const post = () =>
    fetch(`${process.env.CLERKSYNC_URL}/users/${encodeURIComponent(id)}/ensure`, {
      method: "POST",
      headers: { authorization: `Bearer ${process.env.ADMIN_TOKEN}` },
      cache: "no-store",
      signal,
    });
  let res: Response;
  let body: string;
  try {
    res = await post();
    if (res.status === 503) {
      await wait(1000 * Math.min(Number(res.headers.get("retry-after")) || 1, 5), null, { signal });
      res = await post();
    }
    body = await res.text();
  } catch (cause) {
    throw new RowUnavailable("clerksync does not answer", { cause });
  }
  if (res.status === 503) throw new RowUnavailable("clerksync answers 503");
  if (res.ok) return true;
  // Another server's 404 says nothing about the user, and has no error in JSON.
  if ((res.status === 404 || res.status === 410) && body.startsWith('{"error"')) {
    absent.delete(id);
    absent.set(id, Date.now() + absentFor);
    if (absent.size > absentMost) absent.delete(absent.keys().next().value!);
    return false;
  }
  throw new Error(`clerksync answers ${res.status}: check CLERKSYNC_URL and ADMIN_TOKEN, here and there`);
}
