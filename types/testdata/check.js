// Loads every document of a collection by the printed model, validates and saves it after a change of the app's, and
// compares what is in the database before and after. It ends with an error at the first difference.
import assert from "node:assert/strict";
import mongoose from "mongoose";
import { User } from "./user.js";

const [uri, dbName, stateField, ...database] = process.argv.slice(2);
const partialIndexes = database.includes("indexes"), arrays = database.includes("arrays"); // what it can do
const { EJSON } = mongoose.mongo.BSON;
const updatedAt = User.schema.$timestamps?.updatedAt; // the app's writes set it too
const appFields = ["plan", "cart", "__v", updatedAt];

await mongoose.connect(uri, { dbName, autoCreate: false, autoIndex: partialIndexes, maxPoolSize: 8 });
const rows = User.collection;
if (partialIndexes) {
  await User.init(); // makes its indexes beside ours, or fails
  const listed = await rows.indexes();
  if (listed.every((index) => index.sparse !== false)) { // else it is no MongoDB, which lists only what was set
    assert.deepEqual(await User.syncIndexes(), [], "syncIndexes() drops indexes");
    assert.deepEqual(await rows.indexes(), listed, "syncIndexes() changes indexes");
  }
}
const raw = async (_id) => {
  const row = await rows.findOne({ _id }, { promoteValues: false, promoteLongs: false });
  for (const name of appFields) delete row[name];
  return EJSON.stringify(row, { relaxed: false });
};

async function check(doc, n) {
  const where = `the document ${doc._id}: `;
  const before = await raw(doc._id);
  const stored = await rows.findOne({ _id: doc._id });
  await doc.validate();
  await doc.save();
  assert.equal(await raw(doc._id), before, where + "save() without a change wrote something");
  doc.plan = "pro";
  if (arrays) doc.cart.push({ sku: n });
  await doc.save();
  assert.equal(await raw(doc._id), before, where + "save() changed more than the app did");
  const saved = await rows.findOne({ _id: doc._id });
  assert.equal(saved.plan, "pro");
  if (arrays) assert.deepEqual(saved.cart, [{ sku: n }]);
  assert.equal(doc.get(`${stateField}.version`) ?? undefined, stored[stateField]?.version, where + "its version");

  if (!stored[stateField]?.version) return; // the sync has not written it
  for (const name of Object.keys(stored[stateField])) {
    assert(User.schema.path(`${stateField}.${name}`), where + `the model does not know ${name} of the state`);
  }
  // The sync writes while the app has the document in memory.
  const version = "9" + stored[stateField].version;
  await rows.updateOne({ _id: doc._id }, { $set: { [`${stateField}.version`]: version } });
  doc.plan = "free";
  await doc.save();
  const now = await rows.findOne({ _id: doc._id });
  assert.equal(now[stateField].version, version, where + "save() wrote back what the sync has changed");
  assert.equal(now.plan, "free");
}
const docs = await User.find();
await Promise.all(docs.map(check));
await mongoose.disconnect();
console.log(docs.length);
