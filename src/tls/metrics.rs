//! What is measured about certificates.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};

use super::certificate::{self, Certificate, Validity};
use super::{Loaded, Tls};
use crate::metrics::Metrics;

/// Attempts to put changed files in force.
pub(super) struct Reloads {
    pub(super) succeeded: Counter,
    pub(super) failed: Counter,
}

impl Reloads {
    pub(super) fn register(listener: &'static str) -> Self {
        let with = |result: &'static str| counter!("tls_reload_total", "listener" => listener, "result" => result);
        Self { succeeded: with("succeeded"), failed: with("failed") }
    }
}

/// Days and authorities, read at each scrape so that they follow the clock.
pub(super) fn sample(tls: &Arc<Tls>, metrics: &Metrics) {
    let gauges = metrics.scope(|| Gauges::register(tls));
    let tls = Arc::clone(tls);
    metrics.on_scrape(Box::new(move || gauges.set(&tls.loaded.load(), certificate::now())));
}

struct Gauges {
    server: Gauge,
    /// `None` when clients show no certificates.
    authorities: Option<Authorities>,
}

struct Authorities {
    days_left: Gauge,
    valid: Gauge,
    expired: Gauge,
    not_yet: Gauge,
}

impl Gauges {
    fn register(tls: &Tls) -> Self {
        let listener = tls.files.listener;
        let days = |of: &'static str| gauge!("tls_days_left", "listener" => listener, "certificate" => of);
        let state = |state: &'static str| gauge!("tls_authorities", "listener" => listener, "state" => state);
        let authorities = || Authorities {
            days_left: days("authority"),
            valid: state("valid"),
            expired: state("expired"),
            not_yet: state("not_yet_valid"),
        };
        Self { server: days("server"), authorities: tls.files.clients.trusted().map(|_| authorities()) }
    }

    fn set(&self, loaded: &Loaded, now: i64) {
        self.server.set(loaded.chain.iter().map(|one| days_left(one, now)).fold(f64::INFINITY, f64::min));
        if let (Some(gauges), Some(authorities)) = (&self.authorities, &loaded.authorities) {
            gauges.set(authorities.certificates(), now);
        }
    }
}

impl Authorities {
    fn set(&self, authorities: &[Certificate], now: i64) {
        self.days_left.set(soonest_end(authorities, now));
        for (gauge, state) in
            [(&self.valid, Validity::Valid), (&self.expired, Validity::Expired), (&self.not_yet, Validity::NotYet)]
        {
            let count = authorities.iter().filter(|authority| authority.validity(now) == state).count();
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            gauge.set(count as f64);
        }
    }
}

/// Days until the next end. Those that have ended count only when all have, with how long the last has been gone: the
/// maker's bundle holds one that has, and nobody wants to be woken for it each day.
fn soonest_end(authorities: &[Certificate], now: i64) -> f64 {
    let days = || authorities.iter().map(|authority| days_left(authority, now));
    let next = days().filter(|days| *days >= 0.0).fold(f64::INFINITY, f64::min);
    if next.is_finite() { next } else { days().fold(f64::NEG_INFINITY, f64::max) }
}

/// With a fraction, so that a certificate of some hours shows.
fn days_left(certificate: &Certificate, now: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds between dates are far below 2^52")]
    let seconds = (certificate.not_after - now) as f64;
    seconds / 86_400.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(not_after: i64) -> Certificate {
        Certificate {
            subject: String::new(),
            issuer: String::new(),
            not_before: 0,
            not_after,
            sha256: String::new(),
            names: Vec::new(),
            is_not_for_servers: false,
            version: 3,
            has_weak_signature: false,
            names_its_issuers_address: false,
            issuer_key: None,
        }
    }

    #[test]
    fn what_has_ended_hides_nothing_that_ends_next() {
        let day = 86_400;
        let days = |all: &[i64]| soonest_end(&all.iter().map(|end| ends(end * day)).collect::<Vec<_>>(), 10 * day);
        assert!((days(&[3, 40, 15]) - 5.0).abs() < 1e-9);
        assert!((days(&[3, 8]) - -2.0).abs() < 1e-9);
    }
}
