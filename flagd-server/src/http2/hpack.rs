//! Compressed headers (RFC 7541).
//!
//! Reading them needs a table of what the other end wants us to remember. It has the size that everybody may rely on: a
//! smaller one would save some hundred bytes of a connection, and break clients that do not look at settings. Writing uses
//! what both know from the beginning, and nothing that would have to be remembered.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{Fault, Reason};
use crate::limits;

mod huffman;
mod table;

use table::STATIC;

/// The size of the table when nothing else was said (RFC 9113, 6.5.2).
const TABLE_BYTES: usize = 4096;
/// A block unpacks to no more than this, in bytes.
const READ_MAX_BYTES: usize = 16 * limits::HEADER_LIST_MAX_BYTES as usize;
/// What a field costs beside its text (RFC 7541, 4.1).
pub(super) const FIELD_BYTES: usize = 32;
/// Bits of a first byte that are no number say what it is.
const INDEXED: u8 = 0x80;
const REMEMBERED: u8 = 0x40;
const RESIZE: u8 = 0x20;
const HUFFMAN: u8 = 0x80;

const fn fault(what: &'static str) -> Fault {
    Fault::new(Reason::CompressionError, what)
}

/// A name and a value, in the block or decoded.
type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// A field that the other end has told us to remember.
#[derive(Debug)]
struct Remembered {
    name_bytes: usize,
    text: Box<[u8]>,
}

impl Remembered {
    fn of(name: &[u8], value: &[u8]) -> Remembered {
        Remembered { name_bytes: name.len(), text: [name, value].concat().into() }
    }

    fn field(&self) -> (&[u8], &[u8]) {
        self.text.split_at_checked(self.name_bytes).unwrap_or_default()
    }

    fn cost(&self) -> usize {
        self.text.len() + FIELD_BYTES
    }
}

/// Reads headers.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    remembered: VecDeque<Remembered>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { remembered: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES }
    }
}

impl Decoder {
    /// Reads all fields of a block, in order.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Fault> {
        let (mut is_first, mut bytes) = (true, 0);
        let mut take = |name: &[u8], value: &[u8]| {
            bytes += name.len() + value.len();
            take(name, value);
            // Headers that are too many are read to their end, or those after them could not be; but not any number.
            if bytes > READ_MAX_BYTES {
                return Err(Fault::new(Reason::EnhanceYourCalm, "headers unpack to far more than is taken"));
            }
            Ok(())
        };
        while let Some(&first) = block.first() {
            if first & INDEXED != 0 {
                let (name, value) = self.field(integer(&mut block, 7)?)?;
                take(name, value)?;
            } else if first & REMEMBERED != 0 {
                let (name, value) = self.literal(&mut block, 6)?;
                take(&name, &value)?;
                let field = Remembered::of(&name, &value);
                self.remember(field);
            } else if first & RESIZE != 0 {
                let bytes = integer(&mut block, 5)?;
                if !is_first || bytes > TABLE_BYTES {
                    return Err(fault(
                        "the table of headers is resized to more than was allowed, or too late",
                    ));
                }
                self.resize(bytes);
                continue;
            } else {
                let (name, value) = self.literal(&mut block, 4)?;
                take(&name, &value)?;
            }
            is_first = false;
        }
        Ok(())
    }

    fn literal<'a>(&self, block: &mut &'a [u8], bits: u32) -> Result<Field<'a>, Fault> {
        let name = match integer(block, bits)? {
            0 => string(block)?,
            index => Cow::Owned(self.field(index)?.0.to_vec()),
        };
        Ok((name, string(block)?))
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Fault> {
        const UNKNOWN: Fault = fault("a header is named by a number that stands for none");
        let index = index.checked_sub(1).ok_or(UNKNOWN)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        self.remembered.get(index - STATIC.len()).map(Remembered::field).ok_or(UNKNOWN)
    }

    fn remember(&mut self, field: Remembered) {
        let cost = field.cost();
        // One that is larger than the table empties it.
        self.make_room(self.bytes_max.saturating_sub(cost));
        if cost <= self.bytes_max {
            self.bytes += cost;
            self.remembered.push_front(field);
        }
    }

    fn resize(&mut self, bytes: usize) {
        self.bytes_max = bytes;
        self.make_room(bytes);
    }

    /// Forgets the oldest until so many bytes are left at the most.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some(oldest) = self.remembered.pop_back()
        {
            self.bytes -= oldest.cost();
        }
    }
}

/// A number that begins in the last bits of a byte (RFC 7541, 5.1).
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Fault> {
    const ENDS: Fault = fault("headers end in the middle of a number");
    let (first, mut rest) = block.split_first().ok_or(ENDS)?;
    let most = (1_usize << bits) - 1;
    let mut number = usize::from(*first) & most;
    if number == most {
        // Four bytes more are 28 bits, which nothing here comes near to.
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first().ok_or(ENDS)?;
            rest = behind;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(fault("a number in the headers is too large"));
            }
        }
    }
    *block = rest;
    Ok(number)
}

/// Text, as it is or encoded (RFC 7541, 5.2).
fn string<'a>(block: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, Fault> {
    const ENDS: Fault = fault("headers end in the middle of a text");
    let is_encoded = block.first().ok_or(ENDS)? & HUFFMAN != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(ENDS)?;
    *block = rest;
    if !is_encoded {
        return Ok(Cow::Borrowed(text));
    }
    // The shortest code has five bits.
    let mut decoded = Vec::with_capacity(length * 8 / 5);
    huffman::decode(text, &mut decoded).ok_or(fault("a text in the headers is in no known code"))?;
    Ok(Cow::Owned(decoded))
}

