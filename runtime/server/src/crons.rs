//! What the schedules of `crons.ts` mean: when a cron job is due, and which a push is refused for
//! (`convex-compat.md` section 9.4).
//!
//! In: specs as `cronJobs()` exports them, moments. Out: moments, and errors that name the cron
//! job, the place in its expression and the cure.
//! Invariant: times are UTC and a function of the spec and the moments given; a schedule that was
//! accepted at a push has a next occurrence.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use database::deployment::Analysis;
use database::error::PushError;
use database::record::{FunctionKind, FunctionPath};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Occurrences that were missed are counted up to here.
const MISSED_MAX: u64 = 100_000;

/// When a cron job runs.
#[derive(Debug)]
pub enum Schedule {
    /// Every so many nanoseconds, from the push on.
    Interval(u64),
    /// Whenever the clock shows this.
    Clock(Box<Cron>),
}

/// A schedule as `crons.ts` exports it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Spec {
    #[serde(rename_all = "camelCase")]
    Interval {
        seconds: Option<f64>,
        minutes: Option<f64>,
        hours: Option<f64>,
    },
    #[serde(rename_all = "camelCase")]
    Hourly {
        #[serde(rename = "minuteUTC")]
        minute: Option<f64>,
    },
    #[serde(rename_all = "camelCase")]
    Daily {
        #[serde(rename = "hourUTC")]
        hour: f64,
        #[serde(rename = "minuteUTC")]
        minute: Option<f64>,
    },
    #[serde(rename_all = "camelCase")]
    Weekly {
        day_of_week: String,
        #[serde(rename = "hourUTC")]
        hour: f64,
        #[serde(rename = "minuteUTC")]
        minute: Option<f64>,
    },
    #[serde(rename_all = "camelCase")]
    Monthly {
        day: f64,
        #[serde(rename = "hourUTC")]
        hour: f64,
        #[serde(rename = "minuteUTC")]
        minute: Option<f64>,
    },
    Cron {
        cron: String,
    },
}

impl Schedule {
    /// Reads the schedule of the cron job `name`.
    ///
    /// # Errors
    /// What is wrong with it, where and what to write instead.
    pub fn parse(name: &str, json: &str) -> Result<Self, String> {
        let spec: Spec = serde_json::from_str(json)
            .map_err(|error| format!("The cron job {name:?} has no schedule of ours: {error}."))?;
        // Spread over the hour by name where the author leaves it to us.
        let minute = |minute: Option<f64>| minute.unwrap_or_else(|| f64::from(own_minute(name)));
        let expression = match spec {
            Spec::Interval { seconds, minutes, hours } => {
                return interval(name, seconds, minutes, hours);
            }
            Spec::Hourly { minute: at } => format!("{} * * * *", minute(at)),
            Spec::Daily { hour, minute: at } => format!("{} {hour} * * *", minute(at)),
            Spec::Weekly { day_of_week, hour, minute: at } => {
                let day = day_of_week.get(..3).unwrap_or(&day_of_week);
                format!("{} {hour} * * {day}", minute(at))
            }
            Spec::Monthly { day, hour, minute: at } => format!("{} {hour} {day} * *", minute(at)),
            Spec::Cron { cron } => cron,
        };
        clock(&expression).map(|cron| Self::Clock(Box::new(cron))).map_err(|Typo { at, what }| {
            format!(
                "The cron job {name:?} has the expression {expression:?}, which cannot be used: at \
                 character {at}, {what}. An expression has five fields: minute, hour, day of the \
                 month, month, day of the week; \"15 7 * * *\" is every day at 7:15 UTC."
            )
        })
    }

    /// The first occurrence of a cron job that is new, or whose schedule was changed after it ran.
    pub fn first(&self, previous: Option<u64>, now: u64) -> u64 {
        match (self, previous) {
            (Self::Interval(every), Some(previous)) => previous.saturating_add(*every).max(now),
            (Self::Interval(_), None) => now,
            (Self::Clock(cron), _) => next(cron, now),
        }
    }

    /// The first occurrence after `now`, where the machine's clock was set back and `due` is of the
    /// old time. A job that runs rarely is left alone: it does not run at nine twice because nine
    /// comes twice.
    pub fn sooner(&self, due: u64, now: u64) -> Option<u64> {
        let (first, second) = match self {
            Self::Interval(every) => {
                let first = now.saturating_add(*every);
                (first, first)
            }
            Self::Clock(cron) => {
                let first = next(cron, now);
                (first, next(cron, first))
            }
        };
        (second < due).then_some(first)
    }

