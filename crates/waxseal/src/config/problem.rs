//! What is wrong with a configuration, said so that it can be mended: where, what, and the one thing to do.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::source::{Source, Span};

/// Problems kept of one file; a file with more is no configuration.
const MAX_PROBLEMS: usize = 200;

/// Whether a configuration with this problem may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It may not.
    Error,
    /// It may, and someone should look at it.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops the start.
    pub severity: Severity,
    /// Where it is; none if it is about the file as a whole.
    pub span: Option<Span>,
    /// What is wrong, in one line.
    pub title: String,
    /// What to do about it, one line each.
    pub help: Vec<String>,
}

impl Problem {
    /// Adds a line of what to do.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help.push(text.into());
        self
    }

    /// Adds a line of what to do where there is one.
    pub fn maybe_help(&mut self, text: Option<impl Into<String>>) -> &mut Self {
        self.help.extend(text.map(Into::into));
        self
    }
}

/// Everything that is wrong with one file.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Notes an error at `span`.
    pub fn error(&mut self, span: impl Into<Option<Span>>, title: impl Into<String>) -> &mut Problem {
        self.note(Severity::Error, span.into(), title.into())
    }

    /// Notes a warning at `span`.
    pub fn warning(&mut self, span: impl Into<Option<Span>>, title: impl Into<String>) -> &mut Problem {
        self.note(Severity::Warning, span.into(), title.into())
    }

    fn note(&mut self, severity: Severity, span: Option<Span>, title: String) -> &mut Problem {
        self.list.push_mut(Problem { severity, span, title, help: Vec::new() })
    }

    /// Whether any of them stops the start.
    pub fn any_error(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Puts them in the order of the file, each once.
    ///
    /// A mistake in `server.tls` is met again by every listener that inherits it: said once is enough.
    pub(crate) fn settle(&mut self) {
        self.list.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
        self.list.dedup();
        if self.list.len() > MAX_PROBLEMS && self.any_error() {
            self.list.retain(|problem| problem.severity == Severity::Error);
        }
        self.list.truncate(MAX_PROBLEMS);
    }

    /// Keeps those that `keep` is true of.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Problem) -> bool) {
        self.list.retain(keep);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many errors and how many warnings.
    pub fn count(&self) -> (usize, usize) {
        let errors = self.iter().filter(|problem| problem.severity == Severity::Error).count();
        (errors, self.list.len() - errors)
    }
}

/// The problems of a file together with its text: what can be shown to an operator.
#[derive(Debug)]
pub struct Report {
    /// The file.
    pub source: Source,
    /// What is wrong with it, in its order.
    pub problems: Problems,
}

/// Whether the reader of a rendering is a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Colours.
    Terminal,
    /// None.
    Plain,
}

/// A problem as programs read it.
#[derive(Serialize)]
pub struct ProblemRecord<'a> {
    severity: Severity,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    text: Option<&'a str>,
    message: &'a str,
    help: &'a [String],
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Every problem with its line, a marker under the offending text, and what to do.
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Terminal => Renderer::styled(),
            Style::Plain => Renderer::plain(),
        };
        let mut text = String::new();
        for problem in self.problems.iter() {
            text.push_str(&renderer.render(&[self.group(problem)]));
            text.push_str("\n\n");
        }
        text
    }

    /// Every problem in a line of its own, for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| {
            let place = problem.span.as_ref().map_or_else(String::new, |span| {
                let (line, column) = self.source.position(span.start);
                format!("{}:{line}:{column}: ", self.source.path().display())
            });
            let help: String = problem.help.iter().map(|help| format!("; {help}")).collect();
            format!("{place}{}{help}", problem.title)
        })
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&problem.title));
        if let Some(span) = &problem.span {
            let marked = AnnotationKind::Primary.span(self.source.first_line(span));
            let path = self.source.path().to_string_lossy();
            group = group.element(Snippet::source(self.source.printable()).path(path).annotation(marked));
        }
        problem.help.iter().fold(group, |group, help| group.element(Level::HELP.message(help)))
    }

    /// The problems for `--json`.
    pub fn records(&self) -> Vec<ProblemRecord<'_>> {
        self.problems
            .iter()
            .map(|problem| {
                let position = problem.span.as_ref().map(|span| self.source.position(span.start));
                ProblemRecord {
                    severity: problem.severity,
                    file: self.source.path().display().to_string(),
                    line: position.map(|(line, _)| line),
                    column: position.map(|(_, column)| column),
                    text: problem.span.as_ref().map(|span| self.source.excerpt(span)),
                    message: &problem.title,
                    help: &problem.help,
                }
            })
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_in_the_order_of_the_file_each_once() {
        let mut problems = Problems::default();
        problems.warning(5..6, "later");
        problems.error(0..1, "first");
        problems.warning(5..6, "later");
        problems.error(None, "whole file");
        problems.settle();
        let titles: Vec<_> = problems.iter().map(|problem| problem.title.as_str()).collect();
        assert_eq!(titles, ["whole file", "first", "later"]);
        assert_eq!(problems.count(), (2, 1));
    }

    #[test]
    fn a_rendering_names_file_line_column_and_help() {
        let mut problems = Problems::default();
        problems.error(7..10, "no such thing").help("did you mean that?");
        let report = Report { source: Source::new("w.toml", "ab = 1\ncd = 2\n"), problems };
        let text = report.to_string();
        assert!(text.contains("error: no such thing"), "{text}");
        assert!(text.contains("w.toml:2:1"), "{text}");
        assert!(text.contains("help: did you mean that?"), "{text}");
    }
}
