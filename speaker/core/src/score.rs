//! The number that a node gets for an announcement: weighted rendezvous hashing (Thaler and
//! Ravishankar; weights as in Schindelhauer and Schomaker). It must be the same on every machine
//! and in every version, or two nodes would disagree: hence a hash written out here, and a
//! logarithm in software. The tests hold its values.

/// A fixed 64-bit hash of a name: FNV-1a, then the finalizer of SplitMix64.
#[must_use]
pub fn hash(name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The finalizer of SplitMix64.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `-w / ln(u)` with u in (0, 1) from the two hashes: the highest wins, and a node wins in
/// proportion to its weight.
#[must_use]
pub fn score(key: u64, node: u64, weight: u8) -> f64 {
    let bits = mix(key ^ node.rotate_left(23)) >> 12;
    // 52 bits and a half: exact in a double, and neither 0 nor 1.
    #[expect(clippy::cast_precision_loss, reason = "52 bits fit a double")]
    let u = (bits as f64 + 0.5) / 4_503_599_627_370_496.0;
    -f64::from(weight.max(1)) / libm::log(u)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_scores_never_change() {
        let hashes = [
            ("", 0xf52a_15e9_a9b5_e89b),
            ("node-1", 0x1395_0d4e_f307_e655),
            ("node-2", 0xc8c9_d86c_1e83_187b),
            ("203.0.113.5", 0x5fa7_68dd_c24c_1717),
            ("fd00-0-0-0-0-0-0-5", 0xd07b_e360_10f1_21d5),
        ];
        for (name, expected) in hashes {
            assert_eq!(hash(name), expected, "{name} {:#x}", hash(name));
        }
        let scores = [
            ("203.0.113.5", "node-1", 1, 0x3ff5_23df_f3d6_ced8),
            ("203.0.113.5", "node-2", 1, 0x3fed_3b30_2c68_902f),
            ("203.0.113.5", "node-2", 100, 0x4056_d63d_a2b1_b0a5),
            ("fd00-0-0-0-0-0-0-5", "node-1", 7, 0x400a_33c0_2300_ab43),
        ];
        for (key, node, weight, expected) in scores {
            let bits = score(hash(key), hash(node), weight).to_bits();
            assert_eq!(bits, expected, "{key} {node} {weight} {bits:#x}");
        }
    }

    #[test]
    fn scores_are_finite_and_positive_at_the_ends() {
        for key in [0, 1, u64::MAX, 1 << 63] {
            for node in [0, 1, u64::MAX, 1 << 40] {
                let score = score(key, node, 100);
                assert!(score.is_finite() && score > 0.0, "{score}");
            }
        }
    }
}
