//! Protobuf wire format: a walk over the fields of a message. Allocates only to skip groups, which nobody sends.
//!
//! Accepts and refuses exactly what the reference server's decoder (protobuf-go) does.

use crate::work;

/// The largest field number.
const MAX_NUMBER: u64 = (1 << 29) - 1;

/// Inside groups protobuf-go allows greater numbers, for the sake of MessageSets.
const MAX_NUMBER_IN_GROUP: u64 = (1 << 31) - 1;

/// Groups within groups that protobuf-go accepts: the outermost one and 10,000 levels in it.
const MAX_GROUPS: usize = 10_001;

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset within the bytes that were walked.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// A field as it lies in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Field number, 1 to 2^29 - 1.
    pub number: u32,
    /// The value, by wire type.
    pub value: Value<'a>,
    /// Where the tag starts.
    pub start: usize,
    /// Where the tag ends; for a length-delimited value the length follows.
    pub tag_end: usize,
    /// Where the field ends.
    pub end: usize,
    /// Whether the tag is encoded in as few bytes as possible.
    pub tag_is_minimal: bool,
    /// Whether the value, or its length, is encoded in as few bytes as possible.
    pub value_is_minimal: bool,
}

/// A field's value by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Type 0.
    Varint(u64),
    /// Type 1.
    Fixed64(u64),
    /// Type 2.
    Bytes(&'a [u8]),
    /// Types 3 and 4: a well-formed group.
    Group,
    /// Type 5.
    Fixed32(u32),
}

/// Walks the fields of a message.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// A walk over all of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field; `None` at the end of the message.
    ///
    /// # Errors
    /// [`Malformed`]; the walk must then stop.
    // Inlined so that a field stays in registers; all that is rare is in functions that are not.
    #[inline(always)]
    #[allow(clippy::should_implement_trait, clippy::inline_always)] // a fallible `next` reads best with `?`
    pub fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        work::took(1);
        let start = self.at;
        let tag = self.varint()?;
        let number = tag.value >> 3;
        if number == 0 || number > MAX_NUMBER {
            return Err(Malformed { at: start, reason: "field number out of range" });
        }
        let number = number as u32;
        let tag_end = self.at;
        let (value, value_is_minimal) = match tag.value & 7 {
            0 => {
                let varint = self.varint()?;
                (Value::Varint(varint.value), varint.is_minimal)
            }
            1 => (Value::Fixed64(u64::from_le_bytes(self.array()?)), true),
            2 => {
                let len = self.varint()?;
                (Value::Bytes(self.take(len.value)?), len.is_minimal)
            }
            3 => {
                self.skip_group(number)?;
                (Value::Group, true)
            }
            5 => (Value::Fixed32(u32::from_le_bytes(self.array()?)), true),
            other => return Err(bad_wire_type(other, start)),
        };
        Ok(Some(Field {
            number,
            value,
            start,
            tag_end,
            end: self.at,
            tag_is_minimal: tag.is_minimal,
            value_is_minimal,
        }))
    }

    /// Skips to the end of a group whose start tag was read. Iterative: depth costs memory, not stack.
    #[cold]
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![u64::from(number)];
        while let Some(innermost) = open.last().copied() {
            work::took(1);
            let start = self.at;
            let tag = self.varint()?.value;
            let number = tag >> 3;
            if number == 0 || number > MAX_NUMBER_IN_GROUP {
                return Err(Malformed { at: start, reason: "field number out of range" });
            }
            match tag & 7 {
                3 if open.len() == MAX_GROUPS => {
                    return Err(Malformed { at: start, reason: "groups nested too deeply" });
                }
                3 => open.push(number),
                4 if number != innermost => {
                    return Err(Malformed { at: start, reason: "end of another group than the innermost" });
                }
                4 => {
                    open.pop();
                }
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.array::<8>()?;
                }
                2 => {
                    let len = self.varint()?.value;
                    self.take(len)?;
                }
                5 => {
                    self.array::<4>()?;
                }
                other => return Err(bad_wire_type(other, start)),
            }
        }
        Ok(())
    }

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let value = self.bytes[self.at..].first_chunk().copied().ok_or_else(|| self.truncated())?;
        self.at += N;
        Ok(value)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or_else(|| self.truncated())?;
        self.at += taken.len();
        Ok(taken)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn varint(&mut self) -> Result<Varint, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(Varint { value: byte.into(), is_minimal: true })
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<Varint, Malformed> {
        let mut value = 0;
        for (index, byte) in self.bytes[self.at..].iter().copied().take(MAX_VARINT).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if index == MAX_VARINT - 1 && byte > 1 {
                    break;
                }
                self.at += index + 1;
                return Ok(Varint { value, is_minimal: byte != 0 });
            }
        }
        if self.bytes.len() - self.at < MAX_VARINT {
            return Err(self.truncated());
        }
        Err(Malformed { at: self.at, reason: "varint does not fit in 64 bits" })
    }

    #[cold]
    fn truncated(&self) -> Malformed {
        Malformed { at: self.at, reason: "field runs past the end" }
    }
}

#[cold]
fn bad_wire_type(wire_type: u64, at: usize) -> Malformed {
    let reason = if wire_type == 4 { "end of a group that did not start" } else { "unknown wire type" };
    Malformed { at, reason }
}

