//! `status_port`, `status_host` and `monitoring`: the plain-HTTP listeners for operators.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::Problems;
use super::ports::address;
use super::section::Section;

/// The keys about plain-HTTP listeners for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileAdmin {
    /// Bind host of the status port (ours); empty is all interfaces.
    pub status_host: Option<String>,
    /// The plain-HTTP status port; 0 or less turns it off.
    pub status_port: Option<i64>,
    /// Metrics.
    pub monitoring: Option<FileMonitoring>,
}

/// `monitoring`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMonitoring {
    /// More than 0 turns `/metrics` on.
    pub prometheus_metrics_port: Option<i64>,
    /// Bind host of `/metrics`; 127.0.0.1 by default.
    pub prometheus_metrics_host: Option<String>,
}

/// Plain-HTTP listeners.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// `/status` (the reference's), `/livez`, `/readyz`.
    pub status: Option<SocketAddr>,
    /// `/metrics`, `/livez`, `/readyz`.
    pub metrics: Option<SocketAddr>,
}

impl FileAdmin {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            status_host: section.value("status_host"),
            status_port: section.value("status_port"),
            monitoring: section.object("monitoring", FileMonitoring::read),
        }
    }
}

impl FileMonitoring {
    fn read(section: &mut Section<'_>) -> Self {
        let monitoring = Self {
            prometheus_metrics_port: section.value("prometheus_metrics_port"),
            prometheus_metrics_host: section.value("prometheus_metrics_host"),
        };
        for profiler in ["profiler_port", "profiler_host", "profiling_path"] {
            section.ineffective(profiler, "this build has no profiler");
        }
        section.ineffective("statsd", "this build has no StatsD client; use prometheus_metrics_port");
        monitoring
    }
}

pub(super) fn resolve(file: &FileAdmin, problems: &mut Problems) -> Admin {
    let monitoring = file.monitoring.clone().unwrap_or_default();
    let status =
        turned_on("status_port", file.status_port, problems).and_then(|port| match file.status_host.as_deref() {
            None | Some("") => Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)),
            Some(host) => address("status_host", host, port, problems),
        });
    let port = turned_on("monitoring.prometheus_metrics_port", monitoring.prometheus_metrics_port, problems);
    let metrics = port.and_then(|port| match monitoring.prometheus_metrics_host.as_deref() {
        // The reference server's default. In a container, set the host: nobody outside reaches this one.
        None | Some("") => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        Some(host) => address("monitoring.prometheus_metrics_host", host, port, problems),
    });
    Admin { status, metrics }
}

/// 0 and less turn a listener off.
fn turned_on(key: &str, port: Option<i64>, problems: &mut Problems) -> Option<u16> {
    let port = port.filter(|port| *port > 0)?;
    Some(problems.number(key, Some(port), 1..=65_535, 0))
}
