//! What must hold for any bytes that come from a broker or a Redis server. The targets panic when it does not.

use fleet_telemetry::dispatch::mqtt::packet;
use fleet_telemetry::dispatch::redis::resp;

/// Answers are read one after the other, each from its own bytes alone, and from no fewer.
pub fn mqtt(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some((answer, taken))) = packet::decode(rest) {
        assert!((2..=4).contains(&taken) && taken <= rest.len(), "{taken} bytes for {answer:?}");
        assert_eq!(packet::decode(&rest[..taken]), Ok(Some((answer, taken))));
        (0..taken).for_each(|cut| assert_eq!(packet::decode(&rest[..cut]), Ok(None)));
        rest = &rest[taken..];
    }
}

/// The same of replies, however deep and long they say they are.
pub fn redis(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some((reply, taken))) = resp::decode(rest) {
        assert!(taken >= 3 && taken <= rest.len(), "{taken} bytes for {reply:?}");
        assert_eq!(resp::decode(&rest[..taken]), Ok(Some((reply, taken))));
        assert_eq!(resp::decode(&rest[..taken - 1]), Ok(None));
        rest = &rest[taken..];
    }
}
