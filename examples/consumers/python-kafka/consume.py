"""Puts each record of a Kafka topic once into SQLite: a row per signal, typed by the project's own proto.

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I ../../../proto --python_out=. vehicle_data.proto
    python consume.py KAFKA:9092 tesla_telemetry_V vehicles.db [--until-end]

Kafka delivers at least once, so records are told apart by their header `record_id`: it is the key of a table, in the same
transaction as the rows. The offset is committed after it. With --until-end it stops where the topic ends.
"""

import argparse
import signal
import sqlite3

import vehicle_data_pb2
from confluent_kafka import Consumer, KafkaError, KafkaException

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (id TEXT PRIMARY KEY, vin TEXT, received_at INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signals (record TEXT, vin TEXT, created_at INTEGER, name TEXT, value);
CREATE INDEX IF NOT EXISTS of_vehicle ON signals (vin, name, created_at);
"""
BATCH = 500


def value(datum):
    """What SQLite can hold; None for a signal that the vehicle says it cannot give."""
    kind = datum.value.WhichOneof("value")
    if kind in (None, "invalid"):
        return None
    held = getattr(datum.value, kind)
    if isinstance(held, (str, int, float, bool)):
        return held
    if kind == "location_value":
        return f"{held.latitude},{held.longitude}"
    return str(held)


def rows(record, message):
    payload = vehicle_data_pb2.Payload.FromString(message.value())
    vin = message.key().decode()
    for datum in payload.data:
        # Fields of newer firmware have no name here; they are kept by their number.
        field = vehicle_data_pb2.Field
        name = field.Name(datum.key) if datum.key in field.values() else str(datum.key)
        yield record, vin, payload.created_at.ToMilliseconds(), name, value(datum)


def store(database, messages):
    with database:
        for message in messages:
            headers = dict(message.headers())
            record = headers["record_id"].decode()
            new = database.execute(
                "INSERT OR IGNORE INTO records VALUES (?, ?, ?)",
                (record, message.key().decode(), int(headers["receivedat"])),
            )
            if new.rowcount:
                database.executemany("INSERT INTO signals VALUES (?, ?, ?, ?, ?)", rows(record, message))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("servers")
    parser.add_argument("topic")
    parser.add_argument("database")
    parser.add_argument("--until-end", action="store_true")
    arguments = parser.parse_args()
    database = sqlite3.connect(arguments.database)
    database.executescript(SCHEMA)
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.servers,
            "group.id": "fleet-telemetry-example",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": arguments.until_end,
        }
    )
    consumer.subscribe([arguments.topic])
    going = True
    ended = set()

    def stop(*_):
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while going:
        messages = []
        for message in consumer.consume(BATCH, timeout=1.0):
            if message.error() is None:
                messages.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            elif message.error().fatal() or not message.error().retriable():
                raise KafkaException(message.error())
        if messages:
            store(database, messages)
            consumer.commit(asynchronous=False)
        assigned = {partition.partition for partition in consumer.assignment()}
        if arguments.until_end and assigned and assigned <= ended:
            break
    consumer.close()


if __name__ == "__main__":
    main()
