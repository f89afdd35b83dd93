//! What becomes of a batch: two rounds of commands to all servers side by side. The first asks who wants the records, the
//! second sends them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use metrics::{Counter, counter};

use super::names::Names;
use super::resp::Reply;
use super::server::{Address, Pipeline, Server, Trouble};
use super::topology::{Guide, Topology};
use crate::config::{self, Form, NoChannel};
use crate::dispatch::batching::{Fate, Sink};
use crate::record::{Record, RecordKind, Topics};

/// Owns the connections.
pub(super) struct Publisher {
    config: config::Redis,
    form: Form,
    topics: Topics,
    names: Box<[Names]>,
    guide: Guide,
    /// `None` when it has to be found out (again).
    topology: Option<Topology>,
    /// Of the last topology: they may still know the next one.
    known: Vec<Address>,
    servers: HashMap<Address, Server>,
    counted: Box<[Counted]>,
}

/// One command of a round.
struct Command {
    key: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    /// The record of the batch.
    owner: usize,
}

/// What became of a command.
type Outcome = Result<Reply, String>;

/// Counters of one record type.
struct Counted {
    messages: Counter,
    bytes: Counter,
    unheard: Counter,
}

/// Between two looks at idle servers.
const LOOK: Duration = Duration::from_secs(2);

impl Publisher {
    pub(super) fn new(config: &config::Redis, namespace: &str, form: Form, topics: &Topics, guide: Guide) -> Self {
        let prefix = config.subscriber_set_prefix.as_deref();
        Self {
            names: topics.table(|_, topic| Names::new(namespace, topic, prefix)),
            counted: topics.table(|_, topic| Counted::register(topic)),
            config: config.clone(),
            form,
            topics: topics.clone(),
            guide,
            topology: None,
            known: Vec::new(),
            servers: HashMap::new(),
        }
    }

    /// The topology, found out if it has to be.
    async fn topology(&mut self) -> Result<Topology, String> {
        if let Some(topology) = &self.topology {
            return Ok(topology.clone());
        }
        let topology = self.guide.topology(&self.known).await?;
        self.known = topology.servers().to_vec();
        self.servers.retain(|address, _| topology.servers().contains(address));
        Ok(self.topology.insert(topology).clone())
    }

    /// Sends each command to the server of its key, to all servers at the same time, and returns what became of each.
    async fn round(&mut self, commands: Vec<Command>) -> Vec<(usize, Outcome)> {
        let topology = match self.topology().await {
            Ok(topology) => topology,
            Err(reason) => return commands.into_iter().map(|command| (command.owner, Err(reason.clone()))).collect(),
        };
        let mut outcomes: Vec<Option<(usize, Outcome)>> = Vec::with_capacity(commands.len());
        let mut parts: HashMap<Address, (Pipeline, Vec<usize>)> = HashMap::new();
        for (at, command) in commands.iter().enumerate() {
            let Some(address) = topology.server(&command.key) else {
                outcomes.push(Some((command.owner, Err("no node of the cluster has its slot".to_owned()))));
                self.topology = None;
                continue;
            };
            outcomes.push(None);
            let (pipeline, positions) = parts.entry(address.clone()).or_default();
            let arguments: Vec<&[u8]> = command.arguments.iter().map(Vec::as_slice).collect();
            pipeline.push(&arguments);
            positions.push(at);
        }
        let (guide, patience) = (&self.guide, self.config.publish_timeout);
        let runs = parts.into_iter().map(|(address, (pipeline, positions))| {
            let server = self.servers.remove(&address);
            async move {
                let (server, replies) = run(guide, &address, server, &pipeline, patience).await;
                (address, server, replies, positions)
            }
        });
        for (address, server, replies, positions) in join_all(runs.collect::<Vec<_>>()).await {
            let owner = |at: &usize| commands[*at].owner;
            match replies {
                Ok(replies) => {
                    for (at, reply) in positions.iter().zip(replies) {
                        outcomes[*at] = Some((owner(at), self.judged(&address, reply)));
                    }
                }
                Err(trouble) => {
                    self.topology = None;
                    let reason = format!("{address}: {trouble}");
                    positions.iter().for_each(|at| outcomes[*at] = Some((owner(at), Err(reason.clone()))));
                }
            }
            if let Some(server) = server {
                self.servers.insert(address, server);
            }
        }
        outcomes.into_iter().flatten().collect()
    }

