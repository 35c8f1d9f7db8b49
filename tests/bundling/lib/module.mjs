export let value = 1;
export default function () {}
export { value as "a string name" };
value = 2;
