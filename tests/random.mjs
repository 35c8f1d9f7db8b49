// Choices that look random and can be made again.
//
// In: a seed. Out: numbers below a bound, picks from a list. Invariant: the same seed gives the
// same choices on every machine.
/** xorshift, 32 bits. */
export class Random {
  constructor(seed) {
    this.state = (seed * 2654435761 + 88172645) >>> 0 || 1;
  }
  below(bound) {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state % bound;
  }
  pick(list) {
    return list[this.below(list.length)];
  }
}
