// Zips as a test needs them: entries by name, read and written without a library of the program's.
//
// In: bytes, or entries. Out: the other. Invariant: what `zip` writes is stored, not compressed, so
// a test can break a byte and knows what it broke; what `streamed` writes is deflated, with sizes
// behind the bytes, as of a writer that cannot go back; what is read may be either.
import * as zlib from "node:zlib";

/** Entries of a zip, in the order of its directory. */
export function unzip(bytes) {
  const end = bytes.lastIndexOf(Buffer.from("PK\x05\x06"));
  const entries = new Map();
  let at = bytes.readUInt32LE(end + 16);
  for (let left = bytes.readUInt16LE(end + 10); left > 0; left--) {
    const method = bytes.readUInt16LE(at + 10);
    const size = bytes.readUInt32LE(at + 20);
    const [name, extra, comment] = [28, 30, 32].map((offset) => bytes.readUInt16LE(at + offset));
    const start = bytes.readUInt32LE(at + 42);
    const title = bytes.toString("utf8", at + 46, at + 46 + name);
    const data = start + 30 + bytes.readUInt16LE(start + 26) + bytes.readUInt16LE(start + 28);
    const stored = bytes.subarray(data, data + size);
    entries.set(title, method === 8 ? zlib.inflateRawSync(stored) : stored);
    at += 46 + name + extra + comment;
  }
  return entries;
}

/** A zip of `{name: text or bytes}`, or of a list of both, in which a name may come twice. */
export const zip = (entries) => written(entries, false);

/** A zip of the same, written as a stream. */
export const streamed = (entries) => written(entries, true);

/** A zip whose directory says something else about how one entry is packed. */
export function packedAs(bytes, title, { method = 0, encrypted = false }) {
  const changed = Buffer.from(bytes);
  // The flags are before the method, in the entry's head and in the directory.
  for (const [magic, name, flags] of [["PK\x03\x04", 30, 6], ["PK\x01\x02", 46, 8]]) {
    let at = changed.indexOf(magic);
    while (changed.toString("utf8", at + name, at + name + title.length) !== title) {
      at = changed.indexOf(magic, at + 4);
      if (at < 0) throw new Error(`the zip has no ${title}`);
    }
    changed.writeUInt16LE(changed.readUInt16LE(at + flags) | (encrypted ? 1 : 0), at + flags);
    changed.writeUInt16LE(method, at + flags + 2);
  }
  return changed;
}

function written(entries, streams) {
  const [files, directory] = [[], []];
  let offset = 0;
  const list = Array.isArray(entries) ? entries : Object.entries(entries);
  for (const [title, content] of list) {
    const [name, plain] = [Buffer.from(title), Buffer.from(content)];
    const data = streams ? zlib.deflateRawSync(plain) : plain;
    const sizes = Buffer.alloc(12);
    sizes.writeUInt32LE(sum(plain), 0);
    sizes.writeUInt32LE(data.length, 4);
    sizes.writeUInt32LE(plain.length, 8);
    const head = Buffer.alloc(26);
    head.writeUInt16LE(20, 0);
    // Sizes come behind; names are UTF-8.
    head.writeUInt16LE(streams ? 0x808 : 0, 2);
    head.writeUInt16LE(streams ? 8 : 0, 4);
    head.writeUInt16LE(name.length, 22);
    const local = Buffer.from(head);
    sizes.copy(head, 10);
    if (!streams) sizes.copy(local, 10);
    const behind = streams ? [Buffer.from("PK\x07\x08"), sizes] : [];
    const file = Buffer.concat([Buffer.from("PK\x03\x04"), local, name, data, ...behind]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    const made = Buffer.from([20, 0]);
    directory.push(Buffer.concat([Buffer.from("PK\x01\x02"), made, head, rest, name]));
    files.push(file);
    offset += file.length;
  }
  const end = Buffer.alloc(18);
  end.writeUInt16LE(directory.length, 4);
  end.writeUInt16LE(directory.length, 6);
  end.writeUInt32LE(Buffer.concat(directory).length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...files, ...directory, Buffer.from("PK\x05\x06"), end]);
}

/** CRC-32, also where Node has none yet. */
function sum(bytes) {
  if (zlib.crc32) return zlib.crc32(bytes);
  let rest = 0xffffffff;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? 0xedb88320 : 0);
  }
  return (rest ^ 0xffffffff) >>> 0;
}
