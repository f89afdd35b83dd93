//! Messages of the topic: key `VIN|scope`, value one JSON object.
//!
//! ```text
//! {"vin": "5YJ…", "scope": "vehicle_location", "state": "denied", "since": "2026-01-01T00:00:00Z", "expires": null,
//!  "source": "owner", "note": "", "version": 3, "at": "2026-01-01T00:00:00.012Z", "actor": {"who": "admin", "from": "10.0.0.7"}}
//! ```

use serde::{Deserialize, Serialize};

use crate::grants::change::{Actor, Entry};
use crate::grants::clock::rfc3339;
use crate::grants::written::{WrittenGrant, time};
use crate::scope::Scope;

#[derive(Serialize, Deserialize)]
struct Message {
    vin: String,
    scope: String,
    #[serde(flatten)]
    grant: WrittenGrant,
    at: String,
    actor: Who,
}

#[derive(Serialize, Deserialize)]
struct Who {
    who: String,
    from: String,
}

pub(super) fn key(vin: &str, scope: Scope) -> String {
    format!("{vin}|{scope}")
}

/// VIN and scope of a key; `None`: it is not one of ours.
pub(super) fn parse_key(key: &[u8]) -> Option<(&str, Scope)> {
    let (vin, scope) = std::str::from_utf8(key).ok()?.rsplit_once('|')?;
    Some((vin, Scope::parse(scope)?)).filter(|(vin, _)| !vin.is_empty())
}

pub(super) fn value(vin: &str, entry: &Entry) -> Vec<u8> {
    let Entry { at_ms, scope, grant, actor } = entry;
    let message = Message {
        vin: vin.to_owned(),
        scope: scope.label().to_owned(),
        grant: grant.into(),
        at: rfc3339(*at_ms),
        actor: Who { who: actor.who.clone(), from: actor.from.clone() },
    };
    serde_json::to_vec(&message).expect("strings and numbers are JSON")
}

/// The entry of a value.
pub(super) fn parse_value(vin: &str, scope: Scope, value: &[u8]) -> Result<Entry, String> {
    let message: Message = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if message.vin != vin || message.scope != scope.label() {
        return Err("vin and scope are not those of the key".to_owned());
    }
    let actor = Actor { who: message.actor.who, from: message.actor.from };
    Ok(Entry { at_ms: time(&message.at)?, scope, grant: message.grant.read()?, actor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::{Grant, State};

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let grant = Grant {
            state: State::Granted,
            since_ms: 1,
            expires_ms: Some(2_000),
            source: "a|\"b".to_owned(),
            note: "\n".to_owned(),
            version: 7,
        };
        let actor = Actor { who: "admin".to_owned(), from: "::1".to_owned() };
        let entry = Entry { at_ms: 5, scope: Scope::Media, grant, actor };
        let (key, value) = (key("V|1", Scope::Media), value("V|1", &entry));
        assert_eq!(parse_key(key.as_bytes()), Some(("V|1", Scope::Media)));
        assert_eq!(parse_value("V|1", Scope::Media, &value).unwrap(), entry);
        assert!(parse_value("V2", Scope::Media, &value).unwrap_err().contains("not those of the key"));
        assert!(parse_value("V|1", Scope::Media, b"{}").unwrap_err().contains("missing field"));
        assert_eq!(parse_key(b"V1|radio"), None);
        assert_eq!(parse_key(b"|media"), None);
    }
}
