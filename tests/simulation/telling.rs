//! What the servers log, for the story of a run that is looked at alone.

use std::fmt::Write;
use std::sync::Mutex;

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Teller;

/// Has all that is logged kept for [`lines`].
pub fn begin() {
    if log::set_logger(&Teller).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// What was logged since the last call.
pub fn lines() -> Vec<String> {
    std::mem::take(&mut *LINES.lock().unwrap())
}

struct Fields(String);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}

impl Log for Teller {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("stanzad")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut fields = Fields(String::new());
            let line = match record.key_values().visit(&mut fields) {
                Ok(()) => format!("{}{}", record.args(), fields.0),
                Err(error) => error.to_string(),
            };
            LINES.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}
