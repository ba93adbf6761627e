// The usual receiver of Clerk's webhooks in Node, as its documentation has it: Express, svix, the Inngest SDK and mongoose.
import express from "express";
import { Inngest } from "inngest";
import { serve } from "inngest/express";
import mongoose from "mongoose";
import { Webhook } from "svix";

const User = mongoose.model(
  "User",
  new mongoose.Schema({ _id: String, email: String, full_name: String, profile_picture: String, username: String }),
);

const inngest = new Inngest({ id: process.env.INNGEST_APP_ID ?? "node" });

const row = (data) => ({
  email: data.email_addresses.find((a) => a.id === data.primary_email_address_id)?.email_address,
  full_name: [data.first_name, data.last_name].filter(Boolean).join(" "),
  profile_picture: data.image_url,
  username: data.username ?? data.id,
});

const write = async ({ event, step }) => {
  await step.run("write", async () => {
    await User.findByIdAndUpdate(event.data.id, { $set: row(event.data) }, { upsert: true });
  });
};

const functions = [
  inngest.createFunction({ id: "sync-user-from-clerk" }, { event: "clerk/user.created" }, write),
  inngest.createFunction({ id: "update-user-from-clerk" }, { event: "clerk/user.updated" }, write),
  inngest.createFunction({ id: "delete-user-with-clerk" }, { event: "clerk/user.deleted" }, async ({ event, step }) => {
    await step.run("delete", async () => {
      await User.deleteOne({ _id: event.data.id });
    });
  }),
];

const webhook = new Webhook(process.env.CLERK_WEBHOOK_SIGNING_SECRET);
const app = express();

app.get("/healthz", (req, res) => res.send("ok"));

app.post("/webhooks/clerk", express.raw({ type: "application/json", limit: "1mb" }), async (req, res) => {
  let evt;
  try {
    evt = webhook.verify(req.body, req.headers);
  } catch (err) {
    return res.status(400).send(err.message);
  }
  await inngest.send({ id: req.headers["svix-id"], name: `clerk/${evt.type}`, data: evt.data });
  res.status(202).end();
});

app.use("/api/inngest", express.json({ limit: "4mb" }), serve({ client: inngest, functions }));

await mongoose.connect(process.env.MONGODB_URI, { dbName: process.env.MONGODB_DATABASE });
app.listen(process.env.PORT, process.env.HOST);
