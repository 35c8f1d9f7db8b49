//! The little of DER that keys need.
//!
//! In: bytes. Out: their parts, or bytes made of parts. Invariant: only the shortest form of a
//! length or a number is read (X.690, section 10), so every key has one encoding.

use super::Error;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

const BROKEN: Error = Error::Data("The key is not what the format has");

/// Reads values one after the other.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the next value, which has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        let [found, length, rest @ ..] = self.0 else {
            return Err(BROKEN);
        };
        if *found != tag {
            return Err(BROKEN);
        }
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            long @ (0x81 | 0x82) => {
                let (bytes, rest) = rest.split_at_checked(usize::from(long & 3)).ok_or(BROKEN)?;
                let length = bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
                if length < 0x80 || (long == 0x82 && length < 0x100) {
                    return Err(BROKEN);
                }
                (length, rest)
            }
            _ => return Err(BROKEN),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(BROKEN)?;
        self.0 = rest;
        Ok(content)
    }

    /// The next value if it has this tag.
    pub(super) fn take_optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Error> {
        if self.0.first() == Some(&tag) { self.take(tag).map(Some) } else { Ok(None) }
    }

    /// Reads what is inside of the next value.
    pub(super) fn enter(&mut self, tag: u8) -> Result<Self, Error> {
        self.take(tag).map(Self)
    }

    /// A number that is not negative, without leading zeros.
    pub(super) fn number(&mut self) -> Result<&'a [u8], Error> {
        match self.take(INTEGER)? {
            [0] => Ok(&[]),
            [0, rest @ ..] if rest[0] >= 0x80 => Ok(rest),
            bytes if bytes.first().is_some_and(|first| (1..0x80).contains(first)) => Ok(bytes),
            _ => Err(BROKEN),
        }
    }

    /// A string of whole bytes.
    pub(super) fn bits(&mut self) -> Result<&'a [u8], Error> {
        match self.take(BIT_STRING)? {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(BROKEN),
        }
    }

    /// Nothing follows.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(BROKEN) }
    }
}

/// One value. Longer than 65,535 bytes is no key that is imported here.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes() {
        [0, short @ 0..=0x7f] => out.push(short),
        [0, long] => out.extend([0x81, long]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend(content);
    out
}

/// A number from its bytes, big-endian.
pub(super) fn number(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    let sign: &[u8] = if bytes.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
    value(INTEGER, &[sign, bytes])
}

/// What a key is a key of: an object identifier and its parameters (any one value, or none).
pub(super) struct Algorithm<'a> {
    pub(super) object: &'a [u8],
    pub(super) parameters: Option<&'a [u8]>,
}

/// `SubjectPublicKeyInfo` (RFC 5280): the algorithm and the key's bytes. Parameters are read as a
/// value of tag `parameters`.
pub(super) fn read_spki(bytes: &[u8], parameters: u8) -> Result<(Algorithm<'_>, &[u8]), Error> {
    let mut outer = Reader::new(bytes);
    let mut info = outer.enter(SEQUENCE)?;
    outer.end()?;
    let algorithm = read_algorithm(&mut info, parameters)?;
    let key = info.bits()?;
    info.end()?;
    Ok((algorithm, key))
}

/// `PrivateKeyInfo` (RFC 5208, and what of RFC 5958 follows the key): likewise.
pub(super) fn read_pkcs8(bytes: &[u8], parameters: u8) -> Result<(Algorithm<'_>, &[u8]), Error> {
    let mut outer = Reader::new(bytes);
    let mut info = outer.enter(SEQUENCE)?;
    outer.end()?;
    if !matches!(info.number()?, [] | [1]) {
        return Err(BROKEN);
    }
    let algorithm = read_algorithm(&mut info, parameters)?;
    let key = info.take(OCTET_STRING)?;
    // Attributes and a public key may follow; nothing here reads them.
    info.take_optional(0xa0)?;
    info.take_optional(0x81)?;
    info.end()?;
    Ok((algorithm, key))
}

fn read_algorithm<'a>(info: &mut Reader<'a>, parameters: u8) -> Result<Algorithm<'a>, Error> {
    let mut algorithm = info.enter(SEQUENCE)?;
    let object = algorithm.take(OBJECT)?;
    let parameters = algorithm.take_optional(parameters)?;
    algorithm.end()?;
    Ok(Algorithm { object, parameters })
}

/// Writes `SubjectPublicKeyInfo`; `parameters` is a whole value or empty.
pub(super) fn spki(object: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = value(SEQUENCE, &[&value(OBJECT, &[object]), parameters]);
    value(SEQUENCE, &[&algorithm, &value(BIT_STRING, &[&[0], key])])
}

/// Writes `PrivateKeyInfo`, version 1.
pub(super) fn pkcs8(object: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = value(SEQUENCE, &[&value(OBJECT, &[object]), parameters]);
    value(SEQUENCE, &[&number(&[0]), &algorithm, &value(OCTET_STRING, &[key])])
}
