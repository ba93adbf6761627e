// A server with the helper for Next.js, for the end-to-end test. It is not Next.js: the user comes from a header, and
// the place of auth() is taken by a function.
import { AsyncLocalStorage } from "node:async_hooks";
import { createServer } from "node:http";
import { MongoClient } from "mongodb";
import { RowUnavailable, rowReader } from "../current-row.js"; // compiled

const { MONGODB_URI, MONGODB_DATABASE, KEY = "_id", COLLECTION = "users" } = process.env;
const client = await new MongoClient(MONGODB_URI).connect();
const request = new AsyncLocalStorage();
const currentRow = rowReader(() => client.db(MONGODB_DATABASE).collection(COLLECTION), {
  key: KEY,
  getUserId: async () => request.getStore().headers.user,
});

const server = createServer((req, res) =>
  request.run(req, async () => {
    try {
      const row = await currentRow();
      res.writeHead(row ? 200 : 403).end(JSON.stringify(row));
    } catch (err) {
      const code = err instanceof RowUnavailable ? 503 : 500;
      res.writeHead(code, code === 503 ? { "Retry-After": "5" } : {}).end(err.message);
    }
  }),
);
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/me`));
