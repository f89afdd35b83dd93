//! Handshakes that must not succeed, and what they may cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::pki::{Leaf, Pki};
use crate::support::process;
use crate::support::server::{Server, get, start};
use crate::support::vehicle::{PATIENCE, UPGRADE, Vehicle, exchange};
use crate::witness::Witness;

const VIN: &str = "5YJ3E1EA0PF000001";
const MIB: u64 = 1 << 20;

/// A vehicle's leaf, changed.
fn leaf(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = named(VIN);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

fn named(common_name: impl Into<DnValue>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// A client whose leaf the vehicles' authority has signed, and which sends more behind it.
fn signed(
    pki: &Pki,
    (params, key): (CertificateParams, KeyPair),
    behind: Vec<CertificateDer<'static>>,
) -> Arc<ClientConfig> {
    let certificate = params.signed_by(&key, pki.issuer()).unwrap();
    let chain = [vec![certificate.der().clone()], behind].concat();
    pki.client_with_chain(chain, &key)
}

/// `count` authorities, each signed by the one before, the first by `pki`; the last can sign.
fn ladder(pki: &Pki, count: usize) -> (Vec<CertificateDer<'static>>, Issuer<'static, KeyPair>) {
    let mut chain = Vec::new();
    let mut above: Option<Issuer<'static, KeyPair>> = None;
    for n in 0..count {
        let (params, key) = (authority(&format!("Step {n}")), KeyPair::generate().unwrap());
        let certificate = match &above {
            None => params.signed_by(&key, pki.issuer()),
            Some(above) => params.signed_by(&key, above),
        };
        chain.insert(0, certificate.unwrap().der().clone());
        above = Some(Issuer::new(params, key));
    }
    (chain, above.unwrap())
}

/// What the client gets to see of an upgrade; nothing when the handshake fails.
async fn answer(server: &Server, config: &Arc<ClientConfig>) -> String {
    let exchange = async {
        let Ok(mut tls) = crate::support::vehicle::tls(server.address, config).await else { return String::new() };
        if tls.write_all(UPGRADE).await.is_err() {
            return String::new();
        }
        let mut answer = vec![0; 4096];
        let read = tls.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an answer, or the end")
}

async fn refused(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("connection_refused_total{{reason=\"{reason}\"}}")).await
}

/// So many connections are refused, for whatever reasons.
async fn all_are_refused(server: &Server, count: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = get(server.metrics, "/metrics").await;
        let lines = metrics.lines().filter(|line| line.starts_with("connection_refused_total{"));
        let refused: f64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        if (refused - count).abs() < 1e-9 {
            return;
        }
        assert!(Instant::now() < deadline, "{refused} are refused, not {count}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn certificates_that_are_no_vehicles_are_refused_and_counted() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let (own, own_key) = leaf(|_| {});
    let own = pki.client_with_chain(vec![own.self_signed(&own_key).unwrap().der().clone()], &own_key);
    let server_usage = leaf(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let expired = Leaf { common_name: VIN.into(), expired: true, ..Leaf::default() };
    let future = leaf(|leaf| leaf.not_before = rcgen::date_time_ymd(2099, 1, 1));
    for (config, reason) in [
        (own, "unknown_issuer"),
        (signed(&pki, server_usage, vec![]), "bad_certificate"),
        (pki.client(&expired), "certificate_dates"),
        (signed(&pki, future, vec![]), "certificate_dates"),
    ] {
        let before = refused(&server, reason).await;
        assert_eq!(answer(&server, &config).await, "", "{reason}");
        server.metric_becomes(&format!("connection_refused_total{{reason=\"{reason}\"}}"), before + 1.0).await;
    }
    witness.testify("certificates that are no vehicle's").await;
}

#[tokio::test]
async fn long_chains_and_loops_cost_little_and_let_nobody_in() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let (chain, last) = ladder(&pki, 99);
    let (params, key) = leaf(|_| {});
    let hundred = [vec![params.signed_by(&key, &last).unwrap().der().clone()], chain].concat();
    let hundred = pki.client_with_chain(hundred, &key);
    let honest = cost(&server, &pki.vehicle(VIN), "HTTP/1.1 101 ").await;
    for (config, what) in
        [(hundred, "100 certificates"), (looped(&pki, 40), "a long loop"), (looped(&pki, 3), "a loop")]
    {
        let cost = cost(&server, &config, "").await;
        println!("{what}: {COUNT} of them cost {cost} ms, honest vehicles {honest} ms");
        assert!(cost < 8 * honest + 1000, "{what}: {COUNT} of them cost {cost} ms, honest vehicles {honest} ms");
    }
    assert!(
        refused(&server, "unknown_issuer").await + refused(&server, "bad_certificate").await >= f64::from(3 * COUNT)
    );
    witness.testify("chains of 100 certificates, and loops").await;
}

const COUNT: u32 = 20;

/// What [`COUNT`] handshakes cost the server: milliseconds of its processors.
async fn cost(server: &Server, config: &Arc<ClientConfig>, expected: &str) -> u64 {
    let before = process::cpu_ms(server.pid());
    for _ in 0..COUNT {
        let answer = answer(server, config).await;
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{answer}");
    }
    process::cpu_ms(server.pid()) - before
}

/// Two authorities that sign each other, `times` over: each step has so many ways to go on.
fn looped(pki: &Pki, times: u64) -> Arc<ClientConfig> {
    let keys = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    let [a, b] = keys;
    let (a, b) = (Issuer::new(authority("A"), a), Issuer::new(authority("B"), b));
    let mut chain = Vec::new();
    let (params, key) = leaf(|_| {});
    chain.push(params.signed_by(&key, &a).unwrap().der().clone());
    for n in 0..times {
        let mut other = authority("A");
        other.serial_number = Some(n.into());
        chain.push(other.signed_by(a.key(), &b).unwrap().der().clone());
        let mut other = authority("B");
        other.serial_number = Some(n.into());
        chain.push(other.signed_by(b.key(), &a).unwrap().der().clone());
    }
    pki.client_with_chain(chain, &key)
}

#[tokio::test]
async fn a_vehicle_with_a_thousand_names_is_itself() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let names = leaf(|leaf| {
        let name = |n| SanType::DnsName(format!("name-{n}.example").try_into().unwrap());
        leaf.subject_alt_names = (0..1000).map(name).collect();
    });
    let config = signed(&pki, names, vec![]);
    let mut vehicle = Vehicle::connect(server.address, &config, VIN).await;
    vehicle.send("alerts", "t", b"").await;
    vehicle.expect_ack("alerts", "t").await;
    witness.testify("a leaf with 1,000 names").await;
}

#[tokio::test]
async fn common_names_that_are_none_are_refused_and_do_not_flood_the_log() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let huge = "5".repeat(30_000);
    let [nul, escape] = ["5YJ\0EVIL", "5YJ\u{1b}[31m\n2026-01-01 level=info"];
    for common_name in [nul, escape, &huge] {
        let (params, key) = (named(common_name), KeyPair::generate().unwrap());
        let config = signed(&pki, (params, key), vec![]);
        let answer = answer(&server, &config).await;
        println!("a common name of {} bytes: {:?}", common_name.len(), answer.lines().next());
        assert!(answer.starts_with("HTTP/1.1 403 ") || answer.is_empty(), "{answer}");
    }
    let log = server.stderr();
    assert!(!log.contains('\0') && !log.contains('\u{1b}'), "what a certificate says is escaped");
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 4096, "a line of {longest} bytes");
    witness.testify("common names that are none").await;
}

