// Streams, blobs, forms, requests and responses: deno_web's scripts and `js/web`, on first touch.
//
// In: `__concave.webBootstrap()`. Out: the globals, and how the console shows them. Invariant: the
// same scripts as in actions; a context that touches none of these names pays a slot for each, and
// neither the scripts' text nor their code is in the snapshot before.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { primordials } = prelude;
  const { lazy, section } = primordials;

  const web = section(() => {
    const { core } = prelude.webBootstrap();
    const { show } = core.loadExtScript('ext:concave_web/shown.js');
    return (specifier, names) => {
      const exports = core.loadExtScript(specifier);
      const found = { __proto__: null };
      for (let at = 0; at < names.length; at++) {
        const name = names[at];
        found[name] = exports[name];
        show(prelude.shown, name, exports[name]);
      }
      return found;
    };
  });
  const from = (specifier, names) => lazy(names, section(() => web()(specifier, names)));

  from('ext:deno_web/06_streams.js', ['ReadableStream', 'ReadableStreamDefaultReader',
    'ReadableStreamBYOBReader', 'WritableStream', 'WritableStreamDefaultWriter',
    'TransformStream']);
  from('ext:deno_web/08_text_encoding.js', ['TextEncoderStream', 'TextDecoderStream']);
  from('ext:deno_web/09_file.js', ['Blob', 'File']);
  from('ext:concave_web/headers.js', ['Headers']);
  from('ext:concave_web/form_data.js', ['FormData']);
  from('ext:concave_web/request.js', ['Request']);
  from('ext:concave_web/response.js', ['Response']);
  from('ext:deno_web/01_urlpattern.js', ['URLPattern']);
});
