//! `fleet-telemetry certs`: is this bundle the vehicle maker's?

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use rustls::pki_types::CertificateDer;

use crate::config::MakerCa;
use crate::tls::certificate::{self, Certificate, Validity};
use crate::tls::maker::{self, Authority};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fleet-telemetry certs verify certs/prod_ca.crt")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compare a PEM bundle with the vehicle maker's published authorities.
    ///
    /// Prints subject, issuer, expiry and SHA-256 fingerprint of each certificate. Exits with 0 only if all of
    /// them are in the maker's list and at least one is valid today; else with 1.
    Verify {
        /// The PEM bundle.
        file: PathBuf,
        /// Compare with the authorities of the maker's engineering vehicles instead.
        #[arg(long)]
        engineering: bool,
    },
}

pub(super) fn run(args: &Args) -> ExitCode {
    let Command::Verify { file, engineering } = &args.command;
    let set = if *engineering { MakerCa::Engineering } else { MakerCa::Production };
    let certificates = match Certificate::read(file) {
        Ok((certificates, ders)) => certificates.into_iter().zip(ders).collect::<Vec<_>>(),
        Err(error) => {
            super::complain(&format!("error: {}: {error}\n", file.display()));
            return ExitCode::FAILURE;
        }
    };
    let verdict = verify(&certificates, maker::published(), set, certificate::now());
    super::say(&verdict.report);
    if verdict.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Verdict {
    report: String,
    is_good: bool,
}

fn verify(certificates: &[Shown], authorities: &[Authority], set: MakerCa, now: i64) -> Verdict {
    let mut report = String::new();
    let (mut unknown, mut valid) = (0, 0);
    for (certificate, der) in certificates {
        let standing = Standing::of(certificate, der, authorities, set);
        match standing {
            Standing::Listed | Standing::MadeAnew if certificate.validity(now) == Validity::Valid => valid += 1,
            Standing::Listed | Standing::MadeAnew => {}
            Standing::OtherSet | Standing::Unknown => unknown += 1,
        }
        push_certificate(&mut report, certificate, standing, set, now);
    }
    for missing in authorities.iter().filter(|authority| authority.is_in(set)) {
        if !certificates.iter().any(|(one, der)| one.sha256 == missing.sha256 || missing.has_key_of(der)) {
            let _ = writeln!(report, "not in this file: {} ({})", missing.common_name, missing.sha256);
        }
    }
    let is_good = unknown == 0 && valid > 0;
    let set = set.label();
    let _ = match (certificates.len(), unknown, is_good) {
        (0, ..) => writeln!(report, "FAILED: no certificate in this file"),
        (_, _, true) => writeln!(report, "OK: all are in the maker's {set} list, {valid} valid today"),
        (_, 0, false) => writeln!(report, "FAILED: all are in the maker's {set} list, but none is valid today"),
        (count, ..) => writeln!(
            report,
            "FAILED: {unknown} of {count} not in the maker's {set} list; a server that trusts them accepts vehicles \
             which the maker did not certify"
        ),
    };
    Verdict { report, is_good }
}

/// A certificate of the file, and its DER.
type Shown = (Certificate, CertificateDer<'static>);

#[derive(Clone, Copy)]
enum Standing {
    /// It is one of the maker's.
    Listed,
    /// It is not, but has the name and the key of one: the same authority, with other dates or extensions.
    MadeAnew,
    OtherSet,
    Unknown,
}

impl Standing {
    fn of(certificate: &Certificate, der: &[u8], authorities: &[Authority], set: MakerCa) -> Self {
        let listed = authorities.iter().find(|authority| authority.sha256 == certificate.sha256);
        let known = listed.or_else(|| authorities.iter().find(|authority| authority.has_key_of(der)));
        match known {
            Some(authority) if !authority.is_in(set) => Self::OtherSet,
            Some(_) if listed.is_some() => Self::Listed,
            Some(_) => Self::MadeAnew,
            None => Self::Unknown,
        }
    }
}

/// Writing to a string cannot fail.
fn push_certificate(report: &mut String, certificate: &Certificate, standing: Standing, set: MakerCa, now: i64) {
    let standing = match standing {
        Standing::Listed => format!("in the maker's {} list", set.label()),
        Standing::MadeAnew => format!(
            "another certificate of an authority in the maker's {} list: the same name and key, trusted already",
            set.label()
        ),
        Standing::OtherSet => format!("NOT in the maker's {} list, only in the other one", set.label()),
        Standing::Unknown => "NOT in the maker's list".to_owned(),
    };
    let _ = writeln!(report, "subject      {}", certificate.subject);
    let _ = writeln!(report, "issuer       {}", certificate.issuer);
    let _ = writeln!(report, "expiry       {}", certificate.describe_validity(now));
    let _ = writeln!(report, "fingerprint  {}", certificate.sha256);
    let _ = writeln!(report, "standing     {standing}\n");
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use time::{Duration, OffsetDateTime};

    use super::*;

    /// An authority and its key.
    fn authority(name: &str, key: &KeyPair, days: i64) -> Shown {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = OffsetDateTime::now_utc() - Duration::days(100);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        let der = params.self_signed(key).unwrap().der().clone();
        (Certificate::parse(&der).unwrap(), der)
    }

    /// Its line in a list made to the pattern of the maker's.
    fn line((certificate, der): &Shown, sets: &str) -> String {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
        let (subject, key) = (parsed.subject().as_raw(), parsed.public_key().raw);
        let (from, to) = (certificate::moment(certificate.not_before), certificate::moment(certificate.not_after));
        let name = &certificate.subject[3..];
        let (subject, key) = (BASE64.encode(subject), BASE64.encode(key));
        format!("{},{name},Root,{from},{to},{sets},{subject},{key}\n", certificate.sha256)
    }

    const HEADER: &str = "sha256_fingerprint,subject_cn,issuer_cn,not_before,not_after,production,engineering,\
                          subject_der_base64,spki_der_base64\n";

    struct Site {
        both: Shown,
        road: Shown,
        lab: Shown,
        expired: Shown,
        both_key: KeyPair,
        list: Vec<Authority>,
    }

    impl Site {
        fn new() -> Self {
            let keys: Vec<_> = (0..4).map(|_| KeyPair::generate().unwrap()).collect();
            let [both, road, lab] = ["Both", "Road", "Lab"].map(|name| name.to_owned());
            let both = authority(&both, &keys[0], 100);
            let (road, lab) = (authority(&road, &keys[1], 100), authority(&lab, &keys[2], 100));
            let expired = authority("Expired", &keys[3], -1);
            let list = [
                HEADER.to_owned(),
                line(&both, "yes,yes"),
                line(&road, "yes,no"),
                line(&lab, "no,yes"),
                line(&expired, "yes,yes"),
            ];
            let list = maker::read(&list.concat()).unwrap();
            Self { both, road, lab, expired, both_key: keys.into_iter().next().unwrap(), list }
        }

        fn verdict(&self, certificates: &[&Shown], set: MakerCa) -> Verdict {
            let certificates: Vec<_> = certificates.iter().map(|shown| (*shown).clone()).collect();
            verify(&certificates, &self.list, set, certificate::now())
        }
    }

    #[test]
    fn accepts_a_listed_bundle_with_one_valid_certificate() {
        let site = Site::new();
        let good = site.verdict(&[&site.both, &site.expired], MakerCa::Production);
        assert!(good.is_good, "{}", good.report);
        assert!(good.report.contains("valid until") && good.report.contains("expired on"), "{}", good.report);
        assert!(
            good.report.ends_with("OK: all are in the maker's production list, 1 valid today\n"),
            "{}",
            good.report
        );
    }

    #[test]
    fn refuses_strangers_other_sets_expired_and_empty_bundles() {
        let site = Site::new();
        let stranger = authority("Stranger", &KeyPair::generate().unwrap(), 100);
        for (certificates, set, why) in [
            (vec![&site.both, &stranger], MakerCa::Production, "1 of 2 not in"),
            (vec![&site.both, &site.lab], MakerCa::Production, "only in the other one"),
            (vec![&site.road], MakerCa::Engineering, "1 of 1 not in"),
            (vec![&site.expired], MakerCa::Production, "none is valid today"),
            (vec![], MakerCa::Production, "no certificate"),
        ] {
            let bad = site.verdict(&certificates, set);
            assert!(!bad.is_good && bad.report.contains(why), "{why} in {}", bad.report);
        }
    }

    #[test]
    fn knows_an_authority_by_its_key_and_a_namesake_without_it_is_a_stranger() {
        let site = Site::new();
        let renewed = authority("Both", &site.both_key, 500);
        let good = site.verdict(&[&renewed], MakerCa::Production);
        assert!(good.is_good && good.report.contains("the same name and key"), "{}", good.report);
        let namesake = authority("Both", &KeyPair::generate().unwrap(), 100);
        let renamed = authority("Other", &site.both_key, 100);
        for stranger in [namesake, renamed] {
            assert!(!site.verdict(&[&stranger], MakerCa::Production).is_good);
        }
    }

    #[test]
    fn names_authorities_that_are_missing() {
        let site = Site::new();
        let report = site.verdict(&[&site.both], MakerCa::Production).report;
        assert!(report.contains("not in this file: Road (") && !report.contains("Lab"), "{report}");
    }
}