    /// The first occurrence after `now`, and how many after `due` lie before that.
    pub fn after(&self, due: u64, now: u64) -> (u64, u64) {
        match self {
            Self::Interval(every) => {
                let missed = now.saturating_sub(due) / every;
                (due.saturating_add((missed + 1).saturating_mul(*every)), missed)
            }
            Self::Clock(cron) => {
                let (mut at, mut missed) = (next(cron, due), 0);
                while at <= now && missed < MISSED_MAX {
                    (at, missed) = (next(cron, at), missed + 1);
                }
                if at <= now { (next(cron, now), missed) } else { (at, missed) }
            }
        }
    }
}

/// Refuses a bundle whose cron jobs could not run.
///
/// # Errors
/// The first that is wrong.
pub(crate) fn check(analysis: &Analysis) -> Result<(), PushError> {
    analysis.each().try_for_each(|(component, found)| {
        check_module(found).map_err(|error| match component {
            "" => error,
            component => {
                let message = format!("{}\nIn the component {component:?}.", error.message);
                PushError::new(error.code, message)
            }
        })
    })
}

fn check_module(analysis: &Analysis) -> Result<(), PushError> {
    let module = analysis.modules.get("crons.js");
    let Some(text) = module.and_then(|module| module.crons_json.as_ref()) else { return Ok(()) };
    #[derive(Deserialize)]
    struct Entry {
        name: String,
        schedule: serde_json::Value,
    }
    let entries: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|error| PushError::new("InvalidCrons", format!("convex/crons.ts: {error}")))?;
    for (name, entry) in entries {
        let entry: Entry = serde_json::from_value(entry).map_err(|error| {
            PushError::new("InvalidCrons", format!("The cron job {name:?} is malformed: {error}"))
        })?;
        check_identifier(&name)?;
        check_function(analysis, &name, &entry.name)?;
        Schedule::parse(&name, &entry.schedule.to_string())
            .map_err(|message| PushError::new("InvalidCronSchedule", message))?;
    }
    Ok(())
}

fn check_identifier(name: &str) -> Result<(), PushError> {
    if name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(());
    }
    let text = format!(
        "Invalid cron identifier {name}: use ASCII letters that are not control characters"
    );
    Err(PushError::new("InvalidCronIdentifier", text))
}

fn check_function(analysis: &Analysis, name: &str, function: &str) -> Result<(), PushError> {
    let path = FunctionPath::parse(function)
        .map_err(|error| PushError::new("InvalidCronFunction", error.message))?;
    match analysis.function(&path).map(|found| found.kind) {
        Some(FunctionKind::Mutation | FunctionKind::Action) => Ok(()),
        Some(FunctionKind::Query) => Err(PushError::new(
            "InvalidCronFunction",
            format!(
                "The cron job '{name}' schedules the query {path}: only mutations and actions can \
                 be scheduled."
            ),
        )),
        None => Err(PushError::new(
            "InvalidCronFunction",
            format!("The cron job '{name}' schedules a function that does not exist: {path}"),
        )),
    }
}

/// A hundred years.
const LONGEST_INTERVAL_S: f64 = 100.0 * 365.25 * 86_400.0;

fn interval(
    name: &str,
    seconds: Option<f64>,
    minutes: Option<f64>,
    hours: Option<f64>,
) -> Result<Schedule, String> {
    let given = [(seconds, 1_u32), (minutes, 60), (hours, 3600)];
    let given: Vec<_> = given.iter().filter_map(|(n, unit)| Some(((*n)?, *unit))).collect();
    let whole = |n: f64| n > 0.0 && n.fract() == 0.0;
    match given[..] {
        [(n, unit)] if whole(n) && n * f64::from(unit) > LONGEST_INTERVAL_S => {
            Err(format!("The interval of the cron job {name:?} is longer than 100 years."))
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        [(n, unit)] if whole(n) => {
            Ok(Schedule::Interval(n as u64 * u64::from(unit) * NS_PER_SECOND))
        }
        _ => Err(format!(
            "The cron job {name:?} needs one of seconds, minutes or hours, as an integer greater \
             than 0."
        )),
    }
}

/// A minute for those who name none: the same for a name at every push.
fn own_minute(name: &str) -> u8 {
    Sha256::digest(name)[0] % 60
}

/// What is wrong with an expression, and where.
struct Typo {
    /// Character, from 1.
    at: usize,
    what: String,
}

/// A field of an expression.
struct Field {
    /// What a value of it is called.
    name: &'static str,
    /// What it takes, for an error's text.
    takes: &'static str,
    first: usize,
    last: usize,
    /// Of the values from `first` on, where they have some.
    names: &'static [&'static str],
}

