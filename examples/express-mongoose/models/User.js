import mongoose from "mongoose";

const userSchema = new mongoose.Schema(
  {
    clerkId: { type: String, required: true, unique: true },
    email: { type: String, required: true, unique: true },
    username: { type: String, required: true, unique: true },
    firstName: { type: String },
    lastName: { type: String },
    photo: { type: String, required: true },
    role: { type: String, enum: ["student", "educator"], default: "student" },
    creditBalance: { type: Number, default: 10 },
  },
  { timestamps: true },
);

export default mongoose.models.User || mongoose.model("User", userSchema);
