module.exports = { ...require("./passed.cjs"), own: 1 };
