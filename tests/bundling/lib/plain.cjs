exports.named = "named";
exports["with-dash"] = 1;
exports.default = "default property";
exports.thisIsExports = this === exports && exports === module.exports;
