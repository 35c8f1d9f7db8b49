//! Document ids: encode, decode, check (`convex-compat.md` section 2.6).
//!
//! In: a table number and 16 bytes, or text from a client. Out: the other. Invariant: a text
//! decodes only if encoding gives it back, so equal documents have one id.

use serde::{Deserialize, Serialize};

/// Number of a table within its component; user tables start at 10001.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableNumber(pub u32);

/// A document's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocumentId {
    /// The table.
    pub table: TableNumber,
    /// 14 random bytes and the day, big-endian.
    pub internal: [u8; 16],
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl DocumentId {
    /// The text form: base32 of number, internal id and checksum; 31 to 37 characters.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(23);
        let mut number = self.table.0;
        loop {
            let low = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                bytes.push(low);
                break;
            }
            bytes.push(low | 0x80);
        }
        bytes.extend_from_slice(&self.internal);
        let footer = fletcher16(&bytes);
        bytes.extend_from_slice(&footer.to_le_bytes());
        base32(&bytes)
    }

    /// Parses the text form; `None` for anything but the canonical text of an id.
    pub fn decode(text: &str) -> Option<Self> {
        if !(31..=37).contains(&text.len()) {
            return None;
        }
        let bytes = unbase32(text)?;
        let (body, footer) = bytes.split_last_chunk::<2>()?;
        if fletcher16(body) != u16::from_le_bytes(*footer) {
            return None;
        }
        let (number, internal) = body.split_last_chunk::<16>()?;
        let table = TableNumber(unvint(number)?);
        let id = Self { table, internal: *internal };
        (id.encode() == text).then_some(id)
    }
}

/// LEB128 of a positive u32, all bytes used.
fn unvint(bytes: &[u8]) -> Option<u32> {
    let (last, rest) = bytes.split_last()?;
    if last & 0x80 != 0 || rest.iter().any(|byte| byte & 0x80 == 0) || bytes.len() > 5 {
        return None;
    }
    let number = bytes.iter().rev().fold(0_u64, |n, byte| (n << 7) | u64::from(byte & 0x7f));
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn fletcher16(bytes: &[u8]) -> u16 {
    let (mut c0, mut c1) = (0_u8, 0_u8);
    for byte in bytes {
        c0 = c0.wrapping_add(*byte);
        c1 = c1.wrapping_add(c0);
    }
    u16::from_be_bytes([c1, c0])
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits)) as usize & 31]));
    }
    text
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut buffer, mut bits) = (0_u32, 0);
    for digit in text.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == digit)?;
        buffer = (buffer << 5) | u32::try_from(value).expect("below 32");
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(table: u32) -> DocumentId {
        let internal = std::array::from_fn(|at| u8::try_from(at).unwrap());
        DocumentId { table: TableNumber(table), internal }
    }

    #[test]
    fn vectors_of_the_reference() {
        let vectors = [
            (1, "040020g30g2gc1r81450p30d1r7qke8"),
            (540, "kg2000820c20a1g7104gm2rc1m70y674"),
            (10001, "j57000820c20a1g7104gm2rc1m70ynr8"),
            (4_294_967_295, "zzzzzzrf000g40r40m30e209185gr38e1y1nj"),
        ];
        for (table, text) in vectors {
            assert_eq!(id(table).encode(), text);
            assert_eq!(DocumentId::decode(text), Some(id(table)));
        }
        let zero = DocumentId { table: TableNumber(10001), internal: [0; 16] };
        assert_eq!(zero.encode(), "j5700000000000000000000000001qv0");
    }

    #[test]
    fn only_the_canonical_text_decodes() {
        let good = "j57000820c20a1g7104gm2rc1m70ynr8";
        assert!(DocumentId::decode(good).is_some());
        for bad in ["", "x", "j57000820c20a1g7104gm2rc1m70ynr9", "J57000820C20A1G7104GM2RC1M70YNR8"]
        {
            assert_eq!(DocumentId::decode(bad), None, "{bad}");
        }
        assert_eq!(DocumentId::decode(&format!("{good}0")), None);
    }

    proptest! {
        #[test]
        fn round_trip(table in 1..=u32::MAX, internal: [u8; 16]) {
            let id = DocumentId { table: TableNumber(table), internal };
            prop_assert_eq!(DocumentId::decode(&id.encode()), Some(id));
        }

        #[test]
        fn one_changed_digit_is_refused(
            internal: [u8; 16],
            at in 0..32_usize,
            digit in 0..32_usize,
        ) {
            let id = DocumentId { table: TableNumber(10001), internal };
            let mut text = id.encode().into_bytes();
            prop_assume!(text[at] != ALPHABET[digit]);
            text[at] = ALPHABET[digit];
            let text = String::from_utf8(text).unwrap();
            prop_assert_ne!(DocumentId::decode(&text), Some(id));
        }
    }
}
