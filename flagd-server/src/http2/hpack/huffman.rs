//! The code that headers may be written in (RFC 7541, 5.2 and appendix B).
//!
//! It is canonical: codes of one length follow each other in the order of their symbols. So the lengths alone are the
//! code, and a code is found by comparing it with the first one of each length.

/// So long is the longest code, in bits.
const BITS_MAX: usize = 30;
/// Every byte, and the symbol that stands for the end.
const SYMBOLS: usize = 257;
const END: u16 = 256;

/// How long the code of each symbol is, in bits.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    length: u32,
    /// The first of them.
    first: u32,
    /// Behind the last of them, as if it were as long as the longest.
    end: u32,
    /// Where their symbols begin in `Table::symbols`.
    symbols: u16,
}

struct Table {
    rows: [Row; BITS_MAX + 1],
    symbols: [u16; SYMBOLS],
}

static TABLE: Table = table();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the compiler computes it, and fails when it leaves its bounds"
)]
const fn table() -> Table {
    let mut rows = [Row { length: 0, first: 0, end: 0, symbols: 0 }; BITS_MAX + 1];
    let mut symbols = [0; SYMBOLS];
    let (mut length, mut code, mut placed) = (1, 0, 0);
    while length <= BITS_MAX {
        let (first, begin) = (code, placed);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                symbols[placed] = symbol as u16;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        let end = code << (BITS_MAX - length);
        rows[length] = Row { length: length as u32, first, end, symbols: begin as u16 };
        code <<= 1;
        length += 1;
    }
    Table { rows, symbols }
}

/// Appends what was encoded; `None` when it is no code.
pub(super) fn decode(encoded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut available, mut bytes) = (0_u64, 0_u32, encoded.iter());
    loop {
        while available < 32
            && let Some(byte) = bytes.next()
        {
            bits = (bits << 8) | u64::from(*byte);
            available += 8;
        }
        // What is missing is filled with ones: such a code is longer than what is here, or the end.
        let window = window(bits, available);
        let row = TABLE.rows.iter().find(|row| window < row.end)?;
        if row.length > available {
            // At most seven bits, all of them ones.
            return (available < 8 && window == (1 << BITS_MAX) - 1).then_some(());
        }
        let code = window >> (u32::try_from(BITS_MAX).ok()? - row.length);
        let symbol = *TABLE.symbols.get((code - row.first) as usize + usize::from(row.symbols))?;
        if symbol == END {
            return None;
        }
        out.push(u8::try_from(symbol).ok()?);
        available -= row.length;
    }
}

/// The next bits, as many as the longest code has.
fn window(bits: u64, available: u32) -> u32 {
    const WANTED: u32 = 30;
    let window = if available >= WANTED {
        bits >> (available - WANTED)
    } else {
        let missing = WANTED - available;
        (bits << missing) | ((1 << missing) - 1)
    };
    u32::try_from(window & ((1 << WANTED) - 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The other way, for the tests: bit by bit.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let at = TABLE.symbols.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            let length = u32::from(LENGTHS[usize::from(*byte)]);
            let row = TABLE.rows[length as usize];
            let code = row.first + u32::try_from(at).unwrap() - u32::from(row.symbols);
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit))).collect()
    }

    fn decoded(encoded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(encoded, &mut out).map(|()| out)
    }

    #[test]
    fn the_code_is_full_and_the_examples_of_the_standard_are_read() {
        assert_eq!(TABLE.rows[BITS_MAX].end, 1 << BITS_MAX, "every sequence of bits is a code");
        for (encoded, text) in [
            // RFC 7541, C.4 and C.6.
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            let encoded: Vec<u8> = (0..encoded.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&encoded[at..at + 2], 16).unwrap())
                .collect();
            assert_eq!(decoded(&encoded).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for (encoded, why) in [
            (&[0xff][..], "a byte of padding"),
            (&[0x07, 0xff], "'0', and eleven bits of padding"),
            (&[0x00], "'0', and padding that is not ones"),
            (&[0xff, 0xff, 0xff, 0xff], "the end"),
        ] {
            assert_eq!(decoded(encoded), None, "{why}");
        }
        assert_eq!(decoded(&[]), Some(vec![]));
        assert_eq!(decoded(&[0x07]), Some(b"0".to_vec()));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(text) = decoded(&bytes) {
                prop_assert_eq!(encode(&text), bytes);
            }
        }
    }
}
