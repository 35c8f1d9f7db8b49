exports.typeofRequire = typeof require;
exports.typeofModule = typeof module;
if (process.env.NODE_ENV !== "production") {
  var hoisted = require("./does_not_exist.cjs");
  exports.development = true;
} else {
  exports.production = true;
}
exports.hoisted = typeof hoisted;
exports.ternary = process.env.NODE_ENV === "production" ? "yes" : require("./neither");
exports.env = process.env["NODE_ENV"];
try {
  require("./optional_missing.cjs");
} catch (error) {
  exports.missing = error instanceof Error;
}
const name = "./dyn" + "amic";
try {
  require(name);
} catch (error) {
  exports.dynamic = String(error).includes("Dynamic require");
}
exports.esm = require("./module.mjs").value;
exports.esmDefault = require("./module.mjs").default;
exports.esmFlag = require("./module.mjs").__esModule;
exports.json = require("./data.json").list.length;
exports.shadowed = (function (require) {
  return require("not a module");
})((x) => x);
