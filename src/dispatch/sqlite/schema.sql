-- Version 1. Times are integer milliseconds since the epoch (UTC); each has a text twin for people.

-- One row per record, in the order of arrival. Ids are never used again.
CREATE TABLE records (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    vin               TEXT    NOT NULL,
    type              TEXT    NOT NULL,
    -- Text when it is text, else a blob: the vehicle may send any bytes.
    txid              BLOB    NOT NULL,
    -- By the vehicle's clock; 0 when the payload does not say.
    created_ms        INTEGER NOT NULL,
    received_ms       INTEGER NOT NULL,
    is_resend         INTEGER NOT NULL,
    connection_id     TEXT    NOT NULL,
    network_interface TEXT    NOT NULL,
    -- Of txid and payload; tells a resend from another record of the same millisecond.
    digest            BLOB    NOT NULL,
    payload           BLOB    NOT NULL,
    created_at        TEXT AS (CASE WHEN created_ms <> 0 THEN strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch') END) VIRTUAL,
    received_at       TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', received_ms / 1000.0, 'unixepoch')) VIRTUAL
);

-- For people (one vehicle, one type, by time) and against duplicates (a resend is the same record).
CREATE UNIQUE INDEX records_by_vehicle ON records (vin, type, created_ms, digest);

-- One row per datum of a V record. The columns without a type keep integers and decimals apart.
CREATE TABLE fields (
    record_id INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    field     INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    number,
    text      TEXT,
    latitude  REAL,
    longitude REAL,
    PRIMARY KEY (record_id, position)
) WITHOUT ROWID;

CREATE TABLE field_names (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL
);

-- Where the last value of each field of each vehicle is.
CREATE TABLE latest_fields (
    vin       TEXT    NOT NULL,
    field     INTEGER NOT NULL,
    -- created_ms, or received_ms if that is earlier: a clock that is ahead does not pin a value.
    as_of_ms  INTEGER NOT NULL,
    record_id INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (vin, field)
) WITHOUT ROWID;

CREATE TABLE alerts (
    record_id  INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    vin        TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    audiences  TEXT    NOT NULL,
    started_ms INTEGER,
    ended_ms   INTEGER,
    started_at TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', started_ms / 1000.0, 'unixepoch')) VIRTUAL,
    ended_at   TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', ended_ms / 1000.0, 'unixepoch')) VIRTUAL,
    PRIMARY KEY (record_id, position)
) WITHOUT ROWID;

CREATE TABLE errors (
    record_id  INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    vin        TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    tags       TEXT    NOT NULL,
    created_ms INTEGER,
    created_at TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch')) VIRTUAL,
    PRIMARY KEY (record_id, position)
) WITHOUT ROWID;

CREATE TABLE connectivity (
    record_id         INTEGER PRIMARY KEY,
    vin               TEXT NOT NULL,
    status            TEXT NOT NULL,
    connection_id     TEXT NOT NULL,
    network_interface TEXT NOT NULL,
    created_ms        INTEGER,
    created_at        TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch')) VIRTUAL
);

CREATE VIEW signals AS
SELECT r.vin,
       ifnull(n.name, CAST(f.field AS TEXT)) AS field,
       r.created_at,
       coalesce(f.text, f.number, f.latitude || ',' || f.longitude) AS value,
       f.kind, f.number, f.text, f.latitude, f.longitude,
       r.created_ms, r.received_ms, r.received_at, r.is_resend, r.id AS record_id, f.position
FROM records r
JOIN fields f ON f.record_id = r.id
LEFT JOIN field_names n ON n.number = f.field;

CREATE VIEW latest AS
SELECT l.vin,
       ifnull(n.name, CAST(l.field AS TEXT)) AS field,
       r.created_at,
       coalesce(f.text, f.number, f.latitude || ',' || f.longitude) AS value,
       f.kind, f.number, f.text, f.latitude, f.longitude,
       r.created_ms, r.received_ms, r.received_at, l.record_id
FROM latest_fields l
JOIN fields f ON f.record_id = l.record_id AND f.position = l.position
JOIN records r ON r.id = l.record_id
LEFT JOIN field_names n ON n.number = l.field;

CREATE VIEW positions AS
SELECT r.vin, r.created_at, f.latitude, f.longitude, r.created_ms, r.received_at, r.id AS record_id
FROM records r
JOIN fields f ON f.record_id = r.id
JOIN field_names n ON n.number = f.field
WHERE r.type = 'V' AND n.name = 'Location' AND f.kind = 'location';
