//! Where log lines go and how they look: standard error, as text, logfmt or JSON.
//!
//! logfmt is one line of `key=value` pairs with `ts`, `level`, `target` and `msg` first; a value with
//! blanks, quotes or control characters is quoted and escaped, so that a line is always one event.

use std::fmt;
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;
use crate::error::Error;

/// Installs the process' subscriber. Called once, before any column starts.
pub fn start(format: LogFormat, levels: &str) -> Result<(), Error> {
    let failed = |why: String| Error::runtime("cannot start logging").why(why);
    let filter = EnvFilter::try_new(levels).map_err(|error| failed(error.to_string()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_terminal = std::io::stderr().is_terminal();
    let installed = match resolve(format, is_terminal) {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Logfmt => builder.with_ansi(false).event_format(Logfmt).try_init(),
        LogFormat::Text | LogFormat::Auto => {
            let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            builder.with_ansi(is_terminal && !is_plain).try_init()
        }
    };
    installed.map_err(|error| failed(error.to_string()))
}

fn resolve(format: LogFormat, is_terminal: bool) -> LogFormat {
    match (format, is_terminal) {
        (LogFormat::Auto, true) => LogFormat::Text,
        (LogFormat::Auto, false) => LogFormat::Logfmt,
        (named, _) => named,
    }
}

struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("ts=")?;
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(writer, " level={level} target={}", metadata.target())?;
        let mut pairs = Pairs::default();
        event.record(&mut pairs);
        writer.write_str(&pairs.message)?;
        writer.write_str(&pairs.others)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

/// The pairs of one event, the message apart so that it comes first.
#[derive(Default)]
struct Pairs {
    message: String,
    others: String,
}

impl Pairs {
    fn push(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            push_pair(&mut self.message, "msg", value);
        } else {
            push_pair(&mut self.others, field.name(), value);
        }
    }
}

impl Visit for Pairs {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format!("{value:?}"));
    }
}

/// Appends ` key=value`, the value quoted where it must be.
fn push_pair(line: &mut String, key: &str, value: &str) {
    line.push(' ');
    line.push_str(key);
    line.push('=');
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("one thread").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(Logfmt)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().expect("one thread").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn an_event_is_one_line_of_pairs() {
        let line = logged(|| tracing::info!(addr = %"127.0.0.1:9000", n = 3, "listening here"));
        assert!(line.starts_with("ts=20") && line.ends_with('\n'), "{line}");
        let rest = line.split_once(" level=").map(|(_, rest)| rest.trim_end());
        let target = module_path!();
        let expected = format!("info target={target} msg=\"listening here\" addr=127.0.0.1:9000 n=3");
        assert_eq!(rest, Some(expected.as_str()));
    }

    #[test]
    fn values_cannot_break_the_line() {
        let line = logged(|| tracing::warn!(path = "a \"b\"\nlevel=error", empty = "", "x"));
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.ends_with(" msg=x path=\"a \\\"b\\\"\\nlevel=error\" empty=\"\"\n"), "{line}");
    }

    #[test]
    fn auto_asks_the_terminal() {
        assert_eq!(resolve(LogFormat::Auto, true), LogFormat::Text);
        assert_eq!(resolve(LogFormat::Auto, false), LogFormat::Logfmt);
        assert_eq!(resolve(LogFormat::Json, true), LogFormat::Json);
    }
}
