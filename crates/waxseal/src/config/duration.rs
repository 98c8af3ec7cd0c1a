//! Durations as they are written: `"90s"`, `"1m"`, `"1h 30m"`, `"30d"`.

use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Reading, Spot, Written};

/// The longest duration that makes sense in a mail server's configuration; beyond it arithmetic with clocks may fail.
const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Written for Duration {
    const EXPECTED: &'static str = "a duration such as \"1m\"";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        if let DeValue::Integer(number) = spot.value {
            reading
                .problems
                .error(spot.span, format!("a duration has a unit: {number}"))
                .help(format!("for seconds write \"{number}s\""));
            return None;
        }
        let word = reading.word(&spot, Self::EXPECTED)?;
        match humantime::parse_duration(word.as_str()) {
            Ok(duration) if duration <= MAX => Some(duration),
            Ok(_) => {
                reading.problems.error(spot.span, format!("`{word}` is too long a duration"));
                None
            }
            Err(_) => {
                reading
                    .problems
                    .error(spot.span, format!("`{word}` is not a duration"))
                    .help("write it as \"90s\", \"1m\", \"1h 30m\" or \"30d\"");
                None
            }
        }
    }
}

/// A duration in the words it may be written in.
pub(crate) fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
