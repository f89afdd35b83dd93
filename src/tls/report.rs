//! What is logged about certificates: at the start, when they are replaced, every day, and when a date passes.

use super::Loaded;
use super::authorities::Authorities;
use super::certificate::{Certificate, Validity, moment};

/// Renewing takes days when people are needed for it; automatic renewal happens before.
const SOON: i64 = 30;

/// Longest list of names that is logged, in names: certificates of the public authorities have up to 100.
const NAMES: usize = 10;

/// All that is to be said about what has been loaded.
pub(super) fn loaded(event: &'static str, listener: &'static str, loaded: &Loaded, now: i64) {
    let leaf = &loaded.chain[0];
    let authorities = loaded.authorities.as_ref();
    tracing::info!(
        activity = true,
        listener,
        issuer = %leaf.issuer,
        names = %leaf.names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(" "),
        not_after = %moment(leaf.not_after),
        days_left = leaf.days_left(now),
        authorities = authorities.map_or(0, |all| all.certificates().len()),
        authorities_valid = authorities.map_or(0, |all| all.valid(now).count()),
        "{event}"
    );
    complaints(listener, loaded, now);
}

/// What is wrong with the dates, or soon will be.
pub(super) fn complaints(listener: &'static str, loaded: &Loaded, now: i64) {
    for certificate in &loaded.chain {
        if certificate.validity(now) == Validity::Valid {
            warn_before_end("server", listener, certificate, now);
            continue;
        }
        let (not_before, not_after) = (moment(certificate.not_before), moment(certificate.not_after));
        let error = "clients that look at the dates refuse it";
        let subject = &certificate.subject;
        tracing::error!(listener, %subject, %not_before, %not_after, error, "server_certificate_not_valid_now");
    }
    if let Some(authorities) = &loaded.authorities {
        for certificate in authorities.certificates() {
            match certificate.validity(now) {
                Validity::Valid => warn_before_end("authority", listener, certificate, now),
                Validity::Expired | Validity::NotYet => not_valid(listener, certificate),
            }
        }
        nobody_can_come(listener, authorities, now);
    }
}

/// Authorities that became valid or expired between two moments; the clock may also have been put back.
pub(super) fn passed(listener: &'static str, authorities: &Authorities, before: i64, now: i64) {
    for certificate in authorities.certificates() {
        match (certificate.validity(before), certificate.validity(now)) {
            (before, now) if before == now => {}
            (_, Validity::Valid) => {
                let subject = &certificate.subject;
                tracing::info!(activity = true, listener, %subject, "trust_anchor_valid_now");
            }
            _ => not_valid(listener, certificate),
        }
    }
}

/// The loudest: not one client can be let in.
pub(super) fn nobody_can_come(listener: &'static str, authorities: &Authorities, now: i64) {
    if let Some(error) = authorities.trouble(now) {
        tracing::error!(listener, file = authorities.key, error, "no_trust_anchor_valid_now");
    }
}

/// Clients know the server by the authority behind its certificate: vehicles by the `ca` of their configuration.
pub(super) fn issuer(listener: &'static str, before: &[Certificate], after: &[Certificate]) {
    let (before, after) = (&before[0], &after[0]);
    if !have_same_issuer(before, after) {
        tracing::warn!(
            listener,
            before = %before.issuer,
            before_key = before.issuer_key.as_deref().unwrap_or_default(),
            after = %after.issuer,
            after_key = after.issuer_key.as_deref().unwrap_or_default(),
            "tls_issuer_changed"
        );
    }
}

/// By name and, where both say it, by key: an authority that is made anew often keeps its name.
pub(super) fn have_same_issuer(before: &Certificate, after: &Certificate) -> bool {
    let keys = before.issuer_key.as_ref().zip(after.issuer_key.as_ref());
    before.issuer == after.issuer && keys.is_none_or(|(before, after)| before == after)
}

fn not_valid(listener: &'static str, authority: &Certificate) {
    tracing::warn!(
        listener,
        subject = %authority.subject,
        not_before = %moment(authority.not_before),
        not_after = %moment(authority.not_after),
        "trust_anchor_not_valid_now"
    );
}

fn warn_before_end(certificate: &'static str, listener: &'static str, ending: &Certificate, now: i64) {
    let days_left = ending.days_left(now);
    if days_left < SOON {
        let (subject, not_after) = (&ending.subject, moment(ending.not_after));
        tracing::warn!(listener, certificate, %subject, %not_after, days_left, "certificate_ends_soon");
    }
}