/// Bytes of the longest varint; the last one holds a single bit.
const MAX_VARINT: usize = 10;

struct Varint {
    value: u64,
    /// Only the encoding of a single byte may end with a zero byte.
    is_minimal: bool,
}

/// The varints of a packed field.
pub(crate) struct Packed<'a>(Fields<'a>);

impl<'a> Packed<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Fields::new(bytes))
    }

    /// The next value, and whether it is encoded in as few bytes as possible.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, bool)>, Malformed> {
        if self.0.at == self.0.bytes.len() {
            return Ok(None);
        }
        work::took(1);
        self.0.varint().map(|varint| Some((varint.value, varint.is_minimal)))
    }
}

/// Wire types that this crate writes.
pub(crate) mod wire_type {
    pub(crate) const VARINT: u32 = 0;
    pub(crate) const FIXED64: u32 = 1;
    pub(crate) const BYTES: u32 = 2;
    pub(crate) const GROUP: u32 = 3;
    pub(crate) const FIXED32: u32 = 5;
}

impl Value<'_> {
    pub(crate) fn wire_type(self) -> u32 {
        match self {
            Self::Varint(_) => wire_type::VARINT,
            Self::Fixed64(_) => wire_type::FIXED64,
            Self::Bytes(_) => wire_type::BYTES,
            Self::Group => wire_type::GROUP,
            Self::Fixed32(_) => wire_type::FIXED32,
        }
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag.
pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    put_varint(out, (u64::from(number) << 3) | u64::from(wire_type));
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, wire_type::BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    work::took(bytes.len());
}

/// Length of [`put_varint`]'s output.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Length of [`put_bytes`]' output for a field number below 16.
pub(crate) fn bytes_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, &'static str> {
        let mut fields = Fields::new(bytes);
        let mut found = Vec::new();
        while let Some(field) = fields.next().map_err(|malformed| malformed.reason)? {
            found.push((field.number, field.value));
        }
        Ok(found)
    }

    #[test]
    fn walks_every_wire_type() {
        let bytes = b"\x08\x96\x01\x11\x01\0\0\0\0\0\0\0\x1a\x02ab\x23\x08\x01\x24\x2d\x02\0\0\0";
        assert_eq!(
            walk(bytes),
            Ok(vec![
                (1, Value::Varint(150)),
                (2, Value::Fixed64(1)),
                (3, Value::Bytes(b"ab")),
                (4, Value::Group),
                (5, Value::Fixed32(2)),
            ])
        );
    }

    #[test]
    fn refuses_what_is_cut_short() {
        for bytes in
            [&b"\x08"[..], b"\x08\x80", b"\x80", b"\x11\0\0\0\0\0\0\0", b"\x0a\x02a", b"\x2d\0\0\0", b"\x0b\x08\x01"]
        {
            assert_eq!(walk(bytes), Err("field runs past the end"), "{bytes:?}");
        }
    }

    #[test]
    fn varints_hold_64_bits() {
        assert_eq!(walk(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(vec![(1, Value::Varint(u64::MAX))]));
        assert_eq!(walk(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), Err("varint does not fit in 64 bits"));
        assert_eq!(walk(b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), Err("varint does not fit in 64 bits"));
    }

    #[test]
    fn field_numbers_have_29_bits_and_31_inside_groups() {
        assert_eq!(walk(b"\xf8\xff\xff\xff\x0f\x01"), Ok(vec![((1 << 29) - 1, Value::Varint(1))]));
        assert_eq!(walk(b"\x80\x80\x80\x80\x10\x01"), Err("field number out of range"));
        assert_eq!(walk(b"\x00\x01"), Err("field number out of range"));
        assert_eq!(walk(b"\x0b\x80\x80\x80\x80\x10\x01\x0c"), Ok(vec![(1, Value::Group)]));
        assert_eq!(walk(b"\x0b\xf8\xff\xff\xff\x7f\x01\x0c"), Err("field number out of range"));
    }

    #[test]
    fn groups_nest_ten_thousand_deep() {
        let nested = |levels: usize| [[0x0b].repeat(levels), [0x0c].repeat(levels)].concat();
        assert_eq!(walk(&nested(10_001)), Ok(vec![(1, Value::Group)]));
        assert_eq!(walk(&nested(10_002)), Err("groups nested too deeply"));
    }

    #[test]
    fn groups_end_where_they_should() {
        assert_eq!(walk(b"\x0c"), Err("end of a group that did not start"));
        assert_eq!(walk(b"\x0b\x13\x0c\x14"), Err("end of another group than the innermost"));
    }

    #[test]
    fn says_what_is_not_minimal() {
        let first = |bytes| Fields::new(bytes).next().unwrap().unwrap();
        let field = first(b"\x88\x00\x05");
        assert_eq!((field.number, field.tag_is_minimal, field.value_is_minimal), (1, false, true));
        let field = first(b"\x08\x85\x00");
        assert_eq!((field.value, field.tag_is_minimal, field.value_is_minimal), (Value::Varint(5), true, false));
        assert!(first(b"\x08\x00").value_is_minimal);
    }

    #[test]
    fn lengths_match_what_is_written() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value));
                assert_eq!(Packed::new(&out).next(), Ok(Some((value, true))));
            }
        }
    }
}
