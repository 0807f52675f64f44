//! Adds up the closing lines of cargo's test harness, and keeps what it says of tests that failed.

use std::fmt;

/// What the `test result:` lines seen so far add up to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Tests that ran and passed.
    pub(crate) passed: u64,
    /// Tests that ran and failed.
    pub(crate) failed: u64,
    /// Tests that did not run: ignored, or left out by a filter.
    pub(crate) skipped: u64,
    /// What those that failed printed, and their names.
    pub(crate) failures: Vec<String>,
    /// Whether such lines come now.
    failing: bool,
}

impl Counts {
    /// Takes one line of output; lines that are no closing line, and say nothing of a failure, change
    /// nothing.
    pub(crate) fn see(&mut self, line: &str) {
        self.failing |= line == "failures:";
        let Some(rest) = line.trim().strip_prefix("test result: ") else {
            if self.failing && line != "failures:" {
                self.failures.push(line.to_owned());
            }
            return;
        };
        self.failing = false;
        let Some((_verdict, rest)) = rest.split_once(". ") else {
            return;
        };
        for part in rest.split(';') {
            let Some((number, what)) = part.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" | "filtered out" => self.skipped += number,
                _ => {} // "measured": benchmarks are no tests
            }
        }
    }

    /// Adds what a later run of only the ignored tests has come to; what it left out ran before.
    pub(crate) fn no_longer_ignored(&mut self, again: Self) {
        self.passed += again.passed;
        self.failed += again.failed;
        self.failures.extend(again.failures);
        self.skipped = self.skipped.saturating_sub(again.passed + again.failed);
    }
}

/// `N passed, N failed`, and `, N skipped` when there is something to say.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    fn counts(output: &str) -> Counts {
        let mut counts = Counts::default();
        output.lines().for_each(|line| counts.see(line));
        counts
    }

    #[test]
    fn what_was_ignored_and_runs_later_is_not_skipped() {
        let mut all =
            counts("test result: ok. 7 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out");
        let real = counts(
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 8 filtered out",
        );
        all.no_longer_ignored(real);
        assert_eq!(all.to_string(), "8 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn closing_lines_of_several_binaries_add_up() {
        let seen = counts(
            "running 2 tests\n\
             test a ... ok\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: FAILED. 3 passed; 1 failed; 0 ignored; 7 measured; 4 filtered out; finished in 1.00s\n",
        );
        assert_eq!(
            seen,
            Counts {
                passed: 5,
                failed: 1,
                skipped: 5,
                ..Counts::default()
            }
        );
    }

    #[test]
    fn what_is_said_of_failures_is_kept_to_be_said_again() {
        let seen = counts(
            "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nwhy\n\nfailures:\n    a\n\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored\ntest b ... ok\n",
        );
        assert_eq!(
            seen.failures,
            ["", "---- a stdout ----", "why", "", "    a", ""]
        );
        let mut all = counts("test result: ok. 2 passed; 0 failed; 1 ignored");
        all.no_longer_ignored(seen);
        assert_eq!((all.failures.len(), all.failed), (6, 1));
    }

    #[test]
    fn a_line_that_only_mentions_results_counts_nothing() {
        assert_eq!(counts("the test result: ok. 2 passed;"), Counts::default());
    }

    #[test]
    fn nothing_skipped_is_not_mentioned() {
        let seen = counts("test result: ok. 2 passed; 0 failed; 0 ignored");
        assert_eq!(seen.to_string(), "2 passed, 0 failed");
    }

    #[test]
    fn skipped_tests_are_mentioned() {
        let seen = counts("test result: ok. 2 passed; 0 failed; 1 ignored");
        assert_eq!(seen.to_string(), "2 passed, 0 failed, 1 skipped");
    }
}
