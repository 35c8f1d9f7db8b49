// ChaCha12: the random stream of a call, and of the import phase.
//
// In: eight 32-bit words of seed. Out: `__concave.chacha()`, made at first use: `start(seed)` gives
// a stream, `next(stream)` its next 32 bits. Invariant: equal seeds give equal streams. Source:
// D. J. Bernstein, "ChaCha, a variant of Salsa20" (2008), with 12 rounds.
((prelude) => {
  'use strict';
  const { primordials } = prelude;
  const { section } = primordials;

  /** ChaCha12, so that results of `Math.random` do not give away the next `randomUUID`. */
  prelude.chacha = section(() => {
    const { Uint32Array } = primordials;

    const quarter = (s, a, b, c, d) => {
      let mixed;
      s[a] += s[b];
      mixed = s[d] ^ s[a];
      s[d] = (mixed << 16) | (mixed >>> 16);
      s[c] += s[d];
      mixed = s[b] ^ s[c];
      s[b] = (mixed << 12) | (mixed >>> 20);
      s[a] += s[b];
      mixed = s[d] ^ s[a];
      s[d] = (mixed << 8) | (mixed >>> 24);
      s[c] += s[d];
      mixed = s[b] ^ s[c];
      s[b] = (mixed << 7) | (mixed >>> 25);
    };

    const refill = ({ input, block }) => {
      for (let at = 0; at < 16; at++) block[at] = input[at];
      for (let round = 0; round < 6; round++) {
        for (let at = 0; at < 4; at++) quarter(block, at, at + 4, at + 8, at + 12);
        for (let at = 0; at < 4; at++) {
          quarter(block, at, 4 + ((at + 1) & 3), 8 + ((at + 2) & 3), 12 + ((at + 3) & 3));
        }
      }
      for (let at = 0; at < 16; at++) block[at] += input[at];
      input[12]++;
      if (input[12] === 0) input[13]++;
    };

    const start = (seed) => {
      const input = new Uint32Array(16);
      input[0] = 0x61707865;
      input[1] = 0x3320646e;
      input[2] = 0x79622d32;
      input[3] = 0x6b206574;
      for (let at = 0; at < 8; at++) input[4 + at] = seed === undefined ? 0 : seed[at];
      return { __proto__: null, input, block: new Uint32Array(16), at: 16 };
    };

    const next = (stream) => {
      if (stream.at === 16) {
        refill(stream);
        stream.at = 0;
      }
      return stream.block[stream.at++];
    };
    return { __proto__: null, start, next };
  });
})(globalThis.__concave);
