//! What channels, sets and streams are called, and where a cluster keeps them.

/// Names of one record type.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `<namespace>_<type>`.
    stream: String,
    /// `<prefix>_<namespace>_<type>`; `None`: no sets are asked.
    set: Option<String>,
}

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

impl Names {
    pub(super) fn new(namespace: &str, record_type: &str, set_prefix: Option<&str>) -> Self {
        let stream = format!("{namespace}_{record_type}");
        Self { set: set_prefix.map(|prefix| format!("{prefix}_{stream}")), stream }
    }

    /// Where all records of the type are appended.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// The channel of one vehicle. The braces are literal: a cluster hashes what stands between them.
    pub(super) fn channel(&self, vin: &str) -> String {
        format!("{}_{{{vin}}}", self.stream)
    }

    /// The set of channels that want one vehicle's records.
    pub(super) fn set(&self, vin: &str) -> Option<String> {
        self.set.as_ref().map(|set| format!("{set}_{{{vin}}}"))
    }
}

/// The slot of a key: CRC16 of what stands between its first `{` and the next `}`, if there is anything, else of all.
pub(super) fn slot(key: &[u8]) -> u16 {
    let position = |bytes: &[u8], byte: u8| bytes.iter().position(|b| *b == byte);
    let tag = position(key, b'{').and_then(|open| {
        let rest = &key[open + 1..];
        position(rest, b'}').filter(|close| *close > 0).map(|close| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_reference_servers() {
        let names = Names::new("tesla", "V", Some("subscribers"));
        assert_eq!(names.channel("VIN1"), "tesla_V_{VIN1}");
        assert_eq!(names.set("VIN1").as_deref(), Some("subscribers_tesla_V_{VIN1}"));
        assert_eq!(Names::new("tesla", "V", None).set("VIN1"), None);
    }

    #[test]
    fn slots_are_those_that_redis_computes() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, expected) in
            [("foo", 12_182), ("{user1000}.following", 3_443), ("foo{}{bar}", 8_363), ("foo{{bar}}zap", 4_015)]
        {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        let names = Names::new("tesla", "V", Some("s"));
        assert_eq!(slot(names.channel("VIN").as_bytes()), slot(names.set("VIN").unwrap().as_bytes()));
    }
}
