exports.early = "early";
const b = require("./cycle_b.cjs");
exports.first = () => [b.sawEarly, b.sawLate, b.late()];
exports.late = "late";
