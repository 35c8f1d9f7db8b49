// `Date` over the clock of the function: a call's frozen one, or an action's.
//
// In: `__concave.now()`, milliseconds since the epoch. Out: `Date`, and `__concave.Date` for other
// files. Invariant: without arguments it gives that time and never the machine's; all else is V8's.
((prelude) => {
  'use strict';
  const { now } = prelude;
  const { apply, construct, defineProperty, install } = prelude.primordials;
  const { Date: NativeDate, DateToString } = prelude.primordials;

  // Not a class: Date() without `new` is legal and gives text.
  function Date(year, month, date, hours, minutes, seconds, ms) {
    if (new.target === undefined) {
      return apply(DateToString, construct(NativeDate, [now()]), []);
    }
    return construct(NativeDate, arguments.length === 0 ? [now()] : arguments, new.target);
  }
  install(Date, {
    now() { return now(); },
    parse: NativeDate.parse,
    UTC: NativeDate.UTC,
  });
  defineProperty(Date, 'prototype', {
    __proto__: null, value: NativeDate.prototype, writable: false,
  });
  install(NativeDate.prototype, { constructor: Date });
  install(globalThis, { Date });
  prelude.Date = Date;
})(globalThis.__concave);
