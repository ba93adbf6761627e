// Printed by: clerksync types --format mongoose. Print it anew when the map changes.
// With require() instead of import: const mongoose = require("mongoose"); and module.exports = { User }; at the end.
import mongoose from "mongoose";

const user = new mongoose.Schema({
  // Written by clerksync: read these fields, and change none of them. Let none be required: Clerk's users need not have
  // an address, a name or a picture. save() sends only what you have changed, so it overwrites nothing here.
  uid: String, // Clerk's id of the user
  f0: mongoose.Schema.Types.Mixed, // public_metadata of Clerk's user
  f1: mongoose.Schema.Types.Mixed, // public_metadata of Clerk's user
  f2: mongoose.Schema.Types.Mixed, // public_metadata of Clerk's user
  f3: mongoose.Schema.Types.Mixed, // public_metadata of Clerk's user; set once by clerksync, then yours
  f4: mongoose.Schema.Types.Mixed, // "public_metadata.a b.\n* /\u2028 of Clerk's user"
  f5: mongoose.Schema.Types.Mixed, // "public_metadata.a b.\n* /\u2028 of Clerk's user"
  f6: mongoose.Schema.Types.Mixed, // "public_metadata.a b.\n* /\u2028 of Clerk's user"
  f7: mongoose.Schema.Types.Mixed, // "public_metadata.a b.\n* /\u2028 of Clerk's user; set once by clerksync, then yours"
  f8: mongoose.Schema.Types.Mixed, // unsafe_metadata.x of Clerk's user
  f9: mongoose.Schema.Types.Mixed, // unsafe_metadata.x of Clerk's user
  f10: mongoose.Schema.Types.Mixed, // unsafe_metadata.x of Clerk's user
  f11: mongoose.Schema.Types.Mixed, // unsafe_metadata.x of Clerk's user; set once by clerksync, then yours
  f12: String, // Clerk's id of the user
  f13: String, // Clerk's id of the user
  f14: String, // Clerk's id of the user
  f15: String, // Clerk's id of the user; set once by clerksync, then yours
  f16: String, // the first name
  f17: String, // the first name
  f18: String, // the first name
  f19: String, // the first name; set once by clerksync, then yours
  f20: String, // the last name
  f21: String, // the last name
  f22: String, // the last name
  f23: String, // the last name; set once by clerksync, then yours
  f24: String, // the first and the last name
  f25: String, // the first and the last name
  f26: String, // the first and the last name
  f27: String, // the first and the last name; set once by clerksync, then yours
  f28: String, // Clerk's own user name
  f29: String, // Clerk's own user name
  f30: String, // Clerk's own user name
  f31: String, // Clerk's own user name; set once by clerksync, then yours
  f32: String, // the primary e-mail address
  f33: String, // the primary e-mail address
  f34: String, // the primary e-mail address
  f35: String, // the primary e-mail address; set once by clerksync, then yours
  f36: Boolean, // whether the primary e-mail address is verified
  f37: Boolean, // whether the primary e-mail address is verified
  f38: Boolean, // whether the primary e-mail address is verified
  f39: Boolean, // whether the primary e-mail address is verified; set once by clerksync, then yours
  f40: String, // the primary phone number, in E.164
  f41: String, // the primary phone number, in E.164
  f42: String, // the primary phone number, in E.164
  f43: String, // the primary phone number, in E.164; set once by clerksync, then yours
  f44: Boolean, // whether the primary phone number is verified
  f45: Boolean, // whether the primary phone number is verified
  f46: Boolean, // whether the primary phone number is verified
  f47: Boolean, // whether the primary phone number is verified; set once by clerksync, then yours
  f48: String, // the picture; Clerk makes one if the user has none
  f49: String, // the picture; Clerk makes one if the user has none
  f50: String, // the picture; Clerk makes one if the user has none
  f51: String, // the picture; Clerk makes one if the user has none; set once by clerksync, then yours
  f52: Boolean, // whether the user has a picture that Clerk did not make
  f53: Boolean, // whether the user has a picture that Clerk did not make
  f54: Boolean, // whether the user has a picture that Clerk did not make
  f55: Boolean, // whether the user has a picture that Clerk did not make; set once by clerksync, then yours
  f56: String, // the app's own id of the user, as Clerk keeps it
  f57: String, // the app's own id of the user, as Clerk keeps it
  f58: String, // the app's own id of the user, as Clerk keeps it
  f59: String, // the app's own id of the user, as Clerk keeps it; set once by clerksync, then yours
  f60: String, // the language, such as de-CH
  f61: String, // the language, such as de-CH
  f62: String, // the language, such as de-CH
  f63: String, // the language, such as de-CH; set once by clerksync, then yours
  f64: Boolean, // whether a second factor is set up
  f65: Boolean, // whether a second factor is set up
  f66: Boolean, // whether a second factor is set up
  f67: Boolean, // whether a second factor is set up; set once by clerksync, then yours
  f68: Boolean, // whether the user is banned
  f69: Boolean, // whether the user is banned
  f70: Boolean, // whether the user is banned
  f71: Boolean, // whether the user is banned; set once by clerksync, then yours
  f72: Boolean, // whether the user is locked
  f73: Boolean, // whether the user is locked
  f74: Boolean, // whether the user is locked
  f75: Boolean, // whether the user is locked; set once by clerksync, then yours
  f76: Boolean, // whether a directory (SCIM) has removed the user
  f77: Boolean, // whether a directory (SCIM) has removed the user
  f78: Boolean, // whether a directory (SCIM) has removed the user
  f79: Boolean, // whether a directory (SCIM) has removed the user; set once by clerksync, then yours
  f80: Date, // when the user signed up at Clerk
  f81: Date, // when the user signed up at Clerk
  f82: mongoose.Schema.Types.Mixed, // when the user signed up at Clerk
  f83: Date, // when the user signed up at Clerk; set once by clerksync, then yours
  f84: Date, // when Clerk changed the user
  f85: Date, // when Clerk changed the user
  f86: mongoose.Schema.Types.Mixed, // when Clerk changed the user
  f87: Date, // when Clerk changed the user; set once by clerksync, then yours
  f88: Date, // when the user signed in
  f89: Date, // when the user signed in
  f90: mongoose.Schema.Types.Mixed, // when the user signed in
  f91: Date, // when the user signed in; set once by clerksync, then yours
  f92: Date, // when the user accepted the terms
  f93: Date, // when the user accepted the terms
  f94: mongoose.Schema.Types.Mixed, // when the user accepted the terms
  f95: Date, // when the user accepted the terms; set once by clerksync, then yours
  f96: Date, // when clerksync has last changed the document
  f97: Date, // when clerksync has last changed the document
  f98: Date, // when clerksync has last changed the document
  f99: Date, // when clerksync has made the document; set once by clerksync, then yours
  f100: String, // a constant
  f101: Boolean, // a constant
  f102: Number, // a constant
  f103: Number, // a constant
  f104: Number, // a constant
  f105: Date, // a constant
  f106: mongoose.Schema.Types.Mixed, // a constant
  f107: mongoose.Schema.Types.Mixed, // a constant
  f108: mongoose.Schema.Types.Mixed, // a constant
  sync: {
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
}, { collection: "every", timestamps: { createdAt: "f99", updatedAt: "f98" } });

// These indexes are clerksync's: declared here, syncIndexes() does not drop them.
user.index({ uid: 1 }, { name: "clerksync_key", unique: true, partialFilterExpression: { uid: { $gt: "" } } });

// Where a value may be there only once, let the index leave out the users who have none:
// user.index({ f32: 1 }, { unique: true, partialFilterExpression: { f32: { $gt: "" } } });
// user.index({ f35: 1 }, { unique: true, partialFilterExpression: { f35: { $gt: "" } } });
// user.index({ f40: 1 }, { unique: true, partialFilterExpression: { f40: { $gt: "" } } });
// user.index({ f43: 1 }, { unique: true, partialFilterExpression: { f43: { $gt: "" } } });
// user.index({ f56: 1 }, { unique: true, partialFilterExpression: { f56: { $gt: "" } } });
// user.index({ f59: 1 }, { unique: true, partialFilterExpression: { f59: { $gt: "" } } });

// overwriteModels: a hot reload, as Next.js does it, runs this file again.
export const User = mongoose.model("User", user, "every", { overwriteModels: true });
