//! RESP2, in which Redis is spoken to, without I/O.
//!
//! ```text
//!  request   *<n>\r\n  then n times  $<length>\r\n<bytes>\r\n
//!  reply     +<text>\r\n   -<error>\r\n   :<integer>\r\n   $<length>\r\n<bytes>\r\n   *<n>\r\n<n replies>   ($-1, *-1: nothing)
//! ```

use std::io::Write as _;

/// What a server answers to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, such as `OK`.
    Status(String),
    /// An error; the first word is its kind.
    Error(String),
    /// An integer.
    Integer(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several replies.
    Array(Vec<Reply>),
    /// Nothing.
    Nil,
}

/// The server sent something that is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server does not speak RESP: {0}")]
pub struct Malformed(&'static str);

/// Replies within replies, at most; a list of slots has three levels.
const DEPTH: usize = 8;
/// Bytes of one reply, at most. A subscriber set of a hundred thousand channels has less.
const MOST: usize = 64 << 20;

/// Appends a command.
pub(super) fn command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    write!(out, "*{}\r\n", arguments.len()).expect("writing to memory does not fail");
    for argument in arguments {
        write!(out, "${}\r\n", argument.len()).expect("writing to memory does not fail");
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads one reply from the front of `bytes`, and how many bytes it took; `None` while it is not whole.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let mut rest = bytes;
    match reply(&mut rest, DEPTH) {
        Ok(reply) => Ok(Some((reply, bytes.len() - rest.len()))),
        Err(Stop::Malformed(why)) => Err(Malformed(why)),
        Err(Stop::Partial) if bytes.len() > MOST => Err(Malformed("a reply of more than 64 MiB")),
        Err(Stop::Partial) => Ok(None),
    }
}

/// Why there is no reply.
enum Stop {
    Partial,
    Malformed(&'static str),
}

fn reply(bytes: &mut &[u8], depth: usize) -> Result<Reply, Stop> {
    let (kind, line) = line(bytes)?;
    let text = || String::from_utf8_lossy(line).into_owned();
    match kind {
        b'+' => Ok(Reply::Status(text())),
        b'-' => Ok(Reply::Error(text())),
        b':' => Ok(Reply::Integer(integer(line)?)),
        b'$' => match integer(line)? {
            -1 => Ok(Reply::Nil),
            len => {
                let len = usize::try_from(len).map_err(|_| Stop::Malformed("a negative length"))?;
                let end = len.checked_add(2).ok_or(Stop::Malformed("a length without end"))?;
                let (content, tail) = bytes.split_at_checked(end).ok_or(Stop::Partial)?;
                *bytes = tail;
                Ok(Reply::Bytes(content[..len].to_vec()))
            }
        },
        b'*' => match integer(line)? {
            -1 => Ok(Reply::Nil),
            _ if depth == 0 => Err(Stop::Malformed("replies within replies within replies")),
            count => {
                let count = usize::try_from(count).map_err(|_| Stop::Malformed("a negative count"))?;
                // No reply takes less than three bytes: more cannot be there.
                let mut replies = Vec::with_capacity(count.min(bytes.len() / 3));
                for _ in 0..count {
                    replies.push(reply(bytes, depth - 1)?);
                }
                Ok(Reply::Array(replies))
            }
        },
        _ => Err(Stop::Malformed("an unknown kind of reply")),
    }
}

/// The kind of a reply, and the rest of its first line.
fn line<'a>(bytes: &mut &'a [u8]) -> Result<(u8, &'a [u8]), Stop> {
    let kind = *bytes.first().ok_or(Stop::Partial)?;
    if !b"+-:$*".contains(&kind) {
        return Err(Stop::Malformed("an unknown kind of reply"));
    }
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or(Stop::Partial)?;
    let line = &bytes[1..end];
    *bytes = &bytes[end + 2..];
    Ok((kind, line))
}

fn integer(line: &[u8]) -> Result<i64, Stop> {
    let text = std::str::from_utf8(line).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Stop::Malformed("a number that is none"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_lists_of_strings_with_lengths() {
        let mut out = Vec::new();
        command(&mut out, &[b"PUBLISH", b"a b\r\n", b""]);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$5\r\na b\r\n\r\n$0\r\n\r\n");
    }

    #[test]
    fn every_kind_of_reply_is_read_once_it_is_whole() {
        let slots = Reply::Array(vec![
            Reply::Integer(0),
            Reply::Array(vec![Reply::Bytes(b"127.0.0.1".to_vec()), Reply::Integer(7000)]),
            Reply::Nil,
            Reply::Nil,
        ]);
        for (bytes, expected) in [
            (&b"+OK\r\n"[..], Reply::Status("OK".to_owned())),
            (b"-MOVED 3999 127.0.0.1:6381\r\n", Reply::Error("MOVED 3999 127.0.0.1:6381".to_owned())),
            (b":-12\r\n", Reply::Integer(-12)),
            (b"$5\r\na\r\nb\0\r\n", Reply::Bytes(b"a\r\nb\0".to_vec())),
            (b"$-1\r\n", Reply::Nil),
            (b"*0\r\n", Reply::Array(vec![])),
            (b"*4\r\n:0\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n$-1\r\n*-1\r\n", slots),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{cut} bytes of {expected:?}");
            }
            let with_more = [bytes, b"+more"].concat();
            assert_eq!(decode(&with_more), Ok(Some((expected, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [&b"HTTP/1.1"[..], b":x\r\n", b"$-2\r\n", b"*-2\r\n", b"$99999999999999999999\r\n"] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
        assert!(decode(&b"*1\r\n".repeat(100)).is_err());
        assert_eq!(decode(b"*1000000000\r\n:1\r\n"), Ok(None), "what is announced takes no memory");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(kind in 0..6_usize, bytes in "[+:$*0-9-]{0,4}\r?\n?.{0,20}") {
            let bytes = [["+", "-", ":", "$", "*", ""][kind].as_bytes(), bytes.as_bytes()].concat();
            if let Ok(Some((_, taken))) = decode(&bytes) {
                prop_assert!(taken > 0 && taken <= bytes.len());
            }
        }
    }
}
