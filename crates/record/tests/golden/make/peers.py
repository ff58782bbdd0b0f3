"""Sends the golden records with kafka-python, aiokafka and confluent-kafka (librdkafka)."""

import asyncio
import os
import pathlib

import aiokafka
import confluent_kafka
import kafka

BOOTSTRAP = os.environ["BOOTSTRAP"]
TABLES = pathlib.Path(__file__).resolve().parent.parent
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def parse_bytes(word):
    if word == "-":
        return None
    if word.startswith("'"):
        return word.strip("'").encode()
    count, end = word.split("*0..")
    return bytes(at % int(end) for at in range(int(count)))


def parse(name):
    for line in (TABLES / name).read_text().splitlines():
        if line.startswith("#"):
            continue
        timestamp, key, value, *headers = line.split()
        headers = [header.split("=", 1) for header in headers]
        headers = [(key, parse_bytes(value)) for key, value in headers]
        yield int(timestamp), parse_bytes(key), parse_bytes(value), headers


def records(codec):
    return [*parse("records.txt"), *(parse("large.txt") if codec != "none" else ())]


def kafka_python(codec):
    producer = kafka.KafkaProducer(
        bootstrap_servers=BOOTSTRAP,
        compression_type=None if codec == "none" else codec,
        linger_ms=1000,
        batch_size=1 << 20,
    )
    for timestamp, key, value, headers in records(codec):
        # It refuses null as a header's value.
        headers = [(key, value or b"") for key, value in headers]
        producer.send(
            f"kafka-python-{codec}", value, key, headers, partition=0, timestamp_ms=timestamp
        )
    producer.flush()
    producer.close()


async def aio(codec):
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP,
        compression_type=None if codec == "none" else codec,
        max_batch_size=1 << 20,
    ) as producer:
        batch = producer.create_batch()
        for timestamp, key, value, headers in records(codec):
            batch.append(timestamp=timestamp, key=key, value=value, headers=headers)
        await (await producer.send_batch(batch, f"aiokafka-{codec}", partition=0))


def librdkafka(codec):
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "compression.type": codec,
            "linger.ms": 1000,
            "enable.idempotence": True,
        }
    )
    for timestamp, key, value, headers in records(codec):
        producer.produce(
            f"librdkafka-{codec}", value, key, partition=0, timestamp=timestamp, headers=headers
        )
    producer.flush()


for codec in CODECS:
    kafka_python(codec)
    asyncio.run(aio(codec))
    librdkafka(codec)
