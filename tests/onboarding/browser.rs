//! A headless Chromium, driven over its own protocol.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Browser {
    child: Child,
    socket: WebSocketStream<TcpStream>,
    asked: u64,
}

impl Browser {
    /// Everything it keeps is in `dir`.
    pub(crate) async fn start(dir: &Path) -> Self {
        let profile = dir.join("browser");
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            "--ignore-certificate-errors",
        ]);
        command.args([
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("chromium; `scripts/setup test` installs it");
        let deadline = Instant::now() + Duration::from_secs(60);
        let port = loop {
            let said = std::fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            match said.lines().next().and_then(|line| line.parse::<u16>().ok()) {
                Some(port) if said.lines().count() > 1 => break port,
                _ => assert!(Instant::now() < deadline, "chromium does not start"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let page = page(port).await;
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(page, stream).await.unwrap();
        Self { child, socket, asked: 0 }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let asked = json!({"id": self.asked, "method": method, "params": params}).to_string();
        self.socket.send(Message::text(asked)).await.unwrap();
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect(method).unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.asked {
                return answer["result"].clone();
            }
        }
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        self.ask("Runtime.evaluate", params).await["result"]["value"].clone()
    }

    pub(crate) async fn open(&mut self, url: &str) {
        self.ask("Page.navigate", json!({ "url": url })).await;
    }

    /// Waits for a page with this title, whole.
    pub(crate) async fn sees(&mut self, title: &str) {
        self.becomes(&format!("document.title === {} && document.readyState === 'complete'", json!(title))).await;
    }

    pub(crate) async fn becomes(&mut self, condition: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.eval(condition).await != true {
            if Instant::now() > deadline {
                let shown = self.eval("document.title + ': ' + document.body.innerText").await;
                panic!("{condition} is not so on {shown}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn click(&mut self, selector: &str) {
        let found = self
            .eval(&format!("(e => e ? (e.click(), true) : false)(document.querySelector({}))", json!(selector)))
            .await;
        assert_eq!(found, true, "{selector}");
    }

    /// The page as it is, on a phone and on a desktop; nothing may stand out at the sides.
    pub(crate) async fn photograph(&mut self, name: &str) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onboarding-pages");
        std::fs::create_dir_all(&dir).unwrap();
        for (width, scheme) in [(320, "light"), (320, "dark"), (1024, "light")] {
            let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
            self.ask("Emulation.setDeviceMetricsOverride", size).await;
            let dark = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            self.ask("Emulation.setEmulatedMedia", dark).await;
            let overflow = self.eval("document.documentElement.scrollWidth - innerWidth").await;
            assert!(overflow.as_i64().unwrap() <= 0, "{name} is {overflow} px wider than {width} px");
            let shot = self.ask("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await;
            let png = BASE64.decode(shot["data"].as_str().unwrap().as_bytes()).unwrap();
            std::fs::write(dir.join(format!("{name}-{width}-{scheme}.png")), png).unwrap();
        }
    }
}

/// Where the first page is driven.
async fn page(port: u16) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /json/list HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    // It does not hang up.
    loop {
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut chunk)).await;
        match read {
            Ok(Ok(read)) if read > 0 => answer.extend_from_slice(&chunk[..read]),
            _ => break,
        }
    }
    let text = String::from_utf8(answer).unwrap();
    let pages: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let page = pages.as_array().unwrap().iter().find(|page| page["type"] == "page").unwrap();
    page["webSocketDebuggerUrl"].as_str().unwrap().to_owned()
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