#[tokio::test]
async fn a_handshake_message_of_16_mb_is_refused_by_its_header() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let before = process::resident_bytes(server.pid());
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        // A ClientHello that says it has 2^24 - 1 bytes, in records of 16 KiB.
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.extend([1, 0xff, 0xff, 0xff]);
        record.resize(5 + 0x4000, 0);
        let mut sent = 0;
        while sent < 16 * MIB && tcp.write_all(&record).await.is_ok() {
            sent += record.len() as u64;
            record[5..9].fill(0);
        }
        assert!(sent < 8 * MIB, "the server read {sent} bytes of it");
        streams.push(tcp);
    }
    let grown = process::resident_bytes(server.pid()).saturating_sub(before);
    println!("16 handshake messages of 16 MB: memory grew by {} KiB", grown / 1024);
    assert!(grown < 16 * MIB, "memory grew by {grown} bytes");
    all_are_refused(&server, 16.0).await;
    witness.testify("handshake messages of 16 MB").await;
}

#[tokio::test]
async fn a_certificate_message_of_a_megabyte_is_refused() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let (behind, _) = ladder(&pki, 1);
    let config = signed(&pki, leaf(|_| {}), vec![behind[0].clone(); 2500]);
    assert_eq!(answer(&server, &config).await, "");
    witness.testify("a certificate message of 1 MB").await;
}

#[tokio::test]
async fn what_is_no_tls_of_our_time_is_refused_at_once() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let old = record(&client_hello([3, 1]));
    let garbage = (0..10_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>();
    let alerts = [21, 3, 1, 0, 2, 1, 90].repeat(10_000);
    let empty = [22, 3, 1, 0, 0].repeat(10_000);
    for (bytes, what) in [
        (&old[..], "TLS 1.0"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "plain HTTP"),
        (&garbage, "garbage"),
        (&alerts, "alerts before the handshake"),
        (&empty, "empty records before the handshake"),
        (b"\x80\x2e\x01\x00\x02", "SSL 2"),
    ] {
        let started = Instant::now();
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        let _ = tcp.write_all(bytes).await;
        let mut answer = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(5), tcp.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "{what}: still open after {:?}", started.elapsed());
        assert!(answer.len() < 64, "{what}: an alert at most, not {answer:?}");
    }
    all_are_refused(&server, 6.0).await;
    witness.testify("old TLS, plain HTTP and garbage").await;
}

/// A `ClientHello` of an old client: a version, and no extension that says it could do better.
pub(crate) fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    // No session id; TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA and its successor with GCM; no compression.
    body.extend([0, 0, 4, 0xc0, 0x09, 0xc0, 0x2b, 1, 0]);
    let mut hello = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    hello.extend(body);
    hello
}

fn record(handshake: &[u8]) -> Vec<u8> {
    let length = u16::try_from(handshake.len()).unwrap().to_be_bytes();
    [&[22, 3, 1], &length[..], handshake].concat()
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_handshake_is_forgotten() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let before = process::descriptors(server.pid());
    for n in 0..200 {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        let hello = record(&client_hello([3, 3]));
        tcp.write_all(&hello[..1 + n % hello.len()]).await.unwrap();
        if n % 2 == 0 {
            tcp.set_zero_linger().unwrap();
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while process::descriptors(server.pid()) > before + 2 {
        assert!(Instant::now() < deadline, "{} descriptors, not {before}", process::descriptors(server.pid()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(exchange(server.address, &pki.vehicle(VIN), b"GET /status HTTP/1.0\r\n\r\n").await.contains("mtls ok"));
    witness.testify("200 clients that leave in their handshake").await;
}
