//! Label selectors, with Kubernetes' meaning of each operator.

use std::collections::BTreeSet;

use model::Labels;

/// A label selector: every requirement must hold. None at all matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    /// The requirements; an entry of `matchLabels` is one with `In` and one value.
    pub requirements: Vec<Requirement>,
}

/// One requirement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it must relate to the values.
    pub operator: Operator,
    /// The values; of no account to `Exists` and `DoesNotExist`.
    pub values: BTreeSet<String>,
}

/// How a label must relate to the values of a requirement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// Present with one of the values.
    In,
    /// Absent, or with none of the values.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl Selector {
    /// Whether the labels fulfil every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator {
                Operator::In => listed,
                Operator::NotIn => !listed,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
