import { counter } from "./counter";

export default () => ["late", counter];
