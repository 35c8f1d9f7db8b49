// Bodies of requests and responses, of the Fetch standard.
//
// In: a BodyInit. Out: `extract(init)`, `Content`, `mixBody(Class, contentOf, typeOf)`,
// `markUnplaced(error)`. Invariant: a content is read once; one that is in memory becomes a stream
// only when somebody asks for one.
(function () {
  'use strict';
  const { core, primordials } = __bootstrap;
  const {
    ArrayBufferIsView, ArrayPrototypePush, DataViewPrototypeGetBuffer,
    DataViewPrototypeGetByteLength, DataViewPrototypeGetByteOffset, JSONParse, MapPrototypeGet,
    ObjectDefineProperties, ObjectPrototypeIsPrototypeOf, SafeWeakMap, StringPrototypeCharCodeAt,
    TypeError, TypedArrayPrototypeGetBuffer, TypedArrayPrototypeGetByteLength,
    TypedArrayPrototypeGetByteOffset, TypedArrayPrototypeGetSymbolToStringTag,
    TypedArrayPrototypeSet, TypedArrayPrototypeSlice, Uint8Array, WeakMapPrototypeGet,
    WeakMapPrototypeSet,
  } = primordials;
  const { Blob, isBlob } = core.loadExtScript('ext:deno_web/09_file.js');
  const { URLSearchParams, URLSearchParamsPrototype } = core.loadExtScript(
    'ext:deno_web/00_url.js');
  const { parseMimeType, essence, serializeMimeType } = core.loadExtScript(
    'ext:deno_web/01_mimesniff.js');
  const { entriesOf, formOf, isForm } = core.loadExtScript('ext:concave_web/form_data.js');
  const multipart = () => core.loadExtScript('ext:concave_web/multipart.js');

  // Streams are a large script: it is run when there is one.
  let streamsScript;
  const streams = () => (streamsScript ??= core.loadExtScript('ext:deno_web/06_streams.js'));
  /** Whether `value` is a stream; before the script has run there is none. */
  const isStream = (value) => typeof value === 'object' && value !== null
    && typeof value.getReader === 'function' && streams().isReadableStream(value);

  const isBytes = (value) => TypedArrayPrototypeGetSymbolToStringTag(value) === 'Uint8Array';

  /** A copy of the bytes of a BufferSource. */
  function copyOf(source) {
    if (!ArrayBufferIsView(source)) return TypedArrayPrototypeSlice(new Uint8Array(source));
    const isTyped = TypedArrayPrototypeGetSymbolToStringTag(source) !== undefined;
    return TypedArrayPrototypeSlice(isTyped
      ? new Uint8Array(TypedArrayPrototypeGetBuffer(source),
        TypedArrayPrototypeGetByteOffset(source), TypedArrayPrototypeGetByteLength(source))
      : new Uint8Array(DataViewPrototypeGetBuffer(source), DataViewPrototypeGetByteOffset(source),
        DataViewPrototypeGetByteLength(source)));
  }

  /** What is to be read: a string, bytes or a Blob (`source`), or a stream. */
  class Content {
    #source;
    #stream;
    #url;
    #consumed = false;

    constructor(source, stream = undefined, url = undefined) {
      this.#source = source;
      this.#stream = stream;
      this.#url = url;
    }

    /** Bytes where they are known without a stream, else undefined: what may be sent twice. */
    get source() { return this.#source; }

    get isUsed() {
      return this.#stream === undefined ? this.#consumed
        : streams().isReadableStreamDisturbed(this.#stream);
    }

    get isUnusable() {
      return this.isUsed
        || (this.#stream !== undefined && streams().isReadableStreamLocked(this.#stream));
    }

    get stream() {
      if (this.#stream === undefined) {
        this.#stream = streamOf(this.#source);
        if (this.#consumed) {
          streams().readableStreamDisturb(this.#stream);
          streams().readableStreamClose(this.#stream);
        }
      }
      return this.#stream;
    }

    /** Takes everything; sync where it is in memory. */
    take() {
      if (this.isUnusable) {
        throw new TypeError('Body is unusable: it has been read already, or its stream is locked');
      }
      if (this.#stream !== undefined) return collect(this.#stream, this.#url);
      this.#consumed = true;
      const source = this.#source;
      if (typeof source === 'string') return core.encode(source);
      return isBlob(source) ? collect(source.stream()) : TypedArrayPrototypeSlice(source);
    }

    /** The text, if it is in memory as text and nothing would be lost of it; else undefined. */
    takeText() {
      const source = this.#source;
      if (typeof source !== 'string' || this.#stream !== undefined || this.isUnusable) {
        return undefined;
      }
      if (StringPrototypeCharCodeAt(source, 0) === 0xfeff) return undefined;
      this.#consumed = true;
      return source;
    }

    copy() {
      if (this.#stream === undefined) return new Content(this.#source);
      const { 0: first, 1: second } = streams().readableStreamTee(this.#stream, true);
      this.#stream = first;
      this.#source = undefined;
      return new Content(undefined, second, this.#url);
    }

    /** Hands the content over to another owner; here it counts as read. */
    move() {
      if (this.#stream === undefined) {
        const moved = new Content(this.#source);
        this.#consumed = true;
        return moved;
      }
      // The stream goes on in a new one, so that this one is disturbed and locked.
      const { TransformStream } = streams();
      const through = this.#stream.pipeThrough(new TransformStream());
      return new Content(undefined, through);
    }
  }

  function streamOf(source) {
    if (isBlob(source)) return source.stream();
    const bytes = typeof source === 'string' ? core.encode(source)
      : TypedArrayPrototypeSlice(source);
    const { ReadableStream } = streams();
    return new ReadableStream({
      type: 'bytes',
      pull(controller) {
        if (bytes.length > 0) controller.enqueue(bytes);
        controller.close();
        controller.byobRequest?.respond(0);
      },
    });
  }

  /** Errors that the host made while nobody's code was running. */
  const unplaced = new SafeWeakMap();
  const markUnplaced = (error) => {
    if (typeof error === 'object' && error !== null) WeakMapPrototypeSet(unplaced, error, true);
    return error;
  };

  /** Reads on; an error of the host's is made anew here, where whoever waits is on the stack. */
  async function next(reader) {
    try {
      return await reader.read();
    } catch (error) {
      if (WeakMapPrototypeGet(unplaced, error) !== true) throw error;
      const { cause, message } = error;
      throw new TypeError(message, cause === undefined ? undefined : { cause });
    }
  }

  async function collect(stream, url = undefined) {
    const reader = stream.getReader();
    const most = url === undefined ? Infinity : core.ops.op_fetch_whole_body();
    const chunks = [];
    let length = 0;
    for (;;) {
      const { done, value } = await next(reader);
      if (done) break;
      if (!isBytes(value)) {
        const error = new TypeError('A body is a stream of Uint8Arrays');
        await reader.cancel(error);
        throw error;
      }
      ArrayPrototypePush(chunks, value);
      length += TypedArrayPrototypeGetByteLength(value);
      if (length > most) {
        const error = new TypeError(`The response of ${url} is too large to read at once: more `
          + 'than '
          + `${most / 1048576} MiB. Read it in parts from response.body, or ask for a range.`);
        await reader.cancel(error);
        throw error;
      }
    }
    if (chunks.length === 1) return chunks[0];
    const all = new Uint8Array(length);
    let at = 0;
    for (let index = 0; index < chunks.length; index++) {
      TypedArrayPrototypeSet(all, chunks[index], at);
      at += TypedArrayPrototypeGetByteLength(chunks[index]);
    }
    return all;
  }

  /** `{ content, type }` of a BodyInit; `type` is null where it says none. */
  function extract(init) {
    if (isStream(init)) {
      if (init.locked || streams().isReadableStreamDisturbed(init)) {
        throw new TypeError('The stream of a body is locked or has been read from');
      }
      return { content: new Content(undefined, init), type: null };
    }
    if (isBlob(init)) {
      return { content: new Content(init), type: init.type === '' ? null : init.type };
    }
    if (ArrayBufferIsView(init) || core.isAnyArrayBuffer(init)) {
      return { content: new Content(copyOf(init)), type: null };
    }
    if (isForm(init)) {
      const { boundary, parts } = multipart().serialize(entriesOf(init));
      const type = `multipart/form-data; boundary=${boundary}`;
      return { content: new Content(new Blob(parts)), type };
    }
    if (ObjectPrototypeIsPrototypeOf(URLSearchParamsPrototype, init)) {
      const type = 'application/x-www-form-urlencoded;charset=UTF-8';
      return { content: new Content(`${init}`), type };
    }
    const text = webidl.converters.USVString(init);
    return { content: new Content(text), type: 'text/plain;charset=UTF-8' };
  }
  const webidl = core.loadExtScript('ext:deno_webidl/00_webidl.js');

  /** Gives a class its body's members. `contentOf(self)`: Content or null, after a brand check. */
  function mixBody(Class, contentOf, typeOf) {
    const take = (self) => {
      const content = contentOf(self);
      return content === null ? new Uint8Array(0) : content.take();
    };
    const text = async (self) => contentOf(self)?.takeText() ?? core.decode(await take(self));
    const members = {
      get body() { return contentOf(this)?.stream ?? null; },
      get bodyUsed() { return contentOf(this)?.isUsed ?? false; },
      async arrayBuffer() { return TypedArrayPrototypeGetBuffer(exact(await take(this))); },
      async blob() {
        const bytes = await take(this);
        const type = parseMimeType(typeOf(this) ?? '');
        return new Blob([bytes], { type: type === null ? '' : serializeMimeType(type) });
      },
      async bytes() { return exact(await take(this)); },
      formData() {
        // Thrown, as Convex does, where it is no promise that anybody awaits.
        core.refuse?.('formData()');
        return toForm(take, this, typeOf(this));
      },
      async json() { return JSONParse(await text(this)); },
      text() { return text(this); },
    };
    const descriptors = primordials.ObjectGetOwnPropertyDescriptors(members);
    ObjectDefineProperties(Class.prototype, descriptors);
  }

  /** The same bytes in a buffer of their own size. */
  function exact(bytes) {
    const { byteLength } = TypedArrayPrototypeGetBuffer(bytes);
    return byteLength === TypedArrayPrototypeGetByteLength(bytes) ? bytes
      : TypedArrayPrototypeSlice(bytes);
  }

  async function toForm(take, self, header) {
    const type = header === null ? null : parseMimeType(header);
    const kind = type === null ? '' : essence(type);
    if (kind === 'multipart/form-data') {
      const boundary = MapPrototypeGet(type.parameters, 'boundary');
      if (boundary === undefined) {
        throw new TypeError('The Content-Type multipart/form-data has no boundary');
      }
      return formOf(multipart().parse(await take(self), boundary));
    }
    if (kind !== 'application/x-www-form-urlencoded') {
      throw new TypeError('formData() needs the Content-Type multipart/form-data or '
        + `application/x-www-form-urlencoded, not ${header ?? 'none'}`);
    }
    const entries = [];
    new URLSearchParams(core.decode(await take(self))).forEach((value, name) => {
      ArrayPrototypePush(entries, { name, value });
    });
    return formOf(entries);
  }

  return { Content, extract, markUnplaced, mixBody };
})();