/// Says that nothing is remembered. Said when the other end wants less of that than we could (RFC 7541, 4.2).
pub(super) fn write_forgotten(block: &mut Vec<u8>) {
    block.push(RESIZE);
}

/// Writes a field that nobody has to remember.
pub(super) fn write_field(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    let known = STATIC.iter().position(|(known, text)| *known == name && text.as_bytes() == value);
    if let Some(index) = known
        && !value.is_empty()
    {
        return write_integer(block, INDEXED, 7, index + 1);
    }
    if let Some(index) = STATIC.iter().position(|(known, _)| *known == name) {
        write_integer(block, 0, 4, index + 1);
    } else {
        block.push(0);
        write_text(block, name.as_bytes());
    }
    write_text(block, value);
}

fn write_text(block: &mut Vec<u8>, text: &[u8]) {
    write_integer(block, 0, 7, text.len());
    block.extend_from_slice(text);
}

fn write_integer(block: &mut Vec<u8>, flags: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    let low = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    if number < most {
        return block.push(flags | low(number));
    }
    block.push(flags | low(most));
    let mut rest = number - most;
    while rest > 0x7f {
        block.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    block.push(low(rest));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Fault> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoder.decode(block, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    /// The examples of RFC 7541, C.3 to C.6: requests plain and encoded, and answers that push each other out of a table of
    /// 256 bytes.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let requests = [
            (":method GET,:scheme http,:path /,:authority www.example.com", 57),
            (":method GET,:scheme http,:path /,:authority www.example.com,cache-control no-cache", 110),
            (
                ":method GET,:scheme https,:path /index.html,:authority www.example.com,custom-key custom-value",
                164,
            ),
        ];
        let answers = [
            (
                ":status 302,cache-control private,date Mon; 21 Oct 2013 20:13:21 GMT,location https://www.example.com",
                222,
            ),
            (
                ":status 307,cache-control private,date Mon; 21 Oct 2013 20:13:21 GMT,location https://www.example.com",
                222,
            ),
        ];
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let encoded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let answered = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
             1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
        ];
        for (blocks, wanted, table) in
            [(&plain[..], &requests[..], 4096), (&encoded, &requests, 4096), (&answered, &answers, 256)]
        {
            let mut decoder = Decoder::default();
            decoder.resize(table);
            for (block, (want, cost)) in blocks.iter().zip(wanted) {
                let want: Vec<_> = want
                    .split(',')
                    .map(|field| field.split_once(' ').unwrap())
                    .map(|(name, value)| (name.to_owned(), value.replace(';', ",")))
                    .collect();
                assert_eq!(read(&mut decoder, &bytes(block)).unwrap(), want);
                assert_eq!(decoder.bytes, *cost);
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(300);
        let fields = [
            (":status", "200"),
            (":status", "418"),
            ("content-type", "application/grpc"),
            ("grpc-status", "0"),
            ("grpc-message", ""),
            ("etag", long.as_str()),
            (long.as_str(), "127 bytes and more"),
        ];
        let mut block = Vec::new();
        write_forgotten(&mut block);
        for (name, value) in fields {
            write_field(&mut block, name, value.as_bytes());
        }
        assert_eq!(&block[..2], &[0x20, 0x88], "a known field is one byte");
        let mut decoder = Decoder::default();
        let read = read(&mut decoder, &block).unwrap();
        assert_eq!(read, fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(decoder.bytes, 0);
    }

    #[test]
    fn damaged_headers_are_refused() {
        for (block, why) in [
            ("80", "number 0"),
            ("be", "the table is empty"),
            ("ff ff ff ff ff 7f", "a number of five bytes more"),
            ("7f", "half of a number"),
            ("40", "no name"),
            ("00 03 61 62", "a name that is cut off"),
            ("00 01 61", "no value"),
            ("00 81 ff 00", "a name in no code"),
            ("3f e2 1f", "a table of 4097 bytes"),
            ("82 20", "resized behind a field"),
        ] {
            let read = read(&mut Decoder::default(), &bytes(block));
            assert_eq!(read.map_err(|fault| fault.reason), Err(Reason::CompressionError), "{why}");
        }
        assert_eq!(read(&mut Decoder::default(), &bytes("3f e1 1f 20 3f 00 82")).unwrap().len(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut decoder = Decoder::default();
        let block = [&bytes("40 01 61 7f 81 01")[..], &[b'x'; 256]].concat();
        for _ in 0..100 {
            assert_eq!(read(&mut decoder, &block).unwrap()[0].1.len(), 256);
            assert!(decoder.bytes <= TABLE_BYTES);
        }
        assert_eq!(decoder.remembered.len(), 4096 / (32 + 1 + 256));
        let larger = [&bytes("40 01 61 7f 81 1f")[..], &[b'x'; 4096]].concat();
        read(&mut decoder, &larger).unwrap();
        assert_eq!((decoder.remembered.len(), decoder.bytes), (0, 0), "it is larger than the table");
        read(&mut decoder, &block).unwrap();
        assert_eq!(decoder.remembered.len(), 1);
        read(&mut decoder, &bytes("20")).unwrap();
        assert_eq!((decoder.remembered.len(), decoder.bytes), (0, 0), "it is to be forgotten");
        read(&mut decoder, &block).unwrap();
        assert_eq!(decoder.remembered.len(), 0);
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(blocks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..200), 1..8,
        )) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let _ = read(&mut decoder, &block);
                let cost: usize = decoder.remembered.iter().map(Remembered::cost).sum();
                prop_assert!(decoder.bytes == cost && cost <= TABLE_BYTES);
            }
        }
    }
}