const fn field(name: &'static str, takes: &'static str, (first, last): (usize, usize)) -> Field {
    Field { name, takes, first, last, names: &[] }
}

const FIELDS: [Field; 5] = [
    field("minute", "0 to 59", (0, 59)),
    field("hour", "0 to 23", (0, 23)),
    field("day of the month", "1 to 31, L for the last, 15W for the weekday next to it", (1, 31)),
    Field {
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        ..field("month", "1 to 12 or jan to dec", (1, 12))
    },
    Field {
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        ..field(
            "day of the week",
            "0 to 6 or sun to sat, 5L for the last, 5#2 for the second",
            (0, 6),
        )
    },
];

impl Field {
    /// The field with ranges that go around, which Convex takes, as lists: `22-1` is `22,23,0,1`.
    fn unrolled(&self, text: &str) -> String {
        let each = text.split(',').map(|part| self.around(part).unwrap_or_else(|| part.to_owned()));
        each.collect::<Vec<_>>().join(",")
    }

    /// The values of a range whose end lies before its begin.
    fn around(&self, part: &str) -> Option<String> {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = range.split_once('-')?;
        let (from, to) = (self.value(from)?, self.value(to)?);
        let step = step.parse().ok().filter(|step| *step > 0)?;
        let count = self.last - self.first + 1;
        let values = (from..=to + count).step_by(step);
        let value = |at: usize| (self.first + (at - self.first) % count).to_string();
        (to < from).then(|| values.map(value).collect::<Vec<_>>().join(","))
    }

    fn value(&self, text: &str) -> Option<usize> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = named.map(|at| at + self.first).or_else(|| text.parse().ok())?;
        (self.first..=self.last).contains(&value).then_some(value)
    }
}

fn clock(expression: &str) -> Result<Cron, Typo> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    // In characters from 1, as an editor counts.
    let place = |field: &str| {
        let bytes = field.as_ptr() as usize - expression.as_ptr() as usize;
        expression[..bytes].chars().count() + 1
    };
    if fields.len() != FIELDS.len() {
        let at = fields.get(FIELDS.len()).map_or(expression.chars().count() + 1, |f| place(f));
        let what = format!("there are {} fields, not five", fields.len());
        return Err(Typo { at, what });
    }
    let mut unrolled = Vec::new();
    for (number, (field, of)) in fields.iter().zip(&FIELDS).enumerate() {
        let text = of.unrolled(field);
        let mut alone = ["*"; 5];
        alone[number] = &text;
        if parse(&alone.join(" ")).is_err() {
            let Field { name, takes, .. } = of;
            let what = format!(
                "{field:?} is no {name}: {takes}, *, and lists, ranges and steps of those (1,15 \
                 1-5 */10)"
            );
            return Err(Typo { at: place(field), what });
        }
        unrolled.push(text);
    }
    let never = |_| {
        let what = "it names a day that no month of those has, so it would never run".to_owned();
        Typo { at: place(fields[2]), what }
    };
    let cron = parse(&unrolled.join(" ")).map_err(never)?;
    occurrence(&cron, DateTime::<Utc>::UNIX_EPOCH).ok_or(()).map_err(never)?;
    Ok(cron)
}

fn parse(expression: &str) -> Result<Cron, ()> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(expression).map_err(drop)
}

/// The first occurrence after a moment.
fn next(cron: &Cron, after: u64) -> u64 {
    let seconds = i64::try_from(after / NS_PER_SECOND).expect("u64 nanoseconds fit");
    let from = DateTime::<Utc>::from_timestamp(seconds, 0).expect("until the year 2554");
    let found = occurrence(cron, from).expect("an accepted expression has occurrences");
    u64::try_from(found.timestamp()).expect("after 1970") * NS_PER_SECOND
}

