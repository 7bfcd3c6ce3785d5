//! Chunked bodies (RFC 9112, section 7.1), byte by byte.
//!
//! Strict: sizes are plain hexadecimal digits, lines end with CRLF, nothing stands between a size and its line's end
//! but an extension that begins with a semicolon. Extensions and trailers are checked and left out of what is decoded.

use super::grammar::{hex_digit, is_token_byte};
use crate::error::{Reason, Refusal};

/// Digits of a chunk size: 2^60 bytes. More, leading zeros too, could overflow somebody's number.
const SIZE_DIGITS: u8 = 15;
/// Bytes of all extensions of a body together. No real client sends any; without a limit they are a way to send bytes
/// for ever.
const EXTENSIONS_LIMIT: u16 = 1 << 10;
/// Bytes of the trailer section.
const TRAILERS_LIMIT: u16 = 8 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Size,
    /// Behind a digit.
    Digits,
    Extension,
    /// The LF of a size line is next.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A line of the trailer section, or its end, is next.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Reads one chunked body in pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    digits: u8,
    extensions: u16,
    trailers: u16,
    /// Of the current chunk.
    remaining: u64,
}

impl ChunkedDecoder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the data in `input` to `sink`. How many bytes of `input` belong to the body, and whether it is all there:
    /// then the rest of `input` is the next message. The limit on the data is the caller's to keep; `sink` grows by
    /// less than `input` is long.
    ///
    /// # Errors
    /// `BadChunk`, 400; after that the decoder is of no use.
    pub fn decode(&mut self, input: &[u8], sink: &mut Vec<u8>) -> Result<(usize, bool), Refusal> {
        self.advance(input, |data| sink.extend_from_slice(data))
    }

    /// As [`ChunkedDecoder::decode`] for a body that is passed through as it is: only finds its end.
    ///
    /// # Errors
    /// `HostBroken`, 502.
    pub fn skim(&mut self, input: &[u8]) -> Result<(usize, bool), Refusal> {
        self.advance(input, |_| {}).map_err(|_| Refusal(Reason::HostBroken))
    }

    /// Bytes of data that the current chunk has announced and not yet delivered.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn advance(&mut self, input: &[u8], mut data: impl FnMut(&[u8])) -> Result<(usize, bool), Refusal> {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            match self.state {
                State::Done => break,
                State::Data => {
                    let rest = &input[at..];
                    let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
                    data(&rest[..length]);
                    self.remaining -= length as u64;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    at += length;
                }
                _ => {
                    self.state = self.step(*byte).ok_or(Refusal(Reason::BadChunk))?;
                    at += 1;
                }
            }
        }
        Ok((at, self.is_done()))
    }

    /// One byte outside of the data.
    fn step(&mut self, byte: u8) -> Option<State> {
        Some(match (self.state, byte) {
            // chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF ; chunk-size = 1*HEXDIG
            (State::Size | State::Digits, _) if hex_digit(byte).is_some() => {
                if self.digits == SIZE_DIGITS {
                    return None;
                }
                self.digits += 1;
                self.remaining = self.remaining << 4 | u64::from(hex_digit(byte)?);
                State::Digits
            }
            (State::Digits, b';') => State::Extension,
            (State::Digits | State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~') => {
                self.extensions += 1;
                if self.extensions > EXTENSIONS_LIMIT {
                    return None;
                }
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                if self.remaining == 0 { State::Trailer } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            // trailer-section = *( field-line CRLF ), which ends like a header section.
            (State::Trailer, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Done,
            (State::Trailer | State::TrailerName, _) if is_token_byte(byte) => self.trailer(State::TrailerName)?,
            (State::TrailerName, b':') | (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailer(State::TrailerValue)?
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Trailer,
            _ => return None,
        })
    }

    fn trailer(&mut self, next: State) -> Option<State> {
        self.trailers += 1;
        (self.trailers <= TRAILERS_LIMIT).then_some(next)
    }
}
