// An Express app with the helper, for the end-to-end test. It takes the user from a header instead of Clerk's session.
import express from "express";
import mongoose from "mongoose";
import { requireUser } from "../require-user.js";

const { MONGODB_URI, MONGODB_DATABASE, KEY = "_id", COLLECTION = "users" } = process.env;
const schema = new mongoose.Schema(KEY === "_id" ? { _id: String } : { [KEY]: String }, {
  strict: false,
  collection: COLLECTION,
});
const User = mongoose.model("User", schema);

const app = express();
app.get("/me", requireUser(User, { key: KEY, getUserId: (req) => req.get("user") }), (req, res) => res.json(req.user));

await mongoose.connect(MONGODB_URI, { dbName: MONGODB_DATABASE, autoCreate: false, autoIndex: false });
const server = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/me`));
