//! What came of each part, and the table at the end.

use std::fmt::Write as _;
use std::time::Duration;

/// What came of one part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It ran and found nothing; a word on it may follow.
    Passed(String),
    /// It ran and found something, or could not be started.
    Failed(String),
    /// It could not run here, and why. Never counted as passed.
    NotRun(String),
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    part: String,
    outcome: Outcome,
    took: Duration,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a part.
    pub(crate) fn add(&mut self, part: &str, outcome: Outcome, took: Duration) {
        self.rows.push(Row {
            part: part.to_owned(),
            outcome,
            took,
        });
    }

    /// Whether every part that could run here found nothing.
    pub(crate) fn clean(&self) -> bool {
        self.failed().is_empty()
    }

    /// The table, and below it in capitals what failed and what did not run.
    pub(crate) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.part.len()).max();
        let width = width.unwrap_or_default();
        let mut table = String::new();
        for Row {
            part,
            outcome,
            took,
        } in &self.rows
        {
            let (word, why) = match outcome {
                Outcome::Passed(why) => ("ok", why),
                Outcome::Failed(why) => ("FAILED", why),
                Outcome::NotRun(why) => ("NOT RUN", why),
            };
            let seconds = took.as_secs_f32();
            let line = format!("  {word:<8} {part:<width$} {seconds:>7.1} s  {why}");
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{}", line.trim_end());
        }
        let not_run: Vec<_> = (self.rows.iter())
            .filter(|row| matches!(row.outcome, Outcome::NotRun(_)))
            .map(|row| row.part.to_uppercase())
            .collect();
        for (word, parts) in [("NOT RUN", not_run), ("FAILED", self.failed())] {
            if !parts.is_empty() {
                let _ = writeln!(table, "\n{word}: {}", parts.join(", "));
            }
        }
        table
    }

    fn failed(&self) -> Vec<String> {
        (self.rows.iter())
            .filter(|row| matches!(row.outcome, Outcome::Failed(_)))
            .map(|row| row.part.to_uppercase())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outcome, Report};

    fn report(outcomes: &[(&str, Outcome)]) -> Report {
        let mut report = Report::default();
        for (part, outcome) in outcomes {
            report.add(part, outcome.clone(), Duration::from_millis(1500));
        }
        report
    }

    #[test]
    fn a_failed_part_makes_the_whole_fail() {
        let report = report(&[
            ("fmt", Outcome::Passed(String::new())),
            ("clippy", Outcome::Failed("exit status: 101".to_owned())),
        ]);
        assert!(!report.clean());
    }

    #[test]
    fn a_part_that_did_not_run_is_named_in_capitals_and_not_ok() {
        let report = report(&[("advisories", Outcome::NotRun("no database".to_owned()))]);
        assert_eq!(
            report.table(),
            "  NOT RUN  advisories     1.5 s  no database\n\nNOT RUN: ADVISORIES\n"
        );
    }

    #[test]
    fn a_part_that_did_not_run_is_no_failure() {
        let report = report(&[("advisories", Outcome::NotRun("no database".to_owned()))]);
        assert!(report.clean());
    }
}
