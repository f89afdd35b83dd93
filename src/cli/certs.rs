//! `fleet-telemetry certs`: is this bundle the vehicle maker's?

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::authorities::{self, Authority, Set};
use crate::tls::certificate::{self, Certificate, Validity};

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
    let set = if *engineering { Set::Engineering } else { Set::Production };
    let certificates = match Certificate::read(file) {
        Ok((certificates, _)) => certificates,
        Err(error) => {
            super::complain(&format!("error: {}: {error}\n", file.display()));
            return ExitCode::FAILURE;
        }
    };
    let verdict = verify(&certificates, &authorities::published(), set, certificate::now());
    super::say(&verdict.report);
    if verdict.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Verdict {
    report: String,
    is_good: bool,
}

fn verify(certificates: &[Certificate], authorities: &[Authority<'_>], set: Set, now: i64) -> Verdict {
    let mut report = String::new();
    let (mut unknown, mut valid) = (0, 0);
    for certificate in certificates {
        let standing = Standing::of(certificate, authorities, set);
        match standing {
            Standing::Listed if certificate.validity(now) == Validity::Valid => valid += 1,
            Standing::Listed => {}
            Standing::OtherSet | Standing::Unknown => unknown += 1,
        }
        push_certificate(&mut report, certificate, standing, set, now);
    }
    for missing in authorities.iter().filter(|authority| authority.is_in(set)) {
        if !certificates.iter().any(|certificate| certificate.sha256 == missing.sha256) {
            let _ = writeln!(report, "not in this file: {} ({})", missing.subject, missing.sha256);
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

#[derive(Clone, Copy)]
enum Standing {
    Listed,
    OtherSet,
    Unknown,
}

impl Standing {
    fn of(certificate: &Certificate, authorities: &[Authority<'_>], set: Set) -> Self {
        match authorities.iter().find(|authority| authority.sha256 == certificate.sha256) {
            Some(authority) if authority.is_in(set) => Self::Listed,
            Some(_) => Self::OtherSet,
            None => Self::Unknown,
        }
    }
}

/// Writing to a string cannot fail.
fn push_certificate(report: &mut String, certificate: &Certificate, standing: Standing, set: Set, now: i64) {
    let standing = match standing {
        Standing::Listed => format!("in the maker's {} list", set.label()),
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
    use super::*;

    /// In both sets; in production only; in engineering only.
    const LIST: &str = "sha256_fingerprint,subject_cn,issuer_cn,not_after,production,engineering\n\
                        aa,Both,Root,2030-01-01,yes,yes\nbb,Road,Root,2030-01-01,yes,no\ncc,Lab,Root,2030-01-01,no,yes\n";

    fn certificate(sha256: &str, not_after: i64) -> Certificate {
        Certificate {
            subject: "CN=x".to_owned(),
            issuer: "CN=y".to_owned(),
            not_before: 0,
            not_after,
            sha256: sha256.to_owned(),
            names: Vec::new(),
            issuer_key: None,
        }
    }

    fn verdict(certificates: &[Certificate], set: Set) -> Verdict {
        verify(certificates, &authorities::parse(LIST), set, 100)
    }

    #[test]
    fn accepts_a_listed_bundle_with_one_valid_certificate() {
        let good = verdict(&[certificate("aa", 200), certificate("bb", 50)], Set::Production);
        assert!(good.is_good);
        assert!(good.report.contains("valid until 1970-01-01") && good.report.contains("expired on 1970-01-01"));
        assert!(
            good.report.ends_with("OK: all are in the maker's production list, 1 valid today\n"),
            "{}",
            good.report
        );
    }

    #[test]
    fn refuses_strangers_other_sets_expired_and_empty_bundles() {
        for (certificates, set, why) in [
            (vec![certificate("aa", 200), certificate("dd", 200)], Set::Production, "1 of 2 not in"),
            (vec![certificate("aa", 200), certificate("cc", 200)], Set::Production, "only in the other one"),
            (vec![certificate("bb", 200)], Set::Engineering, "1 of 1 not in"),
            (vec![certificate("aa", 50)], Set::Production, "none is valid today"),
            (vec![], Set::Production, "no certificate"),
        ] {
            let bad = verdict(&certificates, set);
            assert!(!bad.is_good && bad.report.contains(why), "{why} in {}", bad.report);
        }
    }

    #[test]
    fn names_authorities_that_are_missing() {
        let report = verdict(&[certificate("aa", 200)], Set::Production).report;
        assert!(report.contains("not in this file: Road (bb)") && !report.contains("Lab"), "{report}");
    }
}
