// The app's test, on the database that MONGODB_URI and MONGODB_DATABASE name, as seed.js fills it. It passes with the
// app's own webhook handler, and with clerksync in its place.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import mongoose from "mongoose";
import { Webhook } from "svix";
import { newApp } from "./app.js";
import User from "./models/User.js";
import { clerkId } from "./seed.js";

let server;

before(async () => {
  process.env.CLERK_WEBHOOK_SIGNING_SECRET ??= "whsec_" + Buffer.from("a secret for tests only").toString("base64");
  await mongoose.connect(process.env.MONGODB_URI, { dbName: process.env.MONGODB_DATABASE });
  const app = newApp({ session: (req, res, next) => next(), userId: (req) => req.get("user") });
  server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
});
after(async () => {
  server.close();
  await mongoose.disconnect();
});

const request = async (method, path, user, body, headers) => {
  const url = `http://127.0.0.1:${server.address().port}${path}`;
  const res = await fetch(url, { method, body, headers: { user, "content-type": "application/json", ...headers } });
  return { status: res.status, body: await res.json() };
};

test("every user loads, validates and saves", async () => {
  const users = await User.find();
  assert.ok(users.length >= 5);
  for (const user of users) {
    await user.validate();
    user.creditBalance += 1;
    await user.save();
    user.creditBalance -= 1;
    await user.save();
  }
});

test("me", async () => {
  const { status, body } = await request("GET", "/api/me", clerkId("ada"));
  assert.equal(status, 200);
  assert.equal(body.role, "educator");
  assert.equal(body.creditBalance, 25);
  assert.ok(mongoose.isValidObjectId(body._id) && body.createdAt);
});

test("a course costs a credit, and who has none gets none", async () => {
  const { body: me } = await request("GET", "/api/me", clerkId("grace"));
  const { body } = await request("POST", "/api/enroll", clerkId("grace"));
  assert.equal(body.creditBalance, me.creditBalance - 1);
  assert.equal((await request("POST", "/api/enroll", clerkId("alan"))).status, 402);
});

test("the app's own webhook handler", async () => {
  const id = clerkId("john");
  const send = (type, data, secret = process.env.CLERK_WEBHOOK_SIGNING_SECRET) => {
    const body = JSON.stringify({ type, data: { id, ...data } });
    const headers = { "svix-id": "msg_1", "svix-timestamp": String(Math.floor(Date.now() / 1000)) };
    headers["svix-signature"] = new Webhook(secret).sign("msg_1", new Date(), body);
    return request("POST", "/api/webhooks/clerk", "", body, headers);
  };
  const john = { username: "john", image_url: "https://img.example/john", first_name: "John", last_name: null };
  const emails = { email_addresses: [{ email_address: "john@course.example" }] };
  assert.equal((await send("user.created", { ...john, ...emails }, "whsec_d3Jvbmc=")).status, 400);
  assert.equal((await send("user.created", { ...john, ...emails })).status, 200);
  assert.equal((await request("GET", "/api/me", id)).body.creditBalance, 10);
  assert.equal((await send("user.deleted", { deleted: true })).status, 200);
  assert.equal((await request("GET", "/api/me", id)).status, 404);
});
