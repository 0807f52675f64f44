//! What kube-apiserver means by refusing a nodePort: it has no field that says so, only words
//! (`pkg/registry/core/service/portallocator`). Unchanged since 1.2; what is not understood is only
//! told on.

/// What is in the words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Some Service has this port, or the API server believes so.
    Taken(u16),
    /// The port is outside the range that the API server gives from.
    OutOfRange {
        /// `--service-node-port-range`, its first port.
        first: u16,
        /// And its last one.
        last: u16,
    },
}

const VALUE: &str = "nodePort: Invalid value: ";
const TAKEN: &str = ": provided port is already allocated";
const RANGE: &str = "The range of valid ports is ";

/// Everything that is understood of the message.
pub fn read(message: &str) -> Vec<Refusal> {
    let taken = message.split(VALUE).skip(1).filter_map(|rest| {
        let (number, rest) = digits(rest)?;
        rest.starts_with(TAKEN).then_some(Refusal::Taken(number))
    });
    let range = message.split(RANGE).skip(1).filter_map(|rest| {
        let (first, rest) = digits(rest)?;
        let last = rest.strip_prefix('-').and_then(digits);
        let last = last.map_or(first, |(last, _)| last);
        (first <= last).then_some(Refusal::OutOfRange { first, last })
    });
    taken.chain(range).collect()
}

/// The number at the beginning, and the rest.
fn digits(text: &str) -> Option<(u16, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_kube_apiserver_are_understood() {
        let taken = "Service \"web\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
        assert_eq!(read(taken), [Refusal::Taken(30080)]);
        let two = "Service \"web\" is invalid: [spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated, spec.ports[1].nodePort: Invalid value: 30081: provided port is already allocated]";
        assert_eq!(read(two), [Refusal::Taken(30080), Refusal::Taken(30081)]);
        let range = "Service \"web\" is invalid: spec.ports[0].nodePort: Invalid value: 20000: provided port is not in the valid range. The range of valid ports is 30000-32767";
        let expected = Refusal::OutOfRange {
            first: 30000,
            last: 32767,
        };
        assert_eq!(read(range), [expected]);
    }

    #[test]
    fn other_words_mean_nothing() {
        for text in [
            "",
            "services \"web\" is forbidden",
            "spec.ports[0].nodePort: Invalid value: x: provided port is already allocated",
            "spec.ports[0].nodePort: Invalid value: 99999: provided port is already allocated",
            "spec.healthCheckNodePort: Forbidden: field is immutable",
            "The range of valid ports is 5-1",
        ] {
            assert_eq!(read(text), [], "{text}");
        }
    }
}
