// One run: import the module, call the export, say how it ended.
//
// In: `hooks.run` and `hooks.runHttp`, called once by the worker. Out: `op_action_done`, once.
// Invariant: whatever is thrown, wherever (an unawaited promise, a timer's callback), the run ends
// with it; nothing of the host is on the global object when the first module is imported.
((prelude) => {
  'use strict';
  const { bootstrap, hooks, host, primordials } = prelude;
  const { core } = bootstrap;
  const { ops } = core;
  const { apply, JSONParse, JSONStringify } = primordials;
  // Every run needs some of it: once, in the snapshot.
  const { errors } = prelude.open();
  const { ArrayBufferIsView, ObjectPrototypeIsPrototypeOf, TypeError } = bootstrap.primordials;
  // What requests, responses and files need: most actions have none.
  const ours = (name) => prelude.script(`ext:concave_web/${name}.js`);
  const theirs = (name) => prelude.script(`ext:deno_web/${name}.js`);

  const fail = (error) => {
    const { text, stack, data } = errors().formatError(error);
    ops.op_action_done({ text, stack: stack ?? null, data: data ?? null }, '');
  };
  const problem = (text) => { ops.op_action_done({ text, stack: null, data: null }, ''); };
  const succeed = (text) => { ops.op_action_done(null, text); };

  /** What nobody caught: the end of an action. A file of tests goes on (`js/test/main.js`). */
  let uncaught = fail;
  core.setUnhandledPromiseRejectionHandler((_promise, reason) => {
    uncaught(reason);
    return true;
  });
  prelude.uncaught = (error) => { uncaught(error); };
  core.setReportExceptionCallback(prelude.uncaught);

  const found = (namespace, { module, export: name }) => {
    const value = namespace[name];
    if (primordials.isObject(value)) return value;
    problem(`Couldn't find "${name}" in module "${module}".`);
    return undefined;
  };

  const namespaces = { __proto__: null };
  /** A module's exports; `load` imports it by its URL, once in a context. */
  const imported = async (load, { module, import: phase }) => {
    if (namespaces[module] === undefined) {
      prelude.importPhase.begin(phase);
      try {
        namespaces[module] = await load(`convex:/${module}`);
      } finally {
        prelude.importPhase.end();
        prelude.call.forget();
      }
    }
    return namespaces[module];
  };

  /** Forgets what an earlier run in this context has left with the host. */
  const begin = () => {
    prelude.call.console = undefined;
    prelude.call.forget();
    core.setAsyncContext(undefined);
  };

  /** Imports a module before there is a run; that it fails is found again by its run. */
  hooks.prepare = (load, target) => {
    begin();
    imported(load, target).catch(() => {});
  };

  /** Forgets a module: it is imported again. */
  hooks.forget = (module) => { delete namespaces[module]; };

  /** Runs an action. */
  hooks.run = async (load, target, requestId, args) => {
    begin();
    try {
      const action = found(await imported(load, target), target);
      if (action === undefined) return;
      const { path } = target;
      if (typeof action.invokeAction !== 'function') {
        problem(`Function ${path} is not an action. Did you forget to wrap it with \`action\`?`);
        return;
      }
      const text = await action.invokeAction(requestId, args);
      if (typeof text === 'string') succeed(text);
      else {
        const why = 'Could not parse return value as json: it is no text';
        problem(`Function ${path} failed. ${why}`);
      }
    } catch (error) {
      fail(error);
    }
  };

  /** Streams that came with the request, and that go with the response. */
  const incoming = (stream) => new (theirs('06_streams').ReadableStream)({
    type: 'bytes',
    async pull(controller) {
      const chunk = await ops.op_action_body_read(stream);
      if (chunk !== null) {
        controller.enqueue(chunk);
        return;
      }
      controller.close();
      // A pending BYOB read is answered only now.
      controller.byobRequest?.respond(0);
    },
    cancel() { ops.op_action_body_stop(stream); },
  });

  /** Sends all of `body`; stops reading it when nobody wants more, and says so by false. */
  const send = async (stream, body) => {
    const reader = body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (!ArrayBuffer.isView(value) && !(value instanceof ArrayBuffer)) {
          throw new TypeError('A body is made of Uint8Arrays');
        }
        if (!(await ops.op_action_body_write(stream, new Uint8Array(value.buffer ?? value,
          value.byteOffset ?? 0, value.byteLength)))) {
          await reader.cancel('nobody reads it any more');
          return false;
        }
      }
      ops.op_action_body_end(stream, null);
      return true;
    } catch (error) {
      ops.op_action_body_end(stream, errors().formatError(error).text);
      throw error;
    }
  };

  /** A signal that aborts when nobody waits for the response any more. */
  const leaving = () => {
    const controller = new (theirs('03_abort_signal').AbortController)();
    ops.op_action_gone().then((hasLeft) => {
      if (hasLeft) controller.abort(prelude.domException('The client has left', 'AbortError'));
    });
    return controller.signal;
  };

  /** The request that the router is called with, and the response that it ended with: the JSON
   * texts that go in and out of `router.runRequest` stand for them. */
  let asked;
  let answered;

  const jsSyscalls = {
    __proto__: null,
    requestFromConvexJson() {
      const { url, method, headers: list, body } = asked;
      const { Content } = ours('body');
      const content = body === undefined ? null : new Content(undefined, incoming(body));
      return ours('request').requestOf({ url, method, list, content, makeSignal: leaving });
    },
    convexJsonFromResponse({ response }) {
      if (!ObjectPrototypeIsPrototypeOf(ours('response').ResponsePrototype, response)) {
        throw new Error('HTTP actions must return a Response');
      }
      answered = response;
      return { status: response.status };
    },
    'concave/unhandled'(take) { uncaught = take; },
    'concave/fetch'(dress) { return prelude.dressFetch(dress); },
    'concave/plainLog'(isPlain) { prelude.isPlainLog = isPlain; },
    'concave/random'(next) { prelude.importPhase.drawFrom(next); },
    'concave/stream'(seed) {
      const stream = prelude.chacha().start(seed);
      return () => prelude.chacha().next(stream);
    },
    'concave/turn'() { return ops.op_void_async_deferred(); },
    'concave/report'({ op, json }) { ops.op_action_report(op, json); },
    'concave/coverage'() { return ops.op_action_coverage(); },
    async 'storage/storeBlob'({ blob, options, ...rest }) {
      if (!ObjectPrototypeIsPrototypeOf(theirs('09_file').BlobPrototype, blob)) {
        throw new TypeError('storage.store: the argument must be a Blob or a File; make one with '
          + 'new Blob([data], { type }).');
      }
      const stream = ops.op_action_body_open(false);
      const json = JSONStringify({ ...rest, contentType: blob.type, size: blob.size,
        sha256: options?.sha256 });
      const asked = ops.op_action_ask_with_body('storage/storeBlob', json, stream);
      await send(stream, blob.stream());
      return JSONParse(host.unwrap(await asked));
    },
    async 'storage/getBlob'(args) {
      const answer = await ops.op_action_async_syscall('storage/getBlob', JSONStringify(args));
      const described = JSONParse(host.unwrap(answer));
      if (described === null) return null;
      const parts = [];
      for (;;) {
        const chunk = await ops.op_action_body_read(answer.body);
        if (chunk === null) break;
        parts.push(chunk);
      }
      return new Blob(parts, { type: described.contentType ?? '' });
    },
  };
  host.jsSyscall = (op, args) => {
    const syscall = jsSyscalls[op];
    if (syscall === undefined) throw new Error(`Unknown JS syscall: ${op}`);
    return syscall(args);
  };

  /** Runs the router of `http.ts`. */
  hooks.runHttp = async (load, target, head) => {
    begin();
    try {
      const router = found(await imported(load, target), target);
      if (router === undefined) return;
      if (router.isRouter !== true) {
        problem('The default export of `convex/http.ts` is not a Router. Did you forget to export '
          + 'what `httpRouter()` returned?');
        return;
      }
      const route = router.lookup(head.routed_path, head.method);
      if (route === null) {
        ops.op_action_no_route();
        return;
      }
      asked = head;
      await router.runRequest('{}', head.routed_path);
      if (await respond(answered, `${route[2]}`)) succeed('');
      // Its client has left: what the handler has begun goes on.
      else ops.op_action_linger();
    } catch (error) {
      fail(error);
    }
  };

  /** Sends a response; false when its client did not stay to its end. */
  const respond = async (response, route) => {
    const { status } = response;
    const headers = ours('headers').listOf(response.headers);
    const content = ours('response').contentOf(response);
    if (content?.isUnusable) throw new TypeError('The body of the response has been read already');
    const source = content === null ? '' : content.source;
    if (typeof source === 'string') {
      ops.op_action_http_text(status, headers, source, route);
    } else if (ArrayBufferIsView(source)) {
      ops.op_action_http_bytes(status, headers, source, route);
    } else {
      const stream = ops.op_action_body_open(true);
      ops.op_action_http_head(status, headers, stream, route);
      return send(stream, content.stream);
    }
    return true;
  };

  /** Has modules that the startup snapshot is to hold find what every other module finds; gives
   * what puts the host back on the global object. */
  globalThis.__concaveReside = (phase) => {
    const hidden = ['__concave', '__concaveStart', '__bootstrap', 'Deno'];
    const host = hidden.map((name) => [name, globalThis[name]]);
    for (const [name] of host) delete globalThis[name];
    delete globalThis.__concaveReside;
    begin();
    prelude.importPhase.begin(phase);
    return () => {
      prelude.importPhase.end();
      for (const [name, value] of host) globalThis[name] = value;
    };
  };

  let webAssembly;
  const { lazy } = hooks;
  hooks.lazy = (part, name) => (part === 'WebAssembly' ? hooks.webAssembly(webAssembly)
    : lazy(part, name));

  // V8 compiles what is in parentheses at once, so it is in the snapshot.
  const load = ((url) => import(url));
  const entries = {
    __proto__: null,
    prepare: ((target) => { hooks.prepare(load, target); }),
    run: ((target, requestId, args) => hooks.run(load, target, requestId, args)),
    runHttp: ((target, head) => hooks.runHttp(load, target, head)),
    scripts: hooks.scripts,
  };

  /** Takes the host off the global object; from here on it is users' code that runs. */
  globalThis.__concaveStart = (() => {
    // V8 adds it to each context.
    webAssembly = WebAssembly;
    delete globalThis.WebAssembly;
    host.lazy(globalThis, ['WebAssembly'], 'WebAssembly');
    delete globalThis.__concaveStart;
    delete globalThis.__concaveReside;
    delete globalThis.__concave;
    delete globalThis.__bootstrap;
    delete globalThis.Deno;
    return entries;
  });
})(globalThis.__concave);
