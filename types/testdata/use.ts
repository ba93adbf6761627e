// Uses what is printed for the map clerkid, as an app would.
import mongoose from "mongoose";
import type { User as Document } from "./clerkid/user.js";
import { User } from "./clerkid/model.js";

interface AppUser extends Document {
  plan?: string;
}

const schema = new mongoose.Schema<AppUser>({ clerkId: String, plan: String }, { collection: "members" });
const Users = mongoose.model<AppUser>("AppUser", schema);

export async function typed(clerkId: string) {
  const user = await Users.findOne({ clerkId });
  if (!user) return;
  // @ts-expect-error it may be null
  const email: string = user.email;
  user.plan = "pro";
  user.role = "admin";
  // @ts-expect-error clerksync writes it
  user.email = "ada@example.com";
  // @ts-expect-error clerksync writes it
  user._clerk.banned = false;
  // @ts-expect-error it may be absent
  const name: string = user.name;
  const emailOrNull: string | null = user.email;
  const at: Date = user._clerk.synced_at;
  const handle: string = user.handle;
  const id: mongoose.Types.ObjectId = user._id;
  await user.save();
  await Users.updateOne({ clerkId }, { $set: { plan: "free" } });
  const lean = await Users.findOne({ clerkId }).lean();
  return [name, email, emailOrNull, at, handle, id, lean?.isActive];
}

export async function inferred(clerkId: string) {
  const user = await User.findOne({ clerkId });
  const email: string | null | undefined = user?.email;
  // @ts-expect-error it is not any
  const number: number | undefined = user?.email;
  const banned: boolean | null | undefined = user?._clerk?.banned;
  return [email, number, banned];
}

// What the driver hands out, and rows that clerksync has not written yet.
export function plain(row: Document, notYet: Partial<Document>): boolean {
  return row._clerk.banned || notYet._clerk?.banned === true;
}
