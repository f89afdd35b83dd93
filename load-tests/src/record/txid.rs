//! Transaction ids that say which message of which vehicle they belong to.

/// Length of a txid on the wire.
pub const LEN: usize = 36;

/// Names one message of one vehicle of one run. Its text is a version 8 (custom) UUID,
/// `rrrrrrrr-vvvv-8vvv-8000-ssssssssssss` with run, vehicle and sequence number in hexadecimal, so that an
/// unexpected ack can be told apart: acked before, or never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Txid {
    /// Random per run.
    pub run: u32,
    /// Below 2²⁸.
    pub vehicle: u32,
    /// Of the vehicle's messages, from 0; below 2⁴⁸.
    pub sequence: u64,
}

impl Txid {
    /// The text.
    #[must_use]
    pub fn text(self) -> [u8; LEN] {
        let mut text = *b"00000000-0000-8000-8000-000000000000";
        hex(&mut text[0..8], u64::from(self.run));
        hex(&mut text[9..13], u64::from(self.vehicle >> 12));
        hex(&mut text[15..18], u64::from(self.vehicle & 0xfff));
        hex(&mut text[24..36], self.sequence);
        text
    }

    /// Reads [`Txid::text`]; `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != LEN {
            return None;
        }
        let txid = Self {
            run: u32::try_from(number(&text[0..8])?).ok()?,
            vehicle: u32::try_from((number(&text[9..13])? << 12) | number(&text[15..18])?).ok()?,
            sequence: number(&text[24..36])?,
        };
        (txid.text() == text).then_some(txid)
    }
}

fn hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::try_from(value & 15).expect("four bits")];
        value >>= 4;
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| Some((value << 4) | u64::from(char::from(*digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_uuid_and_reads_back() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..1000 {
            let txid = Txid { run: rng.u32(..), vehicle: rng.u32(..1 << 28), sequence: rng.u64(..1 << 48) };
            let text = txid.text();
            assert_eq!(Txid::parse(&text), Some(txid));
            let uuid = uuid::Uuid::try_parse_ascii(&text).expect("a UUID");
            assert_eq!(uuid.get_version_num(), 8);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let text = Txid { run: 1, vehicle: 2, sequence: 3 }.text();
        assert_eq!(Txid::parse(&text[..35]), None);
        assert_eq!(Txid::parse(b""), None);
        assert_eq!(Txid::parse(&text.to_ascii_uppercase().map_first(b'G')), None);
        assert_eq!(Txid::parse(uuid::Uuid::new_v4().to_string().as_bytes()), None);
    }

    trait MapFirst {
        fn map_first(self, byte: u8) -> Self;
    }

    impl MapFirst for Vec<u8> {
        fn map_first(mut self, byte: u8) -> Self {
            self[0] = byte;
            self
        }
    }
}
