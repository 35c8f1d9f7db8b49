//! The quotes of a CSV file, beside its reader: that one takes the end of the file for the end of a
//! quoted field.
//!
//! In: bytes without a byte order mark. Out: the same, and the line of a quote that is open at
//! their end. Invariant: fields begin and end where the `csv` crate lets them.

use std::io::{self, Read};

/// Bytes on their way to a reader.
pub(super) struct Quotes<R> {
    file: R,
    at: Within,
    line: u64,
    /// Where the last quote was opened.
    opened: u64,
    is_over: bool,
}

/// Where in a field the last byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Before its first byte.
    Start,
    /// In one without quotes, or after them.
    Plain,
    Quoted,
    /// After a quote in a quoted one: its end, unless another quote follows.
    Quote,
}

impl<R> Quotes<R> {
    pub(super) fn new(file: R) -> Self {
        Self { file, at: Within::Start, line: 1, opened: 1, is_over: false }
    }

    /// The line of the quote that the end of the file has left open.
    pub(super) fn open(&self) -> Option<u64> {
        (self.is_over && self.at == Within::Quoted).then_some(self.opened)
    }

    fn take(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\n');
        self.at = match (self.at, byte) {
            (Within::Start, b'"') => {
                self.opened = self.line;
                Within::Quoted
            }
            (Within::Quoted, b'"') => Within::Quote,
            (Within::Quoted, _) | (Within::Quote, b'"') => Within::Quoted,
            (_, b',' | b'\n' | b'\r') => Within::Start,
            _ => Within::Plain,
        };
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        buffer[..count].iter().for_each(|byte| self.take(*byte));
        self.is_over |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}
