-- Made when it is not there. $SCHEMA is the schema of the configuration.
CREATE SCHEMA IF NOT EXISTS $SCHEMA;

-- Every record once: the id is the same whenever the vehicle sends it again.
CREATE TABLE IF NOT EXISTS $SCHEMA.records (
    id uuid PRIMARY KEY,
    vin text NOT NULL,
    type text NOT NULL,
    txid bytea NOT NULL,
    created_at timestamptz,
    received_at timestamptz NOT NULL,
    is_resend boolean NOT NULL,
    connection_id text NOT NULL,
    network_interface text NOT NULL,
    payload bytea NOT NULL,
    -- The order of arrival, of one vehicle.
    sequence bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX IF NOT EXISTS records_by_vehicle ON $SCHEMA.records (vin, received_at);

-- One row for each field of a V record. `time` is when the vehicle made it, or else when it came.
CREATE TABLE IF NOT EXISTS $SCHEMA.signals (
    time timestamptz NOT NULL,
    vin text NOT NULL,
    field text NOT NULL,
    kind text NOT NULL,
    number double precision,
    text text,
    latitude double precision,
    longitude double precision,
    record_id uuid NOT NULL,
    position integer NOT NULL
);
CREATE INDEX IF NOT EXISTS signals_by_field ON $SCHEMA.signals (vin, field, time DESC);
CREATE INDEX IF NOT EXISTS signals_by_record ON $SCHEMA.signals (record_id);

CREATE TABLE IF NOT EXISTS $SCHEMA.alerts (
    time timestamptz NOT NULL,
    vin text NOT NULL,
    name text NOT NULL,
    audiences text NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    record_id uuid NOT NULL
);
CREATE INDEX IF NOT EXISTS alerts_by_vehicle ON $SCHEMA.alerts (vin, time DESC);

CREATE TABLE IF NOT EXISTS $SCHEMA.errors (
    time timestamptz NOT NULL,
    vin text NOT NULL,
    name text NOT NULL,
    body text NOT NULL,
    tags jsonb NOT NULL,
    created_at timestamptz,
    record_id uuid NOT NULL
);
CREATE INDEX IF NOT EXISTS errors_by_vehicle ON $SCHEMA.errors (vin, time DESC);

CREATE TABLE IF NOT EXISTS $SCHEMA.connectivity (
    time timestamptz NOT NULL,
    vin text NOT NULL,
    status text NOT NULL,
    connection_id text NOT NULL,
    network_interface text NOT NULL,
    record_id uuid NOT NULL
);
CREATE INDEX IF NOT EXISTS connectivity_by_vehicle ON $SCHEMA.connectivity (vin, time DESC);

CREATE OR REPLACE VIEW $SCHEMA.latest AS
    SELECT DISTINCT ON (vin, field) vin, field, time, kind, number, text, latitude, longitude
    FROM $SCHEMA.signals ORDER BY vin, field, time DESC, record_id, position DESC;
