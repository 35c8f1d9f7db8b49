// A component of the app's own: who did what. The app reaches its tables only through its functions.
import { defineComponent } from "convex/server";

export default defineComponent("audit");
