//! Whether two texts are equal, for texts of a few bytes.
//!
//! Comparing attributes is most of what a rule does, and most names and values are shorter than sixteen
//! bytes. The comparison of the standard library calls `memcmp`, which costs more than the comparing.

/// `a == b`.
#[inline]
pub(crate) fn same(a: &str, b: &str) -> bool {
    same_bytes(a.as_bytes(), b.as_bytes())
}

/// `a == b`.
#[inline]
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // Two pieces from both ends cover every length up to twice their size.
    match a.len() {
        4..8 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        17..=32 => a.first_chunk::<16>() == b.first_chunk() && a.last_chunk::<16>() == b.last_chunk(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        2..4 => a.first_chunk::<2>() == b.first_chunk() && a.last_chunk::<2>() == b.last_chunk(),
        0..2 => a.first() == b.first(),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_every_place_counts() {
        for length in 0..40 {
            let text = "x".repeat(length);
            assert!(same(&text, &text.clone()), "{length}");
            assert!(!same(&text, &"x".repeat(length + 1)), "{length}");
            for at in 0..length {
                let mut other = text.clone();
                other.replace_range(at..=at, "y");
                assert!(!same(&text, &other) && !same(&other, &text), "{length}, {at}");
            }
        }
    }
}
