// Printed by: clerksync types --format mongoose. Print it anew when the map changes.
// With require() instead of import: const mongoose = require("mongoose"); and module.exports = { User }; at the end.
import mongoose from "mongoose";

const user = new mongoose.Schema({
  // Written by clerksync: read these fields, and change none of them. Let none be required: Clerk's users need not have
  // an address, a name or a picture. save() sends only what you have changed, so it overwrites nothing here.
  "clerk-id": String, // Clerk's id of the user
  profile: {
    name: {
      first: String, // the first name
      last: String, // the last name
    },
    handle: String, // unique, and never empty
  },
  contact: {
    type: { type: String }, // a constant
    email: String, // the primary e-mail address
  },
  type: { type: String }, // a constant
  clerk: {
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
}, { collection: "people" });

// These indexes are clerksync's: declared here, syncIndexes() does not drop them.
user.index({ "clerk-id": 1 }, { name: "clerksync_key", unique: true, partialFilterExpression: { "clerk-id": { $gt: "" } } });
user.index({ "profile.handle": 1 }, { unique: true, sparse: true });

// Where a value may be there only once, let the index leave out the users who have none:
// user.index({ "contact.email": 1 }, { unique: true, partialFilterExpression: { "contact.email": { $gt: "" } } });

// overwriteModels: a hot reload, as Next.js does it, runs this file again.
export const User = mongoose.model("User", user, "people", { overwriteModels: true });
