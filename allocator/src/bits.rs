//! 256 bits. Two words of 128, so that no position needs a checked array access.

/// A set of positions from 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bits {
    low: u128,
    high: u128,
}

impl Bits {
    pub(crate) const EMPTY: Self = Self { low: 0, high: 0 };

    const fn word(self, at: u8) -> u128 {
        if at < 128 { self.low } else { self.high }
    }

    const fn mask(at: u8) -> u128 {
        1 << (at & 127)
    }

    pub(crate) const fn contains(self, at: u8) -> bool {
        self.word(at) & Self::mask(at) != 0
    }

    pub(crate) const fn set(&mut self, at: u8) {
        if at < 128 {
            self.low |= Self::mask(at);
        } else {
            self.high |= Self::mask(at);
        }
    }

    pub(crate) const fn clear(&mut self, at: u8) {
        if at < 128 {
            self.low &= !Self::mask(at);
        } else {
            self.high &= !Self::mask(at);
        }
    }

    /// How many positions below `at` are set.
    pub(crate) const fn rank(self, at: u8) -> usize {
        let below = Self::mask(at) - 1;
        (if at < 128 {
            (self.low & below).count_ones()
        } else {
            self.low.count_ones() + (self.high & below).count_ones()
        }) as usize
    }

    /// The lowest position not set, from `at` on.
    pub(crate) const fn first_clear(self, at: u8) -> Option<u8> {
        if at < 128 {
            let ones = (self.low >> at).trailing_ones();
            if at as u32 + ones < 128 {
                return Some(at + ones as u8);
            }
            let ones = self.high.trailing_ones();
            if ones < 128 {
                Some(128 + ones as u8)
            } else {
                None
            }
        } else {
            let ones = (self.high >> (at & 127)).trailing_ones();
            if at as u32 + ones < 256 {
                Some(at + ones as u8)
            } else {
                None
            }
        }
    }

    pub(crate) const fn is_full(self) -> bool {
        self.low == u128::MAX && self.high == u128::MAX
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.low == 0 && self.high == 0
    }
}
