//! The admin API of permissions, as a client with the token sees it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const TOKEN: &str = "0123456789abcdef0123";

#[derive(Clone, Copy, Debug)]
pub struct Api(pub SocketAddr);

impl Api {
    /// On the port that a configuration names.
    pub fn of(config: &Value) -> Self {
        let port = config["permissions"]["api"]["port"].as_u64().unwrap();
        Self(SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap())))
    }

    /// Status and body.
    pub async fn ask(self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(self.0).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// Sets the location scope of one vehicle; the answer.
    pub async fn set(self, vin: &str, wish: &Value) -> Value {
        let path = format!("/v1/vehicles/{vin}/scopes/vehicle_location");
        let (status, body) = self.ask("PUT", &path, &wish.to_string()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub async fn grant(self, vin: &str) -> Value {
        self.set(vin, &json!({ "state": "granted", "source": "test" })).await
    }

    pub async fn revoke(self, vin: &str) -> Value {
        self.set(vin, &json!({ "state": "denied", "source": "test" })).await
    }
}
