//! What was found, and how it is told.

use std::fmt::Write as _;

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::exit::Exit;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Nothing is wrong.
    Fine,
    /// It could not be looked at.
    Untried,
    /// It works, and could be better.
    Warning,
    /// It does not work.
    Wrong,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Untried => "untried",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
        }
    }
}

/// What was looked at, how it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at: a name that stays the same.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What was found, with its value.
    pub(crate) found: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

impl Finding {
    pub(crate) fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Fine,
            found: found.into(),
            mend: None,
        }
    }

    pub(crate) fn untried(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Untried,
            ..Self::fine(check, found)
        }
    }

    pub(crate) fn warning(
        check: &'static str,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Warning,
            mend: Some(mend.into()),
            ..Self::fine(check, found)
        }
    }

    pub(crate) fn wrong(
        check: &'static str,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Wrong,
            mend: Some(mend.into()),
            ..Self::fine(check, found)
        }
    }

    /// The same with a level that depends.
    pub(crate) const fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

/// An error with its causes, once each.
pub(crate) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let more = deeper.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = deeper.source();
    }
    text
}

/// Prints what was found; fails if something is wrong.
pub(crate) fn report(findings: &[Finding], json: bool) -> Exit {
    let worst = findings.iter().map(|finding| finding.level).max();
    let is_healthy = worst != Some(Level::Wrong);
    if json {
        let told = serde_json::json!({ "healthy": is_healthy, "findings": findings });
        println!("{told}");
    } else {
        print!("{}", as_text(findings));
    }
    if is_healthy { Exit::Done } else { Exit::Failed }
}

fn as_text(findings: &[Finding]) -> String {
    let widths = findings.iter().map(|finding| finding.check.width());
    let width = widths.max().unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let Finding {
            check,
            level,
            found,
            mend,
        } = finding;
        let found = crate::logs::plain(found).replace('\n', " ");
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{:<8} {check:<width$}  {found}", level.word());
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:<8} {:<width$}  → {mend}", "", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_in_rows() {
        let findings = [
            Finding::fine("disk", "9 GiB free"),
            Finding::wrong("database", "no answer", "start it"),
        ];
        insta::assert_snapshot!(as_text(&findings), @"
        fine     disk      9 GiB free
        WRONG    database  no answer
                           → start it
        ");
        assert_eq!(report(&findings[..1], true), Exit::Done);
        assert_eq!(report(&findings, true), Exit::Failed);
    }
}
