// The webhook handler that such an app has before it has clerksync: clerksync takes its place.
import { Webhook } from "svix";
import User from "../models/User.js";

export async function clerkWebhook(req, res) {
  let event;
  try {
    event = new Webhook(process.env.CLERK_WEBHOOK_SIGNING_SECRET).verify(req.body, req.headers);
  } catch {
    return res.status(400).json({ message: "the signature does not fit" });
  }
  const { type, data } = event;
  const fields = () => ({
    clerkId: data.id,
    email: data.email_addresses[0].email_address,
    username: data.username,
    firstName: data.first_name,
    lastName: data.last_name,
    photo: data.image_url,
  });
  if (type === "user.created") await User.create(fields());
  if (type === "user.updated") await User.findOneAndUpdate({ clerkId: data.id }, fields());
  if (type === "user.deleted") await User.findOneAndDelete({ clerkId: data.id });
  res.json({ message: "OK" });
}
