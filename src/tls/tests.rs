//! Loading files, and verifying at chosen times.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair};
use rustls::Error;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use time::{Duration, OffsetDateTime};

use super::certificate::now;
use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority that is valid from and until so many days from now.
fn authority(name: &str, from: i64, until: i64) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(until);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed_by(authority: &Issuer<'_, KeyPair>) -> (String, String) {
    let (params, key) = (CertificateParams::new(["localhost".to_owned()]).unwrap(), KeyPair::generate().unwrap());
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a server certificate, and these authorities as the clients'.
    fn new(authorities: &[&Authority]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let (cert, key) = signed_by(&authority("Servers", -1, 365));
        folder.write("cert.pem", &cert);
        folder.write("key.pem", &key);
        folder.write("ca.pem", &authorities.iter().map(|one| one.pem()).collect::<String>());
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn files(&self) -> Files {
        let file = |key, name| File { key, path: self.0.path().join(name) };
        Files {
            listener: "vehicles",
            cert: file("tls.server_cert", "cert.pem"),
            key: file("tls.server_key", "key.pem"),
            clients: Clients::Required(Trusted { maker: None, file: Some(file("tls.ca_file", "ca.pem")) }),
        }
    }

    fn load(&self) -> Result<Tls, TlsError> {
        Tls::load(self.files())
    }

    fn refused(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

/// What the verifier says about a client of `authority` so many days from now.
fn verify(tls: &Tls, authority: &Authority, days: i64) -> Result<(), Error> {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1990, 1, 1);
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap();
    let at = u64::try_from(now() + days * 86_400).unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
    let loaded = tls.loaded.load();
    let authorities = loaded.authorities.as_ref().unwrap();
    authorities.verify_client_cert(leaf.der(), &[], at).map(drop)
}

fn is_out_of_date(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::InvalidCertificate(rustls::CertificateError::Other(other))) if other.0.is::<OutOfDate>())
}

#[test]
fn the_dates_of_authorities_are_judged_at_each_handshake() {
    let (early, late) = (authority("Early", -10, 10), authority("Late", 5, 20));
    let tls = Folder::new(&[&early, &late]).load().unwrap();
    // Also back and forth, as clocks go.
    for (days, early_is_in, late_is_in) in
        [(-11, false, false), (0, true, false), (7, true, true), (15, false, true), (7, true, true), (21, false, false)]
    {
        for (authority, is_in) in [(&early, early_is_in), (&late, late_is_in)] {
            let verified = verify(&tls, authority, days);
            assert_eq!(verified.is_ok(), is_in, "day {days}: {verified:?}");
            assert_eq!(is_out_of_date(&verified), !is_in, "day {days}: {verified:?}");
        }
    }
}