    /// Errors that pass by themselves, or with another topology, are taken out of the replies.
    fn judged(&mut self, address: &Address, reply: Reply) -> Outcome {
        let Reply::Error(error) = &reply else { return Ok(reply) };
        let kind = error.split(' ').next().unwrap_or_default();
        if MOVED.contains(&kind) {
            self.topology = None;
        } else if !PASSING.contains(&kind) {
            return Ok(reply);
        }
        Err(format!("{address}: {error}"))
    }

    /// The channels that want each record, besides its vehicle's own.
    async fn subscribers(&mut self, batch: &[Record]) -> Vec<Result<Vec<Vec<u8>>, Fate>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expired = format!("({now}").into_bytes();
        // Records of one vehicle and type ask once.
        let mut sets: HashMap<String, usize> = HashMap::new();
        let (mut commands, mut asked) = (Vec::new(), Vec::with_capacity(batch.len()));
        for record in batch {
            let names = &self.names[record.kind().index()];
            let Some(set) = names.set(record.vin()) else {
                asked.push(None);
                continue;
            };
            let next = sets.len();
            let at = *sets.entry(set.clone()).or_insert(next);
            asked.push(Some(at));
            if at == next {
                let key = set.into_bytes();
                let arguments: [&[&[u8]]; 2] =
                    [&[b"ZREMRANGEBYSCORE", &key, b"-inf", &expired], &[b"ZRANGE", &key, b"0", b"-1"]];
                commands.extend(arguments.map(|arguments| Command {
                    key: key.clone(),
                    arguments: arguments.iter().map(|argument| argument.to_vec()).collect(),
                    owner: at,
                }));
            }
        }
        let mut members: Vec<Result<Vec<Vec<u8>>, Fate>> = vec![Ok(Vec::new()); sets.len()];
        if !commands.is_empty() {
            for (at, outcome) in self.round(commands).await {
                match (outcome, &mut members[at]) {
                    (Ok(Reply::Array(channels)), Ok(members)) => {
                        members.extend(channels.into_iter().filter_map(|channel| match channel {
                            Reply::Bytes(name) => Some(name),
                            _ => None,
                        }));
                    }
                    (Ok(Reply::Error(error)), member) => *member = Err(Fate::Refused(error)),
                    (Err(reason), member) => *member = Err(Fate::Retry(reason)),
                    _ => {}
                }
            }
        }
        asked.into_iter().map(|at| at.map_or(Ok(Vec::new()), |at| members[at].clone())).collect()
    }

    /// What sends one record; `Err`: it is not sent.
    fn commands(&self, owner: usize, record: &Record, mut channels: Vec<Vec<u8>>) -> Result<Vec<Command>, Fate> {
        let payload = record.encoded(self.form).map_err(|error| Fate::Refused(error.to_string()))?;
        let names = &self.names[record.kind().index()];
        let own = names.channel(record.vin()).into_bytes();
        if self.config.publish_vin_topics {
            channels.push(own.clone());
        }
        let mut commands = Vec::with_capacity(channels.len() + 1);
        if let Some(streams) = &self.config.streams {
            commands.push(self.append(owner, record, payload, names.stream(), streams.max_length));
        }
        // All by the slot of the vehicle's own channel, so that one connection keeps their order: a cluster hands what is
        // published to all of its nodes.
        commands.extend(channels.into_iter().map(|channel| Command {
            key: own.clone(),
            arguments: vec![b"PUBLISH".to_vec(), channel, payload.to_vec()],
            owner,
        }));
        Ok(commands)
    }

    fn append(&self, owner: usize, record: &Record, payload: &[u8], stream: &str, max: Option<u64>) -> Command {
        let topic = self.topics.name(record.kind());
        let mut arguments = vec![b"XADD".to_vec(), stream.as_bytes().to_vec()];
        if let Some(max) = max {
            arguments.extend([b"MAXLEN".to_vec(), b"~".to_vec(), max.to_string().into_bytes()]);
        }
        arguments.push(b"*".to_vec());
        for (name, value) in record.metadata(topic).fields() {
            arguments.extend([name.as_bytes().to_vec(), value.to_vec()]);
        }
        let id = HEXLOWER.encode(&record.id(topic).to_be_bytes());
        arguments.extend([b"record_id".to_vec(), id.into_bytes(), b"payload".to_vec(), payload.to_vec()]);
        Command { key: stream.as_bytes().to_vec(), arguments, owner }
    }

    /// Nobody wants a record.
    fn unheard(&self, kind: RecordKind) -> Fate {
        self.counted[kind.index()].unheard.increment(1);
        match self.config.no_channel {
            NoChannel::Deliver => Fate::Delivered,
            NoChannel::Refuse => Fate::Refused("no channel wants it (redis.no_channel)".to_owned()),
        }
    }
}

