//! Numbers within their range.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::duration::written as words;
use crate::config::problem::Problems;
use crate::config::reader::Located;

/// The number, if it lies in `range`; else an error.
pub(super) fn within<T: TryFrom<i64>>(
    written: &Option<Located<i64>>,
    key: &str,
    range: RangeInclusive<i64>,
    problems: &mut Problems,
) -> Option<Located<T>> {
    let number = written.as_ref()?;
    let (least, most) = (*range.start(), *range.end());
    match T::try_from(number.value) {
        Ok(value) if range.contains(&number.value) => return Some(number.with(value)),
        _ if number.value < least => {
            problems.error(number.span.clone(), format!("`{key}` is {}: the least is {least}", number.value))
        }
        _ => problems.error(number.span.clone(), format!("`{key}` is too large: the most is {most}")),
    };
    None
}

/// Tells of a duration that does not lie in `range`.
pub(super) fn lasting(
    written: &Option<Located<Duration>>,
    key: &str,
    range: RangeInclusive<Duration>,
    problems: &mut Problems,
) {
    let Some(duration) = written.as_ref().filter(|duration| !range.contains(&duration.value)) else { return };
    let given = words(duration.value);
    let (least, most) = (words(*range.start()), words(*range.end()));
    problems.error(duration.span.clone(), format!("`{key}` is {given}: it is between {least} and {most}"));
}
