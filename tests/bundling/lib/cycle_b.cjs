const a = require("./cycle_a.cjs");
exports.sawEarly = a.early;
exports.sawLate = a.late === undefined;
exports.late = () => a.late;