#[test]
fn a_stranger_stays_a_stranger_whatever_the_dates() {
    let tls = Folder::new(&[&authority("Early", -10, 10), &authority("Late", 5, 20)]).load().unwrap();
    for days in [-11, 0, 7, 15, 21] {
        let verified = verify(&tls, &authority("Stranger", -10, 365), days);
        let unknown = Err(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
        assert_eq!(verified, unknown, "day {days}");
    }
}

#[test]
fn a_renewed_authority_of_the_same_name_does_not_hide_why_the_old_one_is_out() {
    let (old, new) = (authority("Maker", -10, -1), authority("Maker", -1, 365));
    let tls = Folder::new(&[&old, &new]).load().unwrap();
    assert!(is_out_of_date(&verify(&tls, &old, 0)));
    verify(&tls, &new, 0).unwrap();
}

#[test]
fn a_bundle_of_which_nothing_is_valid_now_loads_and_says_so() {
    for (from, until, says) in [(1, 2, "the next is from 2"), (-2, -1, "the last expired at 2")] {
        let tls = Folder::new(&[&authority("Maker", from, until)]).load().unwrap();
        let trouble = tls.trouble().unwrap();
        assert!(trouble.starts_with("none of its 1 authorities is valid") && trouble.contains(says), "{trouble}");
    }
    assert_eq!(Folder::new(&[&authority("Maker", -1, 1), &authority("Old", -2, -1)]).load().unwrap().trouble(), None);
}

#[test]
fn what_can_never_work_is_named_with_its_key_and_file() {
    let folder = Folder::new(&[&authority("Maker", -1, 1)]);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = &std::fs::read_to_string(folder.0.path().join("ca.pem")).unwrap()[..200];
    for (bundle, says) in [
        (String::new(), "ca.pem holds no certificate; certs/README.md says what belongs into it"),
        (authority("Maker", -1, 1).pem() + garbage, "custom ca not properly loaded"),
        (authority("Maker", -1, 1).pem() + garbage, "certificate 2: "),
        (cut.to_owned(), "missing section end marker"),
    ] {
        folder.write("ca.pem", &bundle);
        let error = folder.refused();
        assert!(error.starts_with("tls.ca_file: ") && error.contains(says), "{error}");
    }
    std::fs::remove_file(folder.0.path().join("ca.pem")).unwrap();
    assert!(folder.refused().starts_with("tls.ca_file: /"), "{}", folder.refused());
    let folder = Folder::new(&[&authority("Maker", -1, 1)]);
    folder.write("cert.pem", "");
    assert!(folder.refused().starts_with("tls.server_cert: "), "{}", folder.refused());
    folder.write("cert.pem", garbage);
    assert!(folder.refused().starts_with("tls.server_cert: "), "{}", folder.refused());
}

#[test]
fn a_key_of_another_certificate_changes_nothing_and_is_named() {
    let folder = Folder::new(&[&authority("Maker", -1, 1)]);
    let tls = folder.load().unwrap();
    let before = tls.current();
    folder.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let error = tls.replace(&Contents::read(&tls.files)).unwrap_err().to_string();
    assert!(error.starts_with("tls.server_key: ") && error.ends_with("not the key of tls.server_cert"), "{error}");
    assert!(Arc::ptr_eq(&before, &tls.current()));
}

#[test]
fn an_issuer_is_another_by_its_name_or_by_its_key() {
    let issued = |authority: &Authority| {
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        Certificate::parse(params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der()).unwrap()
    };
    let (servers, made_anew, other) =
        (authority("Servers", -1, 1), authority("Servers", -1, 1), authority("Others", -1, 1));
    let before = issued(&servers);
    assert!(report::have_same_issuer(&before, &issued(&servers)));
    assert!(!report::have_same_issuer(&before, &issued(&made_anew)));
    assert!(!report::have_same_issuer(&before, &issued(&other)));
    let silent = Certificate { issuer_key: None, ..issued(&made_anew) };
    assert!(report::have_same_issuer(&before, &silent), "nothing says that the key is another");
}

#[test]
fn a_server_certificate_that_has_ended_loads() {
    let folder = Folder::new(&[&authority("Maker", -1, 1)]);
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    let key = KeyPair::generate().unwrap();
    folder.write("cert.pem", &params.self_signed(&key).unwrap().pem());
    folder.write("key.pem", &key.serialize_pem());
    assert!(folder.load().unwrap().loaded.load().chain[0].days_left(now()) < 0);
}

#[test]
fn whatever_differs_in_a_file_makes_a_difference() {
    let folder = Folder::new(&[&authority("Maker", -1, 1)]);
    let digest = || Contents::read(&folder.files()).digest();
    let mut seen = vec![digest()];
    assert_eq!(digest(), seen[0]);
    for (name, text) in [("key.pem", "x"), ("key.pem", "y"), ("cert.pem", "y"), ("ca.pem", "y"), ("ca.pem", "")] {
        folder.write(name, text);
        seen.push(digest());
    }
    std::fs::remove_file(folder.0.path().join("ca.pem")).unwrap();
    seen.push(digest());
    let unique: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len());
}
