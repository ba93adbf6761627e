import { clerkMiddleware, getAuth } from "@clerk/express";
import express from "express";
import { clerkWebhook } from "./controllers/clerkWebhook.js";
import User from "./models/User.js";

// newApp returns the app. A test may say who is signed in.
export function newApp({ session = clerkMiddleware(), userId = (req) => getAuth(req).userId } = {}) {
  const app = express();
  app.post("/api/webhooks/clerk", express.raw({ type: "application/json" }), clerkWebhook);
  app.use(express.json(), session);

  app.get("/api/me", async (req, res) => {
    const user = await User.findOne({ clerkId: userId(req) });
    if (!user) return res.status(404).json({ message: "no such user" });
    res.json(user);
  });

  // enroll costs a credit.
  app.post("/api/enroll", async (req, res) => {
    const user = await User.findOne({ clerkId: userId(req) });
    if (!user) return res.status(404).json({ message: "no such user" });
    if (user.creditBalance < 1) return res.status(402).json({ message: "no credits are left" });
    user.creditBalance -= 1;
    await user.save();
    res.json({ creditBalance: user.creditBalance });
  });
  return app;
}
