//! The same for people.

use std::fmt;

use super::Report;
use crate::core::holdings::table;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "Warning: {warning}")?;
        }
        let reserved = match self.reserved.as_str() {
            "" => "none",
            ports => ports,
        };
        writeln!(
            f,
            "This node takes ports {} for outgoing connections; reserved are {reserved}.",
            self.ephemeral
        )?;
        let compared = format!(
            "{} and {}",
            count(self.node_ports, "nodePort"),
            count(self.pools, "NodePortPool")
        );
        if self.is_clean() {
            return writeln!(f, "No collision with {compared}.");
        }
        writeln!(f, "Compared with {compared}:")?;
        writeln!(f)?;
        let protocols: Vec<String> = (self.collisions.iter())
            .map(|collision| match collision.protocols.as_slice() {
                [] => "all".to_owned(),
                words => words.join(","),
            })
            .collect();
        let mut rows = vec![vec!["COLLISION", "PORTS", "PROTOCOL", "OF", "WHY"]];
        for (collision, protocols) in self.collisions.iter().zip(&protocols) {
            rows.push(vec![
                collision.what.as_str(),
                &collision.ports,
                protocols,
                &collision.of,
                &collision.why,
            ]);
        }
        table(f, &rows)?;
        writeln!(f)?;
        writeln!(f, "What to do:")?;
        for cure in &self.cures {
            writeln!(f, "  * {cure}")?;
        }
        Ok(())
    }
}

fn count(number: usize, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {word}{s}")
}
