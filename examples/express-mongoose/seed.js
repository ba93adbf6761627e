// Fills an empty database: users as the app's own webhook handler has made them.
import mongoose from "mongoose";
import User from "./models/User.js";

const users = [
  { id: "ada", first: "Ada", last: "Lovelace", role: "educator", credits: 25 },
  { id: "grace", first: "Grace", last: "Hopper", credits: 3 },
  { id: "alan", first: "Alan", last: "Turing", credits: 0 },
  { id: "edsger", first: "Edsger", last: "Dijkstra" },
  { id: "barbara", first: "Barbara", last: "Liskov", role: "educator" },
];

// clerkId returns an id of the form of Clerk's.
export const clerkId = (name) => "user_2course" + name.padEnd(20, "0");

if (process.argv[1] === import.meta.filename) {
  await mongoose.connect(process.env.MONGODB_URI, { dbName: process.env.MONGODB_DATABASE });
  await User.init(); // its indexes
  await User.create(
    users.map(({ id, first, last, role, credits }) => ({
      clerkId: clerkId(id),
      email: `${id}@course.example`,
      username: id,
      firstName: first,
      lastName: last,
      photo: `https://img.example/${clerkId(id)}`,
      role,
      creditBalance: credits,
    })),
  );
  console.log(`${await User.countDocuments()} users`);
  await mongoose.disconnect();
}
