// The platform's larger classes, from streams to performance: deno_web's scripts and `js/web`.
//
// In: `__concave.webBootstrap()`. Out: the globals. Invariant: the same scripts as in actions; a
// context that touches none of these names pays a slot for each, and neither the scripts' text nor
// their code is in the snapshot before. Time stands still for `performance`: marks are at 0, unless
// the author says when.
globalThis.__concave.later((prelude) => {
  'use strict';
  const { primordials } = prelude;
  const { apply, defineProperty, getter, lazy, section } = primordials;

  const scripts = section(() => prelude.webBootstrap().core.loadExtScript);
  const from = (specifier, names) => lazy(names, () => scripts()(specifier));

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

  lazy(['performance', 'Performance', 'PerformanceEntry', 'PerformanceMark',
    'PerformanceMeasure'], section(() => {
    const exports = scripts()('ext:deno_web/15_performance.js');
    const { performance, Performance: { prototype } } = exports;
    const { clearMarks, clearMeasures } = prototype;
    const check = getter(prototype, 'timeOrigin');
    defineProperty(prototype, 'timeOrigin', {
      __proto__: null, enumerable: true, configurable: true,
      get() {
        apply(check, this, []);
        return prelude.now();
      },
    });
    // What one call has marked is not there for the next one in its context.
    prelude.call.forget = () => {
      apply(clearMarks, performance, []);
      apply(clearMeasures, performance, []);
    };
    return exports;
  }));
});
