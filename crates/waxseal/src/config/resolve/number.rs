//! Numbers within their range.

use std::ops::RangeInclusive;

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
