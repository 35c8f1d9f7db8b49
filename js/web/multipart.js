// multipart/form-data, both ways.
//
// In: entries of a form, or the bytes of a body. Out: parts of a blob with their boundary, or
// entries. Invariant: what `serialize` writes, `parse` reads back: line ends are CRLF and names are
// escaped as HTML's forms do it (RFC 7578).
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayPrototypePush, MathRandom, NumberPrototypeToString, SafeRegExp, StringPrototypeIndexOf,
    StringPrototypeReplace, StringPrototypeSlice, StringPrototypeToLowerCase, TypeError,
    TypedArrayPrototypeSubarray,
  } = primordials;
  const { File, isBlob } = core.loadExtScript('ext:deno_web/09_file.js');

  const CR = 13;
  const LF = 10;
  const DASH = 45;
  const LINE_ENDS = new SafeRegExp('\\r\\n|\\r|\\n', 'g');

  const withLineEnds = (text) => StringPrototypeReplace(text, LINE_ENDS, '\r\n');

  function escaped(text) {
    let result = '';
    for (let at = 0; at < text.length; at++) {
      const unit = text[at];
      result += unit === '\r' ? '%0D' : unit === '\n' ? '%0A' : unit === '"' ? '%22' : unit;
    }
    return result;
  }

  const ESCAPES = new SafeRegExp('%0A|%0D|%22', 'gi');
  const unescaped = (text) => StringPrototypeReplace(text, ESCAPES, (found) =>
    (found === '%22' ? '"' : StringPrototypeToLowerCase(found) === '%0a' ? '\n' : '\r'));

  /** A line that no content has, but for odds of one to 2^104. */
  function makeBoundary() {
    let digits = '';
    while (digits.length < 26) {
      digits += StringPrototypeSlice(NumberPrototypeToString(MathRandom(), 36), 2, 8);
    }
    return `----formdata-${StringPrototypeSlice(digits, 0, 26)}`;
  }

  function serialize(entries) {
    const boundary = makeBoundary();
    const parts = [];
    for (let at = 0; at < entries.length; at++) {
      const { name, value } = entries[at];
      const head = `--${boundary}\r\nContent-Disposition: form-data; `
        + `name="${escaped(withLineEnds(name))}"`;
      if (isBlob(value)) {
        const type = value.type === '' ? 'application/octet-stream' : value.type;
        ArrayPrototypePush(parts,
          `${head}; filename="${escaped(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`);
        ArrayPrototypePush(parts, value);
        ArrayPrototypePush(parts, '\r\n');
      } else {
        ArrayPrototypePush(parts, `${head}\r\n\r\n${withLineEnds(value)}\r\n`);
      }
    }
    ArrayPrototypePush(parts, `--${boundary}--\r\n`);
    return { boundary, parts };
  }

  const malformed = (why) => new TypeError(`The body is not multipart/form-data: ${why}`);

  /** Where `bytes` hold `wanted` from `from` on; -1 where they do not. */
  function indexOf(bytes, wanted, from) {
    for (let at = from; at <= bytes.length - wanted.length; at++) {
      let same = 0;
      while (same < wanted.length && bytes[at + same] === wanted[same]) same++;
      if (same === wanted.length) return at;
    }
    return -1;
  }

  /** Entries of a body. */
  function parse(bytes, boundary) {
    const delimiter = core.encode(`\r\n--${boundary}`);
    const first = TypedArrayPrototypeSubarray(delimiter, 2);
    const entries = [];
    // What comes before the first delimiter is not part of the form.
    let at = indexOf(bytes, first, 0);
    if (at < 0) throw malformed('its boundary is not in it');
    at += first.length;
    for (;;) {
      if (bytes[at] === DASH && bytes[at + 1] === DASH) return entries;
      while (bytes[at] === 32 || bytes[at] === 9) at++;
      if (bytes[at] !== CR || bytes[at + 1] !== LF) {
        throw malformed('a boundary is not followed by a line end');
      }
      const { head, start } = readHead(bytes, at + 2);
      const end = indexOf(bytes, delimiter, start - 2);
      if (end < 0) throw malformed('its last boundary is missing');
      const content = TypedArrayPrototypeSubarray(bytes, start, end < start ? start : end);
      ArrayPrototypePush(entries, toEntry(head, content));
      at = end + delimiter.length;
    }
  }

  const BLANK_LINE = core.encode('\r\n\r\n');

  /** The header lines of one part, and where its content starts. */
  function readHead(bytes, from) {
    const head = { __proto__: null };
    if (bytes[from] === CR && bytes[from + 1] === LF) return { head, start: from + 2 };
    const end = indexOf(bytes, BLANK_LINE, from);
    if (end < 0) throw malformed("a part's header lines have no end");
    const text = core.decode(TypedArrayPrototypeSubarray(bytes, from, end));
    let at = 0;
    while (at < text.length) {
      const stop = StringPrototypeIndexOf(text, '\r\n', at);
      const line = StringPrototypeSlice(text, at, stop < 0 ? text.length : stop);
      const colon = StringPrototypeIndexOf(line, ':');
      if (colon <= 0) throw malformed('a header line has no name');
      const name = StringPrototypeToLowerCase(StringPrototypeSlice(line, 0, colon));
      head[name] = trim(StringPrototypeSlice(line, colon + 1));
      at = stop < 0 ? text.length : stop + 2;
    }
    return { head, start: end + 4 };
  }

  const BLANKS = new SafeRegExp('^[ \\t]+|[ \\t]+$', 'g');
  const trim = (text) => StringPrototypeReplace(text, BLANKS, '');

  function toEntry(head, content) {
    const disposition = head['content-disposition'];
    if (disposition === undefined) throw malformed('a part has no Content-Disposition');
    const parameters = readParameters(disposition);
    if (parameters.name === undefined) throw malformed('a part has no name');
    if (parameters.filename === undefined) {
      return { name: parameters.name, value: core.decode(content) };
    }
    const type = head['content-type'] ?? 'text/plain';
    return { name: parameters.name, value: new File([content], parameters.filename, { type }) };
  }

  /** `form-data; name="a"; filename="b"`. */
  function readParameters(text) {
    const parameters = { __proto__: null };
    const kind = StringPrototypeIndexOf(text, ';');
    const first = trim(StringPrototypeSlice(text, 0, kind < 0 ? text.length : kind));
    if (StringPrototypeToLowerCase(first) !== 'form-data') {
      throw malformed('a part is not form-data');
    }
    let at = kind < 0 ? text.length : kind + 1;
    while (at < text.length) {
      const equals = StringPrototypeIndexOf(text, '=', at);
      if (equals < 0) break;
      const name = StringPrototypeToLowerCase(trim(StringPrototypeSlice(text, at, equals)));
      const quoted = text[equals + 1] === '"';
      const from = quoted ? equals + 2 : equals + 1;
      let to = StringPrototypeIndexOf(text, quoted ? '"' : ';', from);
      if (to < 0) {
        if (quoted) throw malformed('a quotation mark is missing');
        to = text.length;
      }
      const value = StringPrototypeSlice(text, from, to);
      parameters[name] = quoted ? unescaped(value) : trim(value);
      const next = StringPrototypeIndexOf(text, ';', to);
      at = next < 0 ? text.length : next + 1;
    }
    return parameters;
  }

  return { parse, serialize };
})();
