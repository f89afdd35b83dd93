//! The certificates of the mTLS port. Vehicles have to show one.

use crate::config;
use crate::tls::{Clients, File, Files, Trusted};
pub use crate::tls::{Tls, TlsError};

/// Loads what the section `tls` names.
///
/// # Errors
/// [`TlsError`] names the key and the file.
pub fn load(files: &config::Tls) -> Result<Tls, TlsError> {
    Tls::load(of(files))
}

/// The files that the section names.
pub(crate) fn of(files: &config::Tls) -> Files {
    Files {
        listener: "vehicles",
        cert: File { key: "tls.server_cert", path: files.server_cert.clone() },
        key: File { key: "tls.server_key", path: files.server_key.clone() },
        clients: Clients::Required(Trusted {
            maker: files.maker_ca,
            file: files.ca_file.clone().map(|path| File { key: "tls.ca_file", path }),
        }),
    }
}
