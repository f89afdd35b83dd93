//! Where the process is in its life.

use std::sync::atomic::{AtomicU8, Ordering};

use strum::{IntoStaticStr, VariantArray};

/// ```text
/// Loading ──▶ Ready ──▶ Draining
///    └─────────────────────▲
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Connecting dispatchers, loading certificates.
    Loading,
    /// Accepting vehicles.
    Ready,
    /// Closing connections, delivering what is left.
    Draining,
}

impl Phase {
    /// As `/readyz` says it.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// The current [`Phase`]; it only ever moves forward.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Moves on to `phase`; an earlier one is ignored.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Release);
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::VARIANTS[usize::from(self.0.load(Ordering::Acquire))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_moves_forward() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Loading);
        readiness.advance(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.advance(Phase::Draining);
        readiness.advance(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
