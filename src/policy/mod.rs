//! What happens to a record: one decision, made before anything leaves the process.

pub mod rate_limit;
pub mod routes;

pub use rate_limit::RateLimiter;
pub use routes::Routes;

use strum::{IntoStaticStr, VariantArray};

use crate::dispatch::Route;
use crate::envelope::Envelope;
use crate::identity::Identity;
use crate::record::RecordKind;

/// The rules that all sessions share; immutable.
#[derive(Debug)]
pub struct Policy {
    routes: Routes,
    connectivity_from_vehicles: bool,
}

/// What happens to a record whose envelope could be read. Nothing else exists.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// It goes to these dispatchers, once its payload has been checked.
    Accept(&'a Route),
    /// The vehicle is told "received", so that it does not send it again; nobody gets it.
    AckAndDrop(DropReason),
    /// The vehicle gets the error response.
    Reject(RejectReason),
}

/// Why a record is acked without being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DropReason {
    /// `records` has no entry for its type.
    NoRoute,
    /// Connectivity is this server's to state, not the vehicle's.
    ForgedConnectivity,
    /// Nobody can look into it for what the owner has not allowed.
    Withheld,
}

impl DropReason {
    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// Why a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The message names another sender than the certificate, and its payload carries no VIN that we could stamp.
    ForeignSender,
}

impl Policy {
    /// The rules, over a table of routes.
    #[must_use]
    pub fn new(routes: Routes, config: &crate::config::Policy) -> Self {
        Self { routes, connectivity_from_vehicles: config.connectivity_from_vehicles }
    }

    /// Where the server's own records of a type go.
    #[must_use]
    pub fn route(&self, kind: RecordKind) -> Option<&Route> {
        self.routes.get(kind)
    }

    /// Decides about a record by its envelope and the sender's certificate.
    #[must_use]
    pub fn admit(&self, kind: RecordKind, envelope: &Envelope<'_>, identity: &Identity) -> Verdict<'_> {
        let Some(route) = self.routes.get(kind) else {
            return if is_sender(envelope.sender_id, identity) {
                Verdict::AckAndDrop(DropReason::NoRoute)
            } else {
                Verdict::Reject(RejectReason::ForeignSender)
            };
        };
        match kind {
            RecordKind::Connectivity if !self.connectivity_from_vehicles => {
                Verdict::AckAndDrop(DropReason::ForgedConnectivity)
            }
            // Opaque bytes cannot be stamped with the certificate's VIN, so the claim has to be right.
            RecordKind::Custom(_) | RecordKind::Other if !is_sender(envelope.sender_id, identity) => {
                Verdict::Reject(RejectReason::ForeignSender)
            }
            _ => Verdict::Accept(route),
        }
    }
}

/// Vehicles write either the full sender id or the bare device id.
fn is_sender(claimed: &[u8], identity: &Identity) -> bool {
    claimed == identity.sender_id().as_bytes() || claimed == identity.device_id().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClientType;
    use crate::record::Topics;

    fn policy(connectivity_from_vehicles: bool) -> (Policy, Topics) {
        let topics = Topics::new(["V", "connectivity", "custom"]);
        let routes =
            Routes::new(&topics, ["V", "connectivity", "custom"].map(|topic| (topic, Route::new(Vec::new(), &[]))));
        let config = crate::config::Policy { rate_limit: None, connectivity_from_vehicles };
        (Policy::new(routes, &config), topics)
    }

    fn verdict(topic: &str, sender: &str, connectivity_from_vehicles: bool) -> &'static str {
        let (policy, topics) = policy(connectivity_from_vehicles);
        let identity = Identity::new(ClientType::VehicleDevice, "device-1");
        let envelope =
            Envelope { txid: b"t", topic: topic.as_bytes(), sender_id: sender.as_bytes(), created_at: 0, payload: b"" };
        match policy.admit(topics.kind(topic.as_bytes()), &envelope, &identity) {
            Verdict::Accept(_) => "accept",
            Verdict::AckAndDrop(reason) => reason.label(),
            Verdict::Reject(RejectReason::ForeignSender) => "reject",
        }
    }

    #[test]
    fn a_stamped_type_is_accepted_whatever_the_sender_claims() {
        assert_eq!(verdict("V", "vehicle_device.someone-else", false), "accept");
        assert_eq!(verdict("V", "", false), "accept");
    }

    #[test]
    fn an_opaque_type_needs_the_right_sender() {
        assert_eq!(verdict("custom", "vehicle_device.device-1", false), "accept");
        assert_eq!(verdict("custom", "device-1", false), "accept");
        assert_eq!(verdict("custom", "vehicle_device.someone-else", false), "reject");
        assert_eq!(verdict("custom", "", false), "reject");
    }

    #[test]
    fn a_type_without_a_route_is_acked_only_for_its_own_sender() {
        assert_eq!(verdict("alerts", "device-1", false), "no_route");
        assert_eq!(verdict("nobody", "vehicle_device.device-1", false), "no_route");
        assert_eq!(verdict("alerts", "vehicle_device.someone-else", false), "reject");
    }

    #[test]
    fn a_vehicle_cannot_state_its_own_connectivity_unless_configured() {
        assert_eq!(verdict("connectivity", "device-1", false), "forged_connectivity");
        assert_eq!(verdict("connectivity", "device-1", true), "accept");
    }
}
