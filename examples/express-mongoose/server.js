import mongoose from "mongoose";
import { newApp } from "./app.js";

await mongoose.connect(process.env.MONGODB_URI, { dbName: process.env.MONGODB_DATABASE });
newApp().listen(process.env.PORT || 5000);
