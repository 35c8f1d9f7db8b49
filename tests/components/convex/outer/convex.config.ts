import { defineComponent } from "convex/server";
import counter from "../counter/convex.config";

const component = defineComponent("outer");
component.use(counter, { name: "inner", httpPrefix: "/inner/", env: { LABEL: "third" } });
export default component;
