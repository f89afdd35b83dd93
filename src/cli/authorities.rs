//! The vehicle maker's certificate authorities, by fingerprint.
//!
//! The list lets an operator tell whether a downloaded bundle is the maker's. It holds no keys: the server
//! trusts what `tls.ca_file` holds, nothing else.

/// `certs/vehicle_ca.csv`: fingerprint, subject, issuer, expiry, and the sets it belongs to.
const LIST: &str = include_str!("../../certs/vehicle_ca.csv");

/// Which vehicles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Those on the road.
    Production,
    /// The maker's own.
    Engineering,
}

/// One authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub(super) sha256: &'a str,
    pub(super) subject: &'a str,
    production: bool,
    engineering: bool,
}

impl Authority<'_> {
    pub(super) fn is_in(&self, set: Set) -> bool {
        match set {
            Set::Production => self.production,
            Set::Engineering => self.engineering,
        }
    }
}

impl Set {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Engineering => "engineering",
        }
    }
}

/// The maker's list.
pub(super) fn published() -> Vec<Authority<'static>> {
    parse(LIST)
}

/// Lines that do not have the list's columns are left out; the tests count.
pub(super) fn parse(list: &str) -> Vec<Authority<'_>> {
    let columns = |line| {
        let [sha256, subject, _issuer, _not_after, production, engineering] = columns(line)?;
        Some(Authority { sha256, subject, production: production == "yes", engineering: engineering == "yes" })
    };
    list.lines().skip(1).filter_map(columns).collect()
}

fn columns(line: &str) -> Option<[&str; 6]> {
    line.split(',').collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_both_sets() {
        let authorities = published();
        let count = |set| authorities.iter().filter(|authority| authority.is_in(set)).count();
        assert_eq!((count(Set::Production), count(Set::Engineering)), (14, 8));
        assert_eq!(authorities.len(), LIST.lines().count() - 1);
        for authority in &authorities {
            assert!(authority.sha256.len() == 64 && authority.sha256.bytes().all(|b| b"0123456789abcdef".contains(&b)));
        }
    }
}
