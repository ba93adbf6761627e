// Printed by: clerksync types --format mongoose. Print it anew when the map changes.
// With require() instead of import: const mongoose = require("mongoose"); and module.exports = { User }; at the end.
import mongoose from "mongoose";

const user = new mongoose.Schema({
  // Written by clerksync: read these fields, and change none of them. Let none be required: Clerk's users need not have
  // an address, a name or a picture. save() sends only what you have changed, so it overwrites nothing here.
  clerkId: String, // Clerk's id of the user
  name: String, // the first and the last name
  image: String, // the picture; Clerk makes one if the user has none
  email: String, // the primary e-mail address
  handle: String, // unique, and never empty
  role: mongoose.Schema.Types.Mixed, // public_metadata.role of Clerk's user; set once by clerksync, then yours
  isActive: Boolean, // a constant; set once by clerksync, then yours
  createdAt: Date, // when clerksync has made the document; set once by clerksync, then yours
  updatedAt: Date, // when clerksync has last changed the document
  _clerk: {
    version: String, // the order of Clerk's changes
    map: String, // the map that it was written by
    created_at: Date, // when the user signed up at Clerk
    synced_at: Date, // when clerksync last wrote the document
    banned: Boolean, // banned at Clerk: check it where you let users in
    locked: Boolean, // locked at Clerk, after failed sign-ins for example
    deprovisioned: Boolean, // removed by a directory (SCIM): check it likewise
    email_verified: Boolean, // the primary e-mail address is verified
  },

  // Fields of your own, such as
  // plan: { type: String, default: "free" },
}, { collection: "members", timestamps: true });

// These indexes are clerksync's: declared here, syncIndexes() does not drop them.
user.index({ clerkId: 1 }, { name: "clerksync_key", unique: true, partialFilterExpression: { clerkId: { $gt: "" } } });
user.index({ handle: 1 }, { unique: true, sparse: true });

// overwriteModels: a hot reload, as Next.js does it, runs this file again.
export const User = mongoose.model("User", user, "members", { overwriteModels: true });
