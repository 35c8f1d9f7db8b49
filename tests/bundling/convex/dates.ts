import { addDays, formatISO, differenceInWeeks as weeks, intervalToDuration } from "date-fns";
import * as fns from "date-fns";
import { de } from "date-fns/locale";
import { format } from "date-fns/format";

export function run() {
  const start = new Date(Date.UTC(2024, 1, 28, 12));
  return {
    days: addDays(start, 2).toISOString(),
    iso: formatISO(start, { representation: "date" }),
    weeks: weeks(addDays(start, 30), start),
    german: format(start, "EEEE, d. MMMM yyyy", { locale: de }),
    duration: intervalToDuration({ start, end: fns.addHours(start, 49) }),
    sameConstructor: fns.addDays === addDays,
  };
}
