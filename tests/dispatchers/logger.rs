//! The contract of dispatchers, for log lines, and what the logger adds.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use fleet_telemetry::config::{self, InFlight};
use fleet_telemetry::dispatch::logger::Logger;
use fleet_telemetry::dispatch::{Dispatcher, Health, Outcome};
use fleet_telemetry::logging::Log;
use fleet_telemetry::record::Topics;
use serde_json::Value;

use crate::contract::{Bench, CUSTOM_TOPIC, Harness, Held};

crate::contract::suite!(Reader);

/// Whoever reads the log.
#[derive(Clone, Default)]
struct Reader(Arc<(Mutex<Stream>, Condvar)>);

#[derive(Default)]
struct Stream {
    text: Vec<u8>,
    /// Nobody reads, and the pipe is full.
    is_stuck: bool,
    /// What the system says instead of taking anything.
    error: Option<io::ErrorKind>,
}

impl Reader {
    fn change(&self, change: impl FnOnce(&mut Stream)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.0.lock().unwrap().text.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect("a whole line of JSON")).collect()
    }

    fn logger(&self, topics: &Topics, config: &config::Logger) -> Logger {
        let level = tracing::level_filters::LevelFilter::INFO;
        let lines =
            config::Log { level, json: true, suppress_handshake_errors: false, max_lines: 100, max_bytes: 1 << 20 };
        Logger::new(config, topics, Log::start(&lines, Box::new(self.clone())).unwrap())
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.0.1.wait_while(self.0.0.lock().unwrap(), |stream| stream.is_stuck).unwrap();
        if let Some(error) = stream.error {
            return Err(error.into());
        }
        stream.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Harness for Reader {
    const NOT_EXACT: Option<&'static str> = Some(
        "a line shows a txid that is not UTF-8 with replacement characters, and no payload of custom topics, as in the \
         reference server",
    );
    const OPAQUE: bool = false;

    async fn start() -> Self {
        Self::default()
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
        Arc::new(self.logger(
            topics,
            &config::Logger {
                max_unsettled: InFlight { records: max_unsettled, bytes: 1 << 30 },
                ..config::Logger::default()
            },
        ))
    }

    async fn held(&self) -> Vec<Held> {
        let records = self.lines().into_iter().filter(|line| line["msg"] == "record_payload");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        records
            .map(|line| Held {
                vin: text(&line["metadata"]["vin"]),
                topic: text(&line["metadata"]["txtype"]),
                txid: text(&line["metadata"]["txid"]).into_bytes(),
                payload: None,
            })
            .collect()
    }

    async fn cut(&self) {
        self.change(|stream| stream.is_stuck = true);
    }

    async fn restore(&self) {
        self.change(|stream| stream.is_stuck = false);
    }
}

#[tokio::test]
async fn what_the_system_refuses_is_lost_and_the_next_line_may_be_delivered() {
    let reader = Reader::start().await;
    let bench = Bench::new(&reader, 64).await;
    reader.change(|stream| stream.error = Some(io::ErrorKind::StorageFull));
    for n in 0..5 {
        bench.send(&bench.record("VIN", n)).await;
        assert_eq!(bench.settled::<Reader>(1).await[0].outcome, Outcome::Lost);
    }
    let Health::Unhealthy(reason) = bench.dispatcher.health() else { panic!("healthy on a full disk") };
    assert!(reason.contains("no storage space"), "{reason}");
    reader.change(|stream| stream.error = None);
    bench.send(&bench.record("VIN", 5)).await;
    assert_eq!(bench.settled::<Reader>(1).await[0].outcome, Outcome::Delivered);
    bench.until::<Reader>("healthy", || bench.dispatcher.health() == Health::Healthy).await;
    // What is missing is said, records apart from other lines.
    bench.until::<Reader>("told", || reader.lines().iter().any(|line| line["record_lines"] == 5)).await;
    assert_eq!(reader.held().await.len(), 1);
}

#[tokio::test]
async fn lines_that_wait_are_bounded_in_bytes_too() {
    let reader = Reader::start().await;
    let topics = Topics::new([CUSTOM_TOPIC]);
    let config =
        config::Logger { max_unsettled: InFlight { records: 10_000, bytes: 64 << 10 }, ..config::Logger::default() };
    let bench = Bench::over(Arc::new(reader.logger(&topics, &config)), topics, false);
    reader.cut().await;
    let mut taken = 0;
    let blocked = loop {
        match bench.try_send(&bench.record("VIN", taken)) {
            Ok(()) => taken += 1,
            Err(blocked) => break blocked,
        }
        assert!(taken < 1000, "64 KiB are fewer lines than that");
    };
    assert!(taken > 10, "{taken}");
    assert_eq!(bench.dispatcher.outbox().used().records, taken, "whoever found no room holds no place");
    reader.restore().await;
    bench.resume(blocked).await;
    let settled = bench.settled::<Reader>(taken + 1).await;
    assert!(settled.iter().all(|settled| settled.outcome == Outcome::Delivered));
    bench.close::<Reader>().await;
}

#[tokio::test]
async fn a_close_settles_the_line_that_the_writer_is_stuck_at() {
    let reader = Reader::start().await;
    let bench = Bench::new(&reader, 64).await;
    reader.cut().await;
    bench.send(&bench.record("VIN", 0)).await;
    bench.until::<Reader>("stuck", || bench.dispatcher.health() != Health::Healthy).await;
    bench.dispatcher.close(std::time::Instant::now() + Duration::from_millis(50)).await;
    assert_eq!(bench.settled::<Reader>(1).await[0].outcome, Outcome::Lost);
    reader.restore().await;
    bench.until::<Reader>("written", || !reader.lines().is_empty()).await;
    assert_eq!(bench.dispatcher.outbox().used().records, 0, "a late success settles nothing again");
}
