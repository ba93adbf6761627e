// Loads a stand-in for @clerk/nextjs/server, whose auth() the test sets: node --import ./testdata/no-next.js
import { register } from "node:module";

const stand = "data:text/javascript,export const auth = () => globalThis.clerkAuth();";
const hook = `export const resolve = (name, context, next) =>
  name === "@clerk/nextjs/server" ? { url: ${JSON.stringify(stand)}, shortCircuit: true } : next(name, context);`;
register("data:text/javascript," + encodeURIComponent(hook));
