// performance: marks and measures at times that the program gives.
//
// In: `print`. Out: lines. Invariant: equal in every runtime; nothing depends on a clock.
import { attempt } from "./print.js";

const shown = (entry) => [entry.name, entry.entryType, entry.startTime, entry.duration,
  entry.detail, Object.prototype.toString.call(entry), entry instanceof PerformanceEntry];

export default function timing(print) {
  performance.clearMarks();
  performance.clearMeasures();
  const detail = { list: [1] };
  const mark = performance.mark("one", { startTime: 3, detail });
  detail.list.push(2);
  print(...shown(mark));
  performance.mark("two", { startTime: 10 });
  performance.mark("two", { startTime: 12 });
  print(...shown(performance.measure("between", "one", "two")));
  print(...shown(performance.measure("options", { start: 2, end: 9, detail: "d" })));
  print(...shown(performance.measure("duration", { start: "one", duration: 4 })));
  print(...shown(performance.measure("back", { end: 9, duration: 4 })));
  // Where requests were made, there are entries of theirs.
  const ours = ({ entryType }) => entryType !== "resource";
  const names = (entries) => entries.filter(ours).map(({ name }) => name).sort();
  print(names(performance.getEntries()), names(performance.getEntriesByType("mark")),
    names(performance.getEntriesByName("two")), names(performance.getEntriesByName("two", "x")));
  performance.clearMarks("one");
  print(names(performance.getEntriesByType("mark")));
  performance.clearMeasures();
  print(names(performance.getEntries()));
  const made = new PerformanceMark("made", { startTime: 1 });
  print(...shown(made), performance.getEntriesByName("made").length);
  print(JSON.stringify(mark));
  for (const use of [
    () => performance.mark(), () => performance.mark("x", { startTime: -1 }),
    () => performance.measure(), () => performance.measure("x", "not there"),
    () => performance.measure("x", { start: 1, end: 2, duration: 1 }),
    () => performance.measure("x", { start: 1 }, "two"), () => new Performance(),
    () => new PerformanceEntry(), () => new PerformanceMeasure(),
    () => performance.mark("x", { detail: () => 1, startTime: 1 }),
    () => performance.now.call({}),
    () => Object.getOwnPropertyDescriptor(Performance.prototype, "timeOrigin").get.call({}),
  ]) attempt(print, use);
  performance.clearMarks();
  print(typeof performance.timeOrigin, performance.timeOrigin > 1e12,
    performance.now() >= 0, performance.toJSON().timeOrigin === performance.timeOrigin,
    performance instanceof EventTarget, typeof performance.addEventListener);
}
