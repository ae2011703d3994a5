//! Bodies from bytes: the three framings of RFC 9112 §6 and §7.

use std::io;

use bytes::{Buf, BytesMut};

use super::head::{Framing, HeadEnd, parse_trailers};
use crate::engine::body::{BodyError, Frame};
use crate::message::Headers;

/// A chunk's first line, with its extension.
const LARGEST_CHUNK_LINE: usize = 1 << 10;
/// All chunk extensions of a body together; they are dropped, and only attackers send many.
const LARGEST_EXTENSIONS: usize = 16 << 10;
/// A trailer section.
const LARGEST_TRAILERS: usize = 16 << 10;

/// Where the reading of a body is.
pub(super) enum Decoder {
    /// All of it is read.
    Done,
    /// This many bytes are still to come.
    Length(u64),
    UntilClose,
    Chunked(Chunked),
}

/// What came of looking at the input.
pub(super) enum Step {
    Frame(Frame),
    End,
    More,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => {
                Self::Chunked(Chunked { at: At::Size, extensions: 0, end: HeadEnd::default() })
            }
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    pub(super) const fn remaining(&self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next frame out of `input`.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Step, BodyError> {
        match self {
            Self::Done => Ok(Step::End),
            Self::UntilClose if input.is_empty() => Ok(Step::More),
            Self::UntilClose => Ok(Step::Frame(Frame::Data(input.split().freeze()))),
            Self::Length(left) => {
                let Some(data) = take(left, input) else { return Ok(Step::More) };
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(data)
            }
            Self::Chunked(chunked) => {
                let step = chunked.decode(input).map_err(BodyError::Malformed)?;
                if chunked.at == At::End {
                    *self = Self::Done;
                }
                Ok(step)
            }
        }
    }

    /// The stream has ended.
    pub(super) fn end_of_stream(&mut self) -> Result<(), BodyError> {
        match self {
            Self::Done => Ok(()),
            Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(BodyError::Cut(io::ErrorKind::UnexpectedEof)),
        }
    }
}

fn take(left: &mut u64, input: &mut BytesMut) -> Option<Step> {
    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    if size == 0 {
        return None;
    }
    *left -= size as u64;
    Some(Step::Frame(Frame::Data(input.split_to(size).freeze())))
}

/// The chunked coding, RFC 9112 §7.1, without its optional white space.
pub(super) struct Chunked {
    at: At,
    extensions: usize,
    end: HeadEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    End,
}

impl Chunked {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Step, &'static str> {
        loop {
            match &mut self.at {
                At::Size => match self.size(input)? {
                    Some(0) => self.at = At::Trailers,
                    Some(size) => self.at = At::Data(size),
                    None => return Ok(Step::More),
                },
                At::Data(left) => {
                    let Some(data) = take(left, input) else { return Ok(Step::More) };
                    if *left == 0 {
                        self.at = At::DataEnd;
                    }
                    return Ok(data);
                }
                At::DataEnd => {
                    if input.first().is_some_and(|b| *b != b'\r') || input.get(1).is_some_and(|b| *b != b'\n')
                    {
                        return Err("chunk data does not end in CRLF");
                    }
                    if input.len() < 2 {
                        return Ok(Step::More);
                    }
                    input.advance(2);
                    self.at = At::Size;
                }
                At::Trailers => {
                    let Some(trailers) = self.trailers(input)? else { return Ok(Step::More) };
                    self.at = At::End;
                    return Ok(if trailers.is_empty() {
                        Step::End
                    } else {
                        Step::Frame(Frame::Trailers(trailers))
                    });
                }
                At::End => return Ok(Step::End),
            }
        }
    }

    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, &'static str> {
        let window = &input[..input.len().min(LARGEST_CHUNK_LINE)];
        let Some(end) = memchr::memchr(b'\n', window) else {
            return if window.len() < LARGEST_CHUNK_LINE {
                Ok(None)
            } else {
                Err("chunk extension is too long")
            };
        };
        let line = input[..end].strip_suffix(b"\r").ok_or("chunk line ends without CR")?;
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let size = chunk_size(&line[..digits])?;
        let extension = &line[digits..];
        let plain = |b: &u8| *b == b'\t' || (b' '..0x7f).contains(b);
        if !(extension.is_empty() || extension[0] == b';') || !extension.iter().all(plain) {
            return Err("chunk size is not a plain number");
        }
        self.extensions += extension.len();
        if self.extensions > LARGEST_EXTENSIONS {
            return Err("chunk extensions are too long");
        }
        input.advance(end + 1);
        Ok(Some(size))
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Option<Headers>, &'static str> {
        if input.starts_with(b"\r\n") {
            input.advance(2);
            return Ok(Some(Headers::default()));
        }
        match self.end.find(input)? {
            Some(end) => parse_trailers(&input.split_to(end).freeze()).map(Some),
            None if input.len() > LARGEST_TRAILERS => Err("trailer section is too long"),
            None => Ok(None),
        }
    }
}

/// One to sixteen hexadecimal digits.
fn chunk_size(digits: &[u8]) -> Result<u64, &'static str> {
    let text = std::str::from_utf8(digits).ok().filter(|text| (1..=16).contains(&text.len()));
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or("chunk size is not a plain number")
}
