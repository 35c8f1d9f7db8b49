//! Structured logs: each of our `tracing` events as one JSON object a line.
//!
//! In: events. Out: lines on standard error: `timestamp`, `level`, `target`, then the event's
//! fields in their order, `message` among them. Invariant: an event is one line and every line is
//! whole; libraries' events, and spans, are left out.

use std::fmt::Debug;
use std::io::{self, Write as _};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes events of one level, and of more important ones.
pub(super) struct Lines {
    least: Level,
}

impl Lines {
    /// From here on every event of this process comes here. It stays as it was where somebody else
    /// collects them.
    pub(super) fn install(least: Level) {
        let _ = tracing::subscriber::set_global_default(Self { least });
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= self.least
            && metadata.target().starts_with("concave")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // None is enabled; whoever makes one all the same gets a name for it.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = line(event, SystemTime::now().into());
        line.push('\n');
        // A reader that went away is no reason to stop.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// One event.
fn line(event: &Event<'_>, now: DateTime<Utc>) -> String {
    let mut fields = Fields(Map::new());
    let metadata = event.metadata();
    fields.put("timestamp", now.to_rfc3339_opts(SecondsFormat::Micros, true));
    fields.put("level", metadata.level().as_str());
    fields.put("target", metadata.target());
    event.record(&mut fields);
    Value::Object(fields.0).to_string()
}

/// Fields, in order.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Collects what `Lines` would write.
    struct Collected(Lines, Arc<Mutex<Vec<String>>>);

    impl Subscriber for Collected {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            self.0.enabled(metadata)
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            self.0.new_span(span)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.1.lock().unwrap().push(line(event, DateTime::default()));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let collected = Collected(Lines { least: Level::INFO }, Arc::clone(&lines));
        tracing::subscriber::with_default(collected, || {
            let (path, error) = ("a:b", Some("two\nlines"));
            let n = 3_u64;
            tracing::warn!(target: "concave::call", path, n, x = 1.5, error, "it \"{}\"", 1);
            tracing::info!(target: "concave", none = None::<&str>, yes = true, "plain");
            tracing::debug!(target: "concave", "too little");
            tracing::error!(target: "hyper", "a library's");
        });
        let at = r#"{"timestamp":"1970-01-01T00:00:00.000000Z","#;
        let warned = r#""level":"WARN","target":"concave::call","message":"it \"1\"","#;
        let fields = r#""path":"a:b","n":3,"x":1.5,"error":"two\nlines"}"#;
        let plain = r#""level":"INFO","target":"concave","message":"plain","yes":true}"#;
        let expected = [format!("{at}{warned}{fields}"), format!("{at}{plain}")];
        assert_eq!(*lines.lock().unwrap(), expected);
    }
}
