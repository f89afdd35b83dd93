//! The messages that a vehicle makes.

pub mod fixed;
pub mod txid;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fleet_telemetry::envelope::Envelope;
use fleet_telemetry::testing::message;

use self::txid::Txid;

/// A message as it goes over the wire, first time and every time.
#[derive(Debug)]
pub struct Message {
    /// Chosen by the vehicle.
    pub txid: Txid,
    /// Record type.
    pub topic: &'static str,
    /// When it was due: ack latency counts from here.
    pub due: Instant,
    /// Step of the plan that it was made in.
    pub step: usize,
    /// The envelope.
    pub frame: Box<[u8]>,
}

/// A vehicle identification number that looks valid and belongs to no vehicle.
#[must_use]
pub fn vin(vehicle: u32) -> String {
    format!("5YJ3E1EA0PF{:06}", vehicle % 1_000_000)
}

/// Puts a payload into an envelope.
#[must_use]
pub fn encode(vin: &str, txid: Txid, topic: &str, created_at: SystemTime, payload: &[u8]) -> Vec<u8> {
    message::encode(&Envelope {
        txid: &txid.text(),
        topic: topic.as_bytes(),
        sender_id: format!("vehicle_device.{vin}").as_bytes(),
        created_at: u32::try_from(seconds(created_at)).unwrap_or(u32::MAX),
        payload,
    })
}

/// Protobuf's timestamp of a time.
#[must_use]
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Ties the monotonic clock, which schedules, to the wall clock, which stamps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    system: SystemTime,
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn start() -> Self {
        Self { instant: Instant::now(), system: SystemTime::now() }
    }

    /// The wall-clock time of an instant.
    #[must_use]
    pub fn system(&self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.system + later,
            None => self.system - (self.instant - instant),
        }
    }
}
