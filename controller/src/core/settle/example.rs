//! Numbers that a message names as free, only for example.

/// The words of a message but for a number that it names as free. Which one that is changes with
/// everything that others get, and is no news: whoever asks for a stale one is told another.
pub(super) fn but_example(message: &str) -> Vec<&str> {
    let words: Vec<&str> = message.split(' ').collect();
    let word = |place: Option<usize>| place.and_then(|place| words.get(place)).copied();
    let is_example = |place: usize| {
        let before = word(place.checked_sub(2)) == Some("for")
            && word(place.checked_sub(1)) == Some("example");
        let after = word(Some(place + 1)) == Some("is")
            && word(Some(place + 2)).is_some_and(|word| word.starts_with("free"));
        before || after
    };
    let kept = words.iter().enumerate();
    let kept = kept.filter(|(place, _)| !is_example(*place));
    kept.map(|(_, word)| *word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_free_number_is_no_other_sentence() {
        let pairs = [
            (
                "30003 cannot be given: Service a has it; ask for another number; 30002 is free",
                "30003 cannot be given: Service a has it; ask for another number; 30005 is free",
                true,
            ),
            (
                "ask for a number of it, for example 30001, which is free, or remove it",
                "ask for a number of it, for example 30002, which is free, or remove it",
                true,
            ),
            ("30003 cannot be given", "30004 cannot be given", false),
            (
                "30003 cannot be given; 30002 is free",
                "30003 cannot be given",
                false,
            ),
        ];
        for (one, other, same) in pairs {
            assert_eq!(but_example(one) == but_example(other), same, "{one}");
        }
    }
}
