//! The API over real sockets.

mod changes;
mod openapi;
mod reading;
mod tls;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Api, Auth, serve};
use crate::config::{self, ApiToken, PermissionStore, PermissionsApi};
use crate::grants::Authority;
use crate::http::Bounds;
use crate::permissions::{Mode, Permissions, Rules};
use crate::scope::{Scope, Scopes};

const TOKEN: &str = "a-token-of-the-tests";
const VIN: &str = "5YJ3E1EA1KF000001";
const LOCATION: &str = "/v1/vehicles/5YJ3E1EA1KF000001/scopes/vehicle_location";

/// A running API over an empty store.
struct Server {
    address: SocketAddr,
    permissions: Arc<Permissions>,
    folder: tempfile::TempDir,
}

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Status, and the member `name` of the error.
    fn error(&self, name: &str) -> (u16, String) {
        (self.status, self.json()["error"][name].as_str().unwrap_or_default().to_owned())
    }
}

fn by_token(token: &str) -> PermissionsApi {
    PermissionsApi {
        address: "127.0.0.1:0".parse().unwrap(),
        token: Some(ApiToken::Inline(token.to_owned())),
        tls: None,
    }
}

async fn start() -> Server {
    start_with(&by_token(TOKEN)).await
}

async fn start_with(section: &PermissionsApi) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let store = PermissionStore::Sqlite { path: folder.path().join("permissions.db") };
    start_on(section, folder, store, Duration::from_secs(60)).await
}

async fn start_on(
    section: &PermissionsApi,
    folder: tempfile::TempDir,
    store: PermissionStore,
    max_stale: Duration,
) -> Server {
    let rules = Rules {
        mode: Mode::Enforce,
        strict: true,
        deny_unknown: true,
        enforced: Scopes::NONE.with(Scope::VehicleLocation),
        ..Rules::off()
    };
    let config =
        config::Permissions { rules: rules.clone(), store, max_stale, api: None, audit_topic: None, kafka: None };
    let permissions = Arc::new(Permissions::new(rules.clone()));
    let authority = Authority::open(&config, Arc::clone(&permissions)).await.unwrap();
    let api = Arc::new(Api::new(authority, rules, Auth::open(section).unwrap()));
    let listener = TcpListener::bind(section.address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounds = Bounds::register("permissions_api", config::Http::default());
    tokio::spawn(serve(listener, bounds, api, std::future::pending()));
    Server { address, permissions, folder }
}

impl Server {
    /// One request with the token.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.ask_as(&format!("Authorization: Bearer {TOKEN}\r\n{headers}"), method, path, body).await
    }

    /// One request with exactly these headers, each ended by CRLF.
    async fn ask_as(&self, headers: &str, method: &str, path: &str, body: &str) -> Answer {
        exchange(TcpStream::connect(self.address).await.unwrap(), headers, method, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    async fn put(&self, path: &str, body: &str) -> Answer {
        self.ask("PUT", path, "", body).await
    }

    async fn import(&self, kind: &str, body: &str) -> Answer {
        self.ask("POST", "/v1/import", &format!("Content-Type: {kind}\r\n"), body).await
    }
}

async fn exchange<IO>(mut stream: IO, headers: &str, method: &str, path: &str, body: &str) -> Answer
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may refuse, and close, before it has read the body.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
