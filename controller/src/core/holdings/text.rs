//! The same for people: tables, as kubectl prints them.

use std::fmt;

use super::{Free, Report};

/// Columns as wide as their widest cell, three spaces apart; nothing is padded at a line's end.
pub(in crate::core) fn table(f: &mut fmt::Formatter<'_>, rows: &[Vec<&str>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}   "));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

fn warnings(f: &mut fmt::Formatter<'_>, warnings: &[String]) -> fmt::Result {
    warnings
        .iter()
        .try_for_each(|warning| writeln!(f, "Warning: {warning}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        warnings(f, &self.warnings)?;
        match &self.answer {
            Some(answer) => writeln!(f, "{answer}")?,
            None if self.numbers.is_empty() => writeln!(f, "No Service has such a number.")?,
            None => self.numbers(f)?,
        }
        if !self.findings.is_empty() {
            writeln!(f)?;
            self.findings(f)?;
        }
        if !self.pools.is_empty() {
            writeln!(f)?;
            self.pools(f)?;
        }
        Ok(())
    }
}

impl Report {
    fn numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<(String, String)> = (self.numbers.iter())
            .map(|row| {
                let service = format!("{}/{}", row.namespace, row.service);
                (service, row.protocols.join(","))
            })
            .collect();
        let mut rows = vec![vec![
            "NUMBER", "KIND", "PROTOCOL", "STATE", "SERVICE", "POOL", "NOTE",
        ]];
        for (row, (service, protocols)) in self.numbers.iter().zip(&cells) {
            rows.push(vec![
                &row.number,
                row.kind.as_str(),
                dash(protocols),
                row.state.as_str(),
                service,
                dash(row.pool.as_deref().unwrap_or_default()),
                row.note.as_deref().unwrap_or_default(),
            ]);
        }
        table(f, &rows)
    }

    fn findings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<String> = (self.findings.iter())
            .map(|finding| match (&finding.namespace, &finding.service) {
                (Some(namespace), Some(service)) => format!("{namespace}/{service}"),
                (_, _) => String::new(),
            })
            .collect();
        let mut rows = vec![vec!["FINDING", "NUMBER", "SERVICE", "NOTE"]];
        for (finding, service) in self.findings.iter().zip(&services) {
            rows.push(vec![
                finding.kind.reason().as_str(),
                &finding.number,
                dash(service),
                &finding.note,
            ]);
        }
        table(f, &rows)
    }

    fn pools(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.pools.iter().map(|pool| {
            let counts = [
                pool.capacity,
                pool.claimed,
                pool.retained,
                pool.unclaimed,
                pool.available,
            ];
            counts.map(|count| count.to_string())
        });
        let counts: Vec<[String; 5]> = counts.collect();
        let mut rows = vec![vec![
            "POOL",
            "KIND",
            "USAGE",
            "OF",
            "STATE",
            "CAPACITY",
            "CLAIMED",
            "RETAINED",
            "UNCLAIMED",
            "AVAILABLE",
            "NOTE",
        ]];
        for (pool, counts) in self.pools.iter().zip(&counts) {
            let mut row = vec![
                pool.pool.as_str(),
                pool.kind,
                dash(pool.usage),
                dash(pool.space),
                pool.state.as_str(),
            ];
            row.extend(counts.iter().map(String::as_str));
            row.push(pool.note.as_deref().unwrap_or_default());
            rows.push(row);
        }
        table(f, &rows)
    }
}

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        warnings(f, &self.warnings)?;
        if self.free.is_empty() {
            return Ok(());
        }
        let mut rows = vec![vec!["NUMBER", "POOL"]];
        rows.extend(
            self.free
                .iter()
                .map(|free| vec![&*free.number, &*free.pool]),
        );
        table(f, &rows)
    }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