fn occurrence(cron: &Cron, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    cron.find_next_occurrence(&after, false).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 14 November 2023, 22:13:20 UTC, a Tuesday.
    const NOW: u64 = 1_700_000_000 * NS_PER_SECOND;

    fn text(at: u64) -> String {
        let at = DateTime::<Utc>::from_timestamp((at / NS_PER_SECOND).try_into().unwrap(), 0);
        at.unwrap().format("%a %Y-%m-%d %H:%M:%S").to_string()
    }

    fn first(json: &str) -> String {
        text(Schedule::parse("job", json).unwrap().first(None, NOW))
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_for_the_old_time() {
        let sooner = |json: &str, due: u64, now: u64| {
            let schedule = Schedule::parse("job", json).unwrap();
            schedule.sooner(due, now).map(text)
        };
        let hour = 3_600 * NS_PER_SECOND;
        let minutes = r#"{"type":"interval","minutes":5}"#;
        assert_eq!(sooner(minutes, NOW + hour / 12, NOW), None);
        let again = sooner(minutes, NOW, NOW - hour);
        assert_eq!(again.as_deref(), Some("Tue 2023-11-14 21:18:20"));
        let every = r#"{"type":"cron","cron":"* * * * *"}"#;
        assert_eq!(sooner(every, NOW + 40 * NS_PER_SECOND, NOW), None);
        let again = sooner(every, NOW + 40 * NS_PER_SECOND, NOW - hour);
        assert_eq!(again.as_deref(), Some("Tue 2023-11-14 21:14:00"));
        // It has run at ten past ten, and does not run at ten past ten again.
        let daily = r#"{"type":"daily","hourUTC":22,"minuteUTC":10}"#;
        assert_eq!(sooner(daily, NOW + 24 * hour - 200 * NS_PER_SECOND, NOW - hour), None);
    }

    #[test]
    fn every_kind_of_schedule_has_its_next_time() {
        assert_eq!(first(r#"{"type":"interval","minutes":5}"#), "Tue 2023-11-14 22:13:20");
        assert_eq!(first(r#"{"type":"hourly","minuteUTC":13}"#), "Tue 2023-11-14 23:13:00");
        let daily = r#"{"type":"daily","hourUTC":17,"minuteUTC":30}"#;
        assert_eq!(first(daily), "Wed 2023-11-15 17:30:00");
        let weekly = r#"{"type":"weekly","dayOfWeek":"sunday","hourUTC":0,"minuteUTC":0}"#;
        assert_eq!(first(weekly), "Sun 2023-11-19 00:00:00");
        let monthly = r#"{"type":"monthly","day":31,"hourUTC":1,"minuteUTC":2}"#;
        assert_eq!(first(monthly), "Sun 2023-12-31 01:02:00");
        let cron = |cron: &str| first(&format!(r#"{{"type":"cron","cron":"{cron}"}}"#));
        assert_eq!(cron("15 7 * * *"), "Wed 2023-11-15 07:15:00");
        assert_eq!(cron("*/20 22 * * 2"), "Tue 2023-11-14 22:20:00");
        assert_eq!(cron("0 0 29 feb *"), "Thu 2024-02-29 00:00:00");
        // As in cron(8): either day will do where both are named.
        assert_eq!(cron("0 0 20 * mon"), "Mon 2023-11-20 00:00:00");
        assert_eq!(cron("0 0 16 * mon"), "Thu 2023-11-16 00:00:00");
    }

    #[test]
    fn ranges_go_around_midnight_the_weekend_and_the_year() {
        let times = |cron: &str, count: usize| {
            let json = serde_json::json!({ "type": "cron", "cron": cron }).to_string();
            let schedule = Schedule::parse("job", &json).unwrap();
            let mut at = NOW;
            let each = std::iter::repeat_with(|| {
                at = schedule.after(at, at).0;
                text(at)
            });
            each.take(count).collect::<Vec<_>>().join(", ")
        };
        let hours = |text: String| text.replace(" 2023-11-14", "").replace(" 2023-11-15", "");
        assert_eq!(
            hours(times("5 22-1 * * *", 4)),
            "Tue 23:05:00, Wed 00:05:00, Wed 01:05:00, Wed 22:05:00"
        );
        assert_eq!(hours(times("*/30 23-0/2 * * *", 2)), "Tue 23:00:00, Tue 23:30:00");
        assert_eq!(hours(times("58-2/2 22 * * *", 3)), "Tue 22:58:00, Wed 22:00:00, Wed 22:02:00");
        assert_eq!(
            times("0 9 * * Fri-MON", 4).replace(" 2023-11-", " "),
            "Fri 17 09:00:00, Sat 18 09:00:00, Sun 19 09:00:00, Mon 20 09:00:00"
        );
        assert_eq!(
            times("0 0 1 dec-2 *", 4),
            "Fri 2023-12-01 00:00:00, Mon 2024-01-01 00:00:00, Thu 2024-02-01 00:00:00, Sun \
             2024-12-01 00:00:00"
        );
    }

    #[test]
    fn a_minute_left_to_us_is_stable_and_spread() {
        let daily = r#"{"type":"daily","hourUTC":3}"#;
        let minute = |name: &str| Schedule::parse(name, daily).unwrap().first(None, NOW);
        assert_eq!(minute("one"), minute("one"));
        let spread: std::collections::BTreeSet<_> =
            (0..20).map(|n| minute(&n.to_string())).collect();
        assert!(spread.len() > 5, "{spread:?}");
    }

    #[test]
    fn occurrences_that_have_passed_are_counted_and_left_out() {
        let (minute, ns) = (60 * NS_PER_SECOND, NS_PER_SECOND);
        let every = Schedule::parse("job", r#"{"type":"interval","seconds":60}"#).unwrap();
        assert_eq!(every.after(NOW, NOW + ns), (NOW + minute, 0));
        assert_eq!(every.after(NOW, NOW + minute), (NOW + 2 * minute, 1));
        assert_eq!(every.after(NOW, NOW + 3 * minute + 1), (NOW + 4 * minute, 3));
        assert_eq!(every.first(Some(NOW - 5 * ns), NOW), NOW + 55 * ns);
        let hourly = Schedule::parse("job", r#"{"type":"hourly","minuteUTC":0}"#).unwrap();
        let due = hourly.first(None, NOW);
        let (next, missed) = hourly.after(due, due + 150 * minute);
        assert_eq!((next, missed), (due + 180 * minute, 2));
        // Right at an occurrence, and within its second: the next one is the hour after.
        assert_eq!(hourly.after(due, due + 1), (due + 60 * minute, 0));
    }

    #[test]
    fn a_typo_is_named_with_its_place_and_the_cure() {
        let error = |cron: &str| {
            let json = serde_json::json!({ "type": "cron", "cron": cron }).to_string();
            Schedule::parse("nightly", &json).unwrap_err()
        };
        let text = error("0 25 * * *");
        assert!(
            text.starts_with(
                "The cron job \"nightly\" has the expression \"0 25 * * *\", which cannot be \
                 used: at character 3, \"25\" is no hour: 0 to 23, *"
            ),
            "{text}"
        );
        assert!(text.contains("\"15 7 * * *\" is every day at 7:15 UTC"), "{text}");
        let place = |cron: &str| {
            let text = error(cron);
            let tail = text.split("at character ").nth(1).unwrap().to_owned();
            tail.split(", ").take(2).collect::<Vec<_>>().join(" ")
        };
        assert!(place("0 0 * * mun").starts_with("9 \"mun\" is no day of the week"));
        assert!(place("ü 0 * * *").starts_with("1 \"ü\" is no minute"));
        assert!(place("0  x * * *").starts_with("4 \"x\" is no hour"));
        for (cron, named) in [
            ("0 24-2 * * *", "3 \"24-2\" is no hour"),
            ("0 22-2/0 * * *", "3 \"22-2/0\" is no hour"),
            ("0 0 * * fri-9", "9 \"fri-9\" is no day of the week"),
        ] {
            assert!(place(cron).starts_with(named), "{}", error(cron));
        }
        assert!(place("* * * *").starts_with("8 there are 4 fields"));
        assert!(place("0 0 0 * * *").starts_with("11 there are 6 fields"));
        assert!(place("@daily").starts_with("7 there are 1 fields"));
        assert!(place("0 0 31 2 *").starts_with("5 it names a day that no month"));
        let none = Schedule::parse("x", r#"{"type":"interval"}"#).unwrap_err();
        assert!(none.contains("one of seconds, minutes or hours"), "{none}");
    }
}
