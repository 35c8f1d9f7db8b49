export default function helper(n) { return n === 0 ? "end" : helper(n - 1); }
