"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.default = "babel default";
exports.other = void 0;
exports.other = "other";
