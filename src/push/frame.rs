//! Frames: how messages are cut out of the byte stream.
//!
//! Each direction starts with the eight bytes `VZPUSH1\n`; the digit is the version
//! of the protocol. Whatever a login shell prints before them is skipped, up to
//! 64 KiB. Frames follow:
//!
//! | offset | bytes | field                                   |
//! |-------:|------:|-----------------------------------------|
//! |      0 |     4 | length of the payload, little-endian    |
//! |      4 |     1 | type, see [`Type`]                      |
//! |      5 |       | payload, at most 256 KiB + 64           |

use std::io::{self, Read, Write};

/// What each direction starts with.
pub const MAGIC: [u8; 8] = *b"VZPUSH1\n";
/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = (256 << 10) + 64;
/// How much noise of a login shell is skipped before the magic.
const MAX_NOISE: usize = 64 << 10;
/// Bytes before the payload.
pub const HEADER: usize = 5;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// Nothing: the other end is there. The receiver's has the bytes that it has
    /// verified so far (8, little-endian).
    Heartbeat = 0,
    /// A message of [`super::protocol`], as JSON.
    Message = 1,
    /// The next bytes of what the last message announced: a delta or a listing.
    Data = 2,
    /// The next piece of contents, see [`super::pieces`].
    Piece = 3,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Type,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended or failed.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The stream ended where it may not.
    #[error("the other end closed the connection before it was done")]
    Ended,
    /// The stream ended before it began: nothing was there to talk to.
    #[error("the connection closed without an answer")]
    Closed,
    /// The other end speaks another version.
    #[error("the other end speaks version `{}` of the protocol, this one version 1", .0.escape_ascii())]
    Version(u8),
    /// The other end does not speak the protocol.
    #[error("the other end does not speak the protocol: {0}")]
    Garbage(&'static str),
}

/// Writes what a direction starts with.
///
/// # Errors
/// As the writer.
pub fn write_magic(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&MAGIC)
}

/// Reads up to and with the magic; returns how many bytes that took.
///
/// # Errors
/// When it does not come, or is of another version.
pub fn read_magic(input: &mut impl Read) -> Result<u64, FrameError> {
    let mut last = [0; 8];
    for count in 1..=MAX_NOISE {
        let mut byte = [0];
        match input.read_exact(&mut byte) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
            other => other.map_err(FrameError::Broken)?,
        }
        last.rotate_left(1);
        last[7] = byte[0];
        if last == MAGIC {
            return Ok(count as u64);
        }
        if last[..6] == MAGIC[..6] && last[7] == b'\n' {
            return Err(FrameError::Version(last[6]));
        }
    }
    Err(FrameError::Garbage("64 KiB came, and no greeting in them"))
}

/// Writes one frame in one call.
///
/// # Errors
/// As the writer; `InvalidInput` for a payload that is too long.
pub fn write(out: &mut impl Write, kind: Type, payload: &[u8]) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.push(kind as u8);
    bytes.extend_from_slice(payload);
    out.write_all(&bytes)?;
    out.flush()
}

fn broken(error: io::Error) -> FrameError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Ended,
        _ => FrameError::Broken(error),
    }
}

/// Reads one frame.
///
/// # Errors
/// When the stream ends or fails, or no frame is there.
pub fn read(input: &mut impl Read) -> Result<Frame, FrameError> {
    let mut header = [0; HEADER];
    input.read_exact(&mut header).map_err(broken)?;
    let [a, b, c, d, kind] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > MAX_PAYLOAD {
        return Err(FrameError::Garbage("a frame is too long"));
    }
    let kind = match kind {
        0 => Type::Heartbeat,
        1 => Type::Message,
        2 => Type::Data,
        3 => Type::Piece,
        _ => return Err(FrameError::Garbage("a frame is of no known type")),
    };
    let mut payload = vec![0; len];
    input.read_exact(&mut payload).map_err(broken)?;
    Ok(Frame { kind, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back() {
        let mut bytes = Vec::new();
        write(&mut bytes, Type::Data, b"abc").unwrap();
        assert_eq!(bytes, b"\x03\0\0\0\x02abc");
        let frame = read(&mut bytes.as_slice()).unwrap();
        assert_eq!(frame, Frame { kind: Type::Data, payload: b"abc".to_vec() });
    }

    #[test]
    fn what_a_login_shell_prints_is_skipped() {
        let stream = b"Welcome!\nVZPUSHVZPUSH1\nrest";
        let mut input = &stream[..];
        assert_eq!(read_magic(&mut input).unwrap(), 23);
        assert_eq!(input, b"rest");
    }

    #[test]
    fn another_version_and_garbage_are_told_apart() {
        let version = read_magic(&mut &b"VZPUSH2\n"[..]).unwrap_err();
        assert!(matches!(version, FrameError::Version(b'2')));
        assert!(matches!(read_magic(&mut &b"VZ"[..]).unwrap_err(), FrameError::Closed));
        let noise = vec![b'x'; 1 << 20];
        assert!(matches!(read_magic(&mut &noise[..]).unwrap_err(), FrameError::Garbage(_)));
        assert!(matches!(read(&mut &b"\x09\0\0\0\x02abc"[..]).unwrap_err(), FrameError::Ended));
        let long = read(&mut &b"\xff\xff\xff\xff\x02"[..]).unwrap_err();
        assert!(matches!(long, FrameError::Garbage(_)));
    }
}
