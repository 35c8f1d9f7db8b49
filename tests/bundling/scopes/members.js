import * as all from "./values.js";
import { "odd name" as oddly } from "./values.js";
const { log } = { log: (x) => x };
let counter = 0;
export const members = () => [all.one, all.two(3), new all.Three().value, all.one, oddly, log(1)];
export const count = () => ++counter;
export { counter };