/// Errors that say that keys are elsewhere, or that the server is another one than it was.
const MOVED: [&str; 5] = ["MOVED", "ASK", "READONLY", "CLUSTERDOWN", "MASTERDOWN"];
/// Errors that pass.
const PASSING: [&str; 6] = ["LOADING", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOREPLICAS"];

/// Over a connection that is there, or a new one if that has ended meanwhile.
async fn run(
    guide: &Guide,
    address: &Address,
    server: Option<Server>,
    pipeline: &Pipeline,
    patience: Duration,
) -> (Option<Server>, Result<Vec<Reply>, Trouble>) {
    let connected = match server {
        Some(server) => Ok(server),
        None => guide.connect(address).await,
    };
    let mut server = match connected {
        Ok(server) => server,
        Err(trouble) => return (None, Err(trouble)),
    };
    match server.run(pipeline, patience).await {
        Ok(replies) => (Some(server), Ok(replies)),
        Err(trouble) => (None, Err(trouble)),
    }
}

impl Sink for Publisher {
    async fn send(&mut self, batch: &[Record]) -> Vec<Fate> {
        let subscribers = self.subscribers(batch).await;
        let mut fates: Vec<Option<Fate>> = vec![None; batch.len()];
        let mut commands = Vec::new();
        for (owner, (record, channels)) in batch.iter().zip(subscribers).enumerate() {
            match channels.and_then(|channels| self.commands(owner, record, channels)) {
                Ok(own) if own.is_empty() => fates[owner] = Some(self.unheard(record.kind())),
                Ok(own) => commands.extend(own),
                Err(fate) => fates[owner] = Some(fate),
            }
        }
        if !commands.is_empty() {
            for (owner, outcome) in self.round(commands).await {
                let fate = match outcome {
                    Ok(Reply::Error(error)) => Fate::Refused(error),
                    Ok(_) => {
                        self.counted[batch[owner].kind().index()].sent(&batch[owner], self.form);
                        Fate::Delivered
                    }
                    Err(reason) => Fate::Retry(reason),
                };
                // A record is delivered when all of its commands are.
                let worse = fates[owner].take().filter(|fate| *fate != Fate::Delivered);
                fates[owner] = Some(worse.unwrap_or(fate));
            }
        }
        fates.into_iter().map(|fate| fate.unwrap_or_else(|| Fate::Retry("no answer".to_owned()))).collect()
    }

    async fn probe(&mut self) -> Result<Duration, String> {
        let topology = self.topology().await?;
        let (guide, patience) = (&self.guide, self.config.publish_timeout);
        let pings = topology.servers().iter().map(|address| {
            let server = self.servers.remove(address);
            async move {
                let ping = Pipeline::one(&[b"PING"]);
                let (server, replies) = run(guide, address, server, &ping, patience).await;
                (address, server, replies)
            }
        });
        let mut trouble = None;
        for (address, server, replies) in join_all(pings.collect::<Vec<_>>()).await {
            if let Some(server) = server {
                self.servers.insert(address.clone(), server);
            }
            if let Err(error) = replies {
                trouble = Some(format!("{address}: {error}"));
            }
        }
        match trouble {
            Some(trouble) => {
                self.topology = None;
                Err(trouble)
            }
            None => Ok(LOOK),
        }
    }

    async fn close(&mut self) {
        join_all(self.servers.drain().map(|(_, server)| server.close(GOODBYE))).await;
    }
}

/// For a goodbye.
const GOODBYE: Duration = Duration::from_millis(250);

impl Counted {
    fn register(topic: &str) -> Self {
        let family = |name: &'static str| counter!(name, "record_type" => topic.to_owned());
        Self {
            messages: family("redis_publish_total"),
            bytes: family("redis_publish_total_bytes"),
            unheard: family("redis_unheard_total"),
        }
    }

    fn sent(&self, record: &Record, form: Form) {
        self.messages.increment(1);
        self.bytes.increment(record.encoded(form).map_or(0, <[u8]>::len) as u64);
    }
}
