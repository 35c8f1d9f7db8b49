export default (x) => [x, typeof structuredClone, structuredClone({ deep: [1] })];
