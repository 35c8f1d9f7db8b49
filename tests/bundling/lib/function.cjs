module.exports = function double(x) {
  return x * 2;
};
module.exports.extra = "extra";
