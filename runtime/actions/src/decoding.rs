//! Content codings of responses: gzip, deflate, Brotli.
//!
//! In: the pieces of a body. Out: what they say, piece by piece. Invariant: a body is never held
//! whole; what one call gives out is bounded by what it was given.

use std::io::{self, Write as _};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Bytes that a coding is given at once: they may grow a thousandfold.
pub(crate) const PIECE_BYTES: usize = 4 << 10;
/// What Brotli's decoder keeps for its output.
const BUFFER_BYTES: usize = 16 << 10;

#[derive(Clone, Copy)]
enum Name {
    Gzip,
    Deflate,
    Brotli,
}

/// The codings of one body, the last applied first.
#[derive(Default)]
pub(crate) struct Decoding(Vec<Coding>, Begun);

/// Whether there were bytes at all: no bytes are a whole body in every coding.
type Begun = bool;

enum Coding {
    /// Nothing came yet: an empty body is empty in every coding.
    Unbegun(Name),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
    Brotli(Box<brotli::DecompressorWriter<Vec<u8>>>),
}

impl Decoding {
    /// What `Content-Encoding` says; a coding that is not known is left as it is, as browsers do.
    pub(crate) fn of(header: &str) -> Self {
        let names = header.split(',').map(|name| name.trim().to_ascii_lowercase());
        let codings = names.filter(|name| !name.is_empty() && name != "identity").map(|name| {
            Some(Coding::Unbegun(match name.as_str() {
                "gzip" | "x-gzip" => Name::Gzip,
                "deflate" => Name::Deflate,
                "br" => Name::Brotli,
                _ => return None,
            }))
        });
        let mut codings = codings.collect::<Option<Vec<_>>>().unwrap_or_default();
        codings.reverse();
        Self(codings, false)
    }

    /// Whether bytes mean something else than themselves.
    pub(crate) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// What `bytes` say, up to now.
    ///
    /// # Errors
    /// Bytes that are not of the coding.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.1 |= !bytes.is_empty();
        let mut data = bytes.to_vec();
        for coding in &mut self.0 {
            data = coding.write(&data)?;
        }
        Ok(data)
    }

    /// What was still held back.
    ///
    /// # Errors
    /// A body that ends in the middle.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        if !self.1 {
            return Ok(data);
        }
        for coding in &mut self.0 {
            let mut last = coding.write(&data)?;
            last.extend(coding.finish()?);
            data = last;
        }
        Ok(data)
    }
}

impl Coding {
    fn begin(name: Name, first: u8) -> Self {
        let out = Vec::new();
        match name {
            Name::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(out))),
            // `deflate` means zlib, whose method is 8; some servers mean deflate itself.
            Name::Deflate if first & 0x0f == 8 => Self::Zlib(Box::new(ZlibDecoder::new(out))),
            Name::Deflate => Self::Deflate(Box::new(DeflateDecoder::new(out))),
            Name::Brotli => {
                Self::Brotli(Box::new(brotli::DecompressorWriter::new(out, BUFFER_BYTES)))
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let Some(first) = bytes.first() else { return Ok(Vec::new()) };
        if let Self::Unbegun(name) = *self {
            *self = Self::begin(name, *first);
        }
        let (written, out) = match self {
            Self::Gzip(decoder) => (decoder.write_all(bytes), decoder.get_mut()),
            Self::Zlib(decoder) => (decoder.write_all(bytes), decoder.get_mut()),
            Self::Deflate(decoder) => (decoder.write_all(bytes), decoder.get_mut()),
            Self::Brotli(decoder) => (decoder.write_all(bytes), decoder.get_mut()),
            Self::Unbegun(_) => return Ok(Vec::new()),
        };
        written?;
        Ok(std::mem::take(out))
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Zlib(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Brotli(decoder) => {
                decoder.close()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Unbegun(_) => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn text() -> Vec<u8> {
        (0..40_000_u32).flat_map(|at| (at * at).to_le_bytes()).collect()
    }

    fn coded(name: &str, data: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        let mut out = Vec::new();
        match name {
            "gzip" => GzEncoder::new(&mut out, level).write_all(data).unwrap(),
            "zlib" => ZlibEncoder::new(&mut out, level).write_all(data).unwrap(),
            "raw" => DeflateEncoder::new(&mut out, level).write_all(data).unwrap(),
            _ => brotli::CompressorWriter::new(&mut out, 4096, 5, 20).write_all(data).unwrap(),
        }
        out
    }

    fn decode(header: &str, bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut decoding = Decoding::of(header);
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            out.extend(decoding.decode(piece)?);
        }
        out.extend(decoding.finish()?);
        Ok(out)
    }

    #[test]
    fn bodies_come_back_whatever_their_pieces() {
        let data = text();
        for (header, name) in
            [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "raw"), ("BR", "br")]
        {
            let bytes = coded(name, &data);
            for piece in [1, 1000, bytes.len()] {
                assert!(decode(header, &bytes, piece).unwrap() == data, "{name} by {piece}");
            }
            assert!(decode(header, &bytes[..bytes.len() / 2], 1000).is_err(), "{name} cut");
        }
        let twice = coded("br", &coded("gzip", &data));
        assert!(decode("gzip, br", &twice, 100).unwrap() == data);
    }

    #[test]
    fn what_is_not_known_stays_as_it_is() {
        assert!(Decoding::of("zstd").is_identity() && Decoding::of("identity, ").is_identity());
        assert!(decode("gzip", b"no gzip at all", 100).is_err());
        assert!(decode("gzip", b"", 1).unwrap().is_empty());
    }
}
