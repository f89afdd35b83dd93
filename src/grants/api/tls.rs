//! The certificates of the admin API: ours, and whose let a client in.

use crate::config;
use crate::tls::{Clients, File, Files, Tls, TlsError, Trusted};

/// With a `client_ca`, clients show a certificate; where a token would do as well, they may.
pub(super) fn load(files: &config::ApiTls, has_token: bool) -> Result<Tls, TlsError> {
    Tls::load(of(files, has_token))
}

/// The files that the section names.
pub(super) fn of(files: &config::ApiTls, has_token: bool) -> Files {
    let client_ca = files.client_ca.as_ref();
    let client_ca = client_ca.map(|path| File { key: "permissions.api.tls.client_ca", path: path.clone() });
    let trusted = client_ca.map(|file| Trusted { maker: None, file: Some(file) });
    Files {
        listener: "permissions_api",
        cert: File { key: "permissions.api.tls.cert", path: files.cert.clone() },
        key: File { key: "permissions.api.tls.key", path: files.key.clone() },
        clients: match trusted {
            None => Clients::Anonymous,
            Some(trusted) if has_token => Clients::Optional(trusted),
            Some(trusted) => Clients::Required(trusted),
        },
    }
}
