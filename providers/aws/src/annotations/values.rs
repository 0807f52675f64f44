//! How LBC reads the value of an annotation (its pkg/annotations/parser.go), and where the value
//! was written. Decides nothing but whether a text is what it should be.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive};

use crate::{Rejection, input::Class, quoted};

/// A Service's annotations, and those in force where it has none.
#[derive(Clone, Copy)]
pub(super) struct Annotations<'a> {
    pub(super) own: &'a BTreeMap<String, String>,
    pub(super) class: &'a Class,
}

impl<'a> Annotations<'a> {
    /// The Service's own.
    pub(super) fn own(self, name: &str) -> Option<Source<'a>> {
        let (name, text) = self.own.get_key_value(name)?;
        Some(Source {
            class: None,
            name,
            text: text.trim(),
        })
    }

    /// The class's.
    pub(super) fn class(self, name: &str) -> Option<Source<'a>> {
        let (name, text) = self.class.annotations.get_key_value(name)?;
        Some(Source {
            class: Some(&self.class.name),
            name,
            text: text.trim(),
        })
    }

    /// The Service's own, else the class's.
    pub(super) fn get(self, name: &str) -> Option<Source<'a>> {
        self.own(name).or_else(|| self.class(name))
    }

    /// Every name that is set, each once.
    pub(super) fn all(self) -> impl Iterator<Item = Source<'a>> {
        let own = self.own.keys().filter_map(move |name| self.own(name));
        let class = self.class.annotations.keys();
        own.chain(
            class
                .filter(move |name| !self.own.contains_key(*name))
                .filter_map(move |name| self.class(name)),
        )
    }
}

/// One value and where it was written.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The class whose default it is.
    pub(super) class: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// `annotation service.beta.kubernetes.io/…`.
    pub(super) fn place(self) -> String {
        match self.class {
            None => format!("annotation {}", self.name),
            Some(class) => format!("LoadBalancerClass {class}: annotation {}", self.name),
        }
    }

    /// `annotation …: "value" <what>`.
    pub(super) fn invalid(self, what: impl Display) -> Rejection {
        Rejection::invalid(format!("{}: {} {what}", self.place(), quoted(self.text)))
    }

    /// Go's strconv.ParseBool.
    pub(super) fn boolean(self) -> Result<bool, Rejection> {
        go_bool(self.text)
            .ok_or_else(|| self.invalid("is not a truth value: write \"true\" or \"false\""))
    }

    /// `on` or `off`.
    pub(super) fn switch(self) -> Result<bool, Rejection> {
        self.one_of("a switch", &[("on", true), ("off", false)])
    }

    /// A number within limits that AWS has.
    pub(super) fn number(self, range: RangeInclusive<u32>) -> Result<u32, Rejection> {
        match self.text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            Ok(_) | Err(_) => Err(self.invalid(format_args!(
                "is not a number from {} to {}: write for example \"10\"",
                range.start(),
                range.end()
            ))),
        }
    }

    /// One word out of few, as it is written here.
    pub(super) fn one_of<T: Copy>(self, what: &str, words: &[(&str, T)]) -> Result<T, Rejection> {
        let found = words.iter().find(|(word, _)| *word == self.text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<String> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            self.invalid(format_args!("is not {what}: write {}", words.join(" or ")))
        })
    }

    /// A text; empty is as if it were not set.
    pub(super) fn text(self) -> Option<String> {
        (!self.text.is_empty()).then(|| self.text.to_owned())
    }

    /// Separated by commas, trimmed, empties dropped.
    pub(super) fn list(self) -> Vec<String> {
        let parts = self.text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// A list of things that begin with `prefix`.
    pub(super) fn ids(self, what: &str, prefix: &str) -> Result<Vec<String>, Rejection> {
        let ids = self.list();
        match ids.iter().find(|id| !id.starts_with(prefix)) {
            None => self.distinct(ids),
            Some(id) => Err(self.invalid(format_args!(
                "has {}, which is not {what}: write ids that begin with {prefix}, separated by \
                 commas",
                quoted(id)
            ))),
        }
    }

    /// A list of things that can be parsed.
    pub(super) fn parsed<T: std::str::FromStr>(
        self,
        what: &str,
        example: &str,
    ) -> Result<Vec<T>, Rejection> {
        let parts = self.distinct(self.list())?;
        let parsed = parts.iter().map(|part| {
            part.parse().map_err(|_| {
                self.invalid(format_args!(
                    "has {}, which is not {what}: write for example \"{example}\"",
                    quoted(part)
                ))
            })
        });
        parsed.collect()
    }

    /// Nothing twice.
    pub(super) fn distinct(self, list: Vec<String>) -> Result<Vec<String>, Rejection> {
        let mut known = std::collections::BTreeSet::new();
        match list.iter().find(|part| !known.insert(part.as_str())) {
            None => Ok(list),
            Some(twice) => Err(self.invalid(format_args!(
                "has {} twice: remove one of them",
                quoted(twice)
            ))),
        }
    }

    /// `key=value` separated by commas; a comma in a value is written `\,`.
    pub(super) fn map(self) -> Result<BTreeMap<String, String>, Rejection> {
        let mut found = BTreeMap::new();
        for pair in split_pairs(self.text) {
            match pair.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    found.insert(key.trim().to_owned(), value.trim().to_owned());
                }
                Some(_) | None => {
                    return Err(self.invalid(format_args!(
                        "has {}, which is not key=value: write for example \"key1=value1,\
                         key2=value2\", and \\, for a comma within a value",
                        quoted(&pair)
                    )));
                }
            }
        }
        Ok(found)
    }
}

/// Go's strconv.ParseBool.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Parts between commas that are not escaped; empty ones dropped.
fn split_pairs(text: &str) -> Vec<String> {
    let mut parts = vec![];
    let mut part = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&',') => {
                characters.next();
                part.push(',');
            }
            ',' => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    parts.push(part);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The word out of `known` that is nearest to `word`, if any is near: a slip of the pen.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(100).collect();
    let scored = known.iter().map(|other| (distance(&word, other), *other));
    let (distance, nearest) = scored.min()?;
    (distance <= 2.max(nearest.len() / 4)).then_some(nearest)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (line, left) in a.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(b.chars()) {
            let changed = diagonal + usize::from(left != right);
            diagonal = *cell;
            before = changed.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}
