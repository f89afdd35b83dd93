//! Which server is asked for which key: one, the one that sentinels name, or that of a cluster which has the key's slot.

use std::time::Duration;

use super::names::{SLOTS, slot};
use super::resp::Reply;
use super::server::{Address, Login, Pipeline, Server, Trouble};
use crate::config::{self, RedisMode};

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// All of them.
    One(Address),
    /// By slot: which of the nodes.
    Cluster { nodes: Vec<Address>, owners: Vec<u16> },
}

/// Who says where keys are.
pub(super) struct Guide {
    mode: RedisMode,
    seeds: Vec<Address>,
    login: Login,
    sentinels: Login,
    patience: Duration,
}

/// A slot that no node has.
const NOBODY: u16 = u16::MAX;

impl Topology {
    /// The server for a key; `None` where the cluster has none at the moment.
    pub(super) fn server(&self, key: &[u8]) -> Option<&Address> {
        match self {
            Self::One(address) => Some(address),
            Self::Cluster { nodes, owners } => nodes.get(usize::from(owners[usize::from(slot(key))])),
        }
    }

    pub(super) fn servers(&self) -> &[Address] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Cluster { nodes, .. } => nodes,
        }
    }
}

impl Guide {
    /// # Errors
    /// When files cannot be used.
    pub(super) fn new(config: &config::Redis) -> Result<Self, crate::tls::client::ClientTlsError> {
        let seeds = config.addresses.iter().map(|(host, port)| Address { host: host.clone(), port: *port });
        Ok(Self {
            mode: config.mode.clone(),
            seeds: seeds.collect(),
            login: Login::new(config)?,
            sentinels: Login::of_sentinels(config)?,
            patience: config.publish_timeout,
        })
    }

    pub(super) async fn connect(&self, address: &Address) -> Result<Server, Trouble> {
        Server::connect(address, &self.login, self.patience).await
    }

    /// Asks; `known` are servers that were part of it before.
    ///
    /// # Errors
    /// What each of those said that were asked.
    pub(super) async fn topology(&self, known: &[Address]) -> Result<Topology, String> {
        match &self.mode {
            RedisMode::Single => Ok(Topology::One(self.seeds[0].clone())),
            RedisMode::Sentinel { master } => self.first(&[], |sentinel| self.master(sentinel, master)).await,
            RedisMode::Cluster => self.first(known, |node| self.slots(node)).await,
        }
    }

    /// What the first of the seeds, then of the `known`, says that can say something.
    async fn first<F>(&self, known: &[Address], ask: impl Fn(Address) -> F) -> Result<Topology, String>
    where
        F: Future<Output = Result<Topology, Trouble>>,
    {
        let mut troubles = Vec::new();
        let known = known.iter().filter(|address| !self.seeds.contains(address));
        for address in self.seeds.iter().chain(known) {
            match ask(address.clone()).await {
                Ok(topology) => return Ok(topology),
                Err(trouble) => troubles.push(format!("{address}: {trouble}")),
            }
        }
        Err(troubles.join("; "))
    }

    async fn master(&self, sentinel: Address, master: &str) -> Result<Topology, Trouble> {
        let mut server = Server::connect(&sentinel, &self.sentinels, self.patience).await?;
        let ask = Pipeline::one(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()]);
        let address = match server.run(&ask, self.patience).await?.pop() {
            Some(Reply::Array(parts)) => address(&parts),
            Some(Reply::Error(error)) => return Err(Trouble::Refused(error)),
            _ => None,
        };
        let unknown = || Trouble::Refused(format!("the sentinel knows no master {master:?} (redis.sentinel_master)"));
        let address = address.ok_or_else(unknown)?;
        // A sentinel that is behind may name one that is a replica by now.
        let mut server = self.connect(&address).await.map_err(|trouble| of(&address, trouble))?;
        match server.run(&Pipeline::one(&[b"ROLE"]), self.patience).await?.pop() {
            Some(Reply::Array(role)) if role.first() == Some(&Reply::Bytes(b"master".to_vec())) => {
                Ok(Topology::One(address))
            }
            role => Err(Trouble::Refused(format!("{address} is no master: {role:?}"))),
        }
    }

    async fn slots(&self, node: Address) -> Result<Topology, Trouble> {
        let mut server = self.connect(&node).await?;
        match server.run(&Pipeline::one(&[b"CLUSTER", b"SLOTS"]), self.patience).await?.pop() {
            Some(Reply::Array(ranges)) => Ok(cluster(&ranges, &node)),
            Some(Reply::Error(error)) => Err(Trouble::Refused(error)),
            _ => Err(Trouble::Refused("no list of slots".to_owned())),
        }
    }
}

fn of(address: &Address, trouble: Trouble) -> Trouble {
    Trouble::Refused(format!("{address}: {trouble}"))
}

/// From `[host, port, …]`, where the port may be text.
fn address(parts: &[Reply]) -> Option<Address> {
    let [Reply::Bytes(host), port, ..] = parts else { return None };
    let port = match port {
        Reply::Integer(port) => u16::try_from(*port).ok()?,
        Reply::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        _ => return None,
    };
    Some(Address { host: String::from_utf8(host.clone()).ok()?, port })
}

/// From ranges `[first, last, [host, port, …], …]`. A node that does not know its own host means that of `asked`.
fn cluster(ranges: &[Reply], asked: &Address) -> Topology {
    let mut nodes: Vec<Address> = Vec::new();
    let mut owners = vec![NOBODY; usize::from(SLOTS)];
    for range in ranges {
        let Reply::Array(range) = range else { continue };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(master), ..] = range.as_slice() else {
            continue;
        };
        let Some(mut master) = address(master) else { continue };
        if master.host.is_empty() {
            master.host.clone_from(&asked.host);
        }
        let at = nodes.iter().position(|node| *node == master).unwrap_or_else(|| {
            nodes.push(master);
            nodes.len() - 1
        });
        let slots = usize::try_from(*first).unwrap_or(0)..usize::try_from(*last).map_or(0, |last| last + 1);
        if let (Some(slots), Ok(at)) = (owners.get_mut(slots), u16::try_from(at)) {
            slots.fill(at);
        }
    }
    Topology::Cluster { nodes, owners }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn slots_belong_to_the_masters_of_their_ranges() {
        let node = |host: &str, port| Reply::Array(vec![bytes(host), Reply::Integer(port), bytes("id")]);
        let range = |first, last, master| Reply::Array(vec![Reply::Integer(first), Reply::Integer(last), master]);
        let asked = Address { host: "seed".to_owned(), port: 7000 };
        let ranges =
            [range(0, 12_181, node("a", 1)), range(12_183, 16_383, node("", 2)), range(1, 99_999, node("c", 3))];
        let topology = cluster(&ranges, &asked);
        let of = |key: &str| topology.server(key.as_bytes()).map(ToString::to_string);
        assert_eq!(of("{user1000}.x").as_deref(), Some("a:1"));
        assert_eq!(of("foo"), None, "12182 is nobody's");
        // The slot of "123456789" is 12739.
        assert_eq!(of("123456789").as_deref(), Some("seed:2"));
        assert_eq!(topology.servers().len(), 3);
    }
}
