"""A disk that is really full: a server on a small file system, filled up by a producer until it is refused.

    python full.py --bootstrap 127.0.0.1:9092 --http 127.0.0.1:8080 [--log server.log] -- SERVER COMMAND...

The command's data directory is on a file system that a gigabyte fills. While it is full, reads, commits, new topics
and deletions go on, also after a kill; once records are deleted, records are taken again; and after another kill every
acknowledged record is where its acknowledgement said. The last line printed is the result as JSON.
"""

import argparse
import time
import urllib.request

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

from driver import SECONDS, Server, check, conclude, remark

KEPT, BALLAST, PARTITIONS = "kept", "ballast", 3
RECORD = 50_000  # bytes
RECORDS_MAX = 60_000  # as many would fill three gigabytes
REFUSED = ck.KafkaError.KAFKA_STORAGE_ERROR
QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 0}


def patiently(what, attempt):
    """Tries until `attempt` returns something, and returns that."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if (result := attempt()) is not None:
                return result
            error = "nothing"
        except (ck.KafkaException, OSError) as failure:
            error = failure
        check(time.monotonic() < deadline, f"waited {SECONDS} s in vain: {what}: {error}")
        time.sleep(0.1)


class Test:
    def __init__(self, options, server):
        self.bootstrap, self.http, self.server = options.bootstrap, options.http, server
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUICK})
        self.acknowledged = {}  # (topic, partition, offset) -> number
        self.number = 0

    def ready(self):
        with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=5) as answer:
            return answer.read().decode()

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
        check(found, f"no metric {name}")
        return float(found[0])

    def create(self, topic):
        def attempt():
            try:
                self.admin.create_topics([NewTopic(topic, PARTITIONS, 1)], request_timeout=5)[topic].result()
            except ck.KafkaException as error:
                if error.args[0].code() != ck.KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            return True

        patiently(f"creating {topic}", attempt)

    def produce(self, topic, count):
        """Sends so many records, or fewer if some are refused; whether some were."""
        # Without retries: what is refused is to be seen.
        settings = {"acks": "all", "retries": 0, "linger.ms": 5, "batch.size": 500_000, "message.timeout.ms": 30_000}
        producer = ck.Producer({"bootstrap.servers": self.bootstrap, **settings, **QUICK})
        refused = []

        def send(number):
            def delivered(error, message):
                if error is None:
                    self.acknowledged[(topic, message.partition(), message.offset())] = number
                else:
                    refused.append(error)

            value = f"{topic} {number} ".ljust(RECORD, ".")
            producer.produce(topic, value, partition=number % PARTITIONS, on_delivery=delivered)

        for _ in range(count):
            self.number += 1
            send(self.number)
            while len(producer) > 100:
                producer.poll(0.01)
            producer.poll(0)
            if refused:
                break
        check(producer.flush(SECONDS) == 0, "some records were neither taken nor refused")
        others = [error for error in refused if error.code() != REFUSED]
        check(not others, f"refused otherwise than with KAFKA_STORAGE_ERROR: {others[:3]}")
        return bool(refused)

    def fill(self):
        while not self.produce(BALLAST, 500):
            check(self.number < RECORDS_MAX, "the disk does not fill up")
            self.produce(KEPT, 5)
        check(self.metric("millstream_disk_full") == 1, "millstream_disk_full is not 1")
        check(self.produce(KEPT, 1), "a record was taken by a full disk")
        said = self.ready()
        check(len(said.splitlines()) > 1, f"/readyz does not speak of the disk: {said}")
        remark(f"full after {len(self.acknowledged)} records; /readyz says: {said.splitlines()[1]}")

    def goes_on(self, round):
        """What a full disk must not keep anybody from."""
        self.commit(round)
        topic = f"made-{round}"
        self.create(topic)
        self.admin.delete_topics([topic], request_timeout=10)[topic].result()
        expected = {offset: number for (name, partition, offset), number in self.acknowledged.items()
                    if (name, partition) == (KEPT, 0)}
        check(self.read(KEPT, 0) == expected, "reads while the disk is full")
        # What a round or a start has given back may be enough for a moment.
        refused = self.produce(KEPT, 1)
        check(refused or self.metric("millstream_disk_full") == 0, "a record was taken by a full disk")
        remark(f"round {round}: reads, commits, topics go on, records are {'refused' if refused else 'taken again'}")

    def commit(self, offset):
        place = ck.TopicPartition(KEPT, 0, offset)
        group = {"group.id": "g", "enable.auto.commit": False}
        consumer = ck.Consumer({"bootstrap.servers": self.bootstrap, **group, **QUICK})
        patiently("committing", lambda: consumer.commit(offsets=[place], asynchronous=False))
        found = patiently("committed offsets", lambda: consumer.committed([place], timeout=5))
        check(found[0].offset == offset, f"committed {offset}, found {found[0].offset}")
        consumer.close()

    def read(self, topic, partition):
        """Offset -> number."""
        group = {"group.id": "all", "enable.auto.commit": False}
        consumer = ck.Consumer({"bootstrap.servers": self.bootstrap, **group, **QUICK})
        place = ck.TopicPartition(topic, partition)
        start, end = patiently("watermarks", lambda: consumer.get_watermark_offsets(place, 5))
        consumer.assign([ck.TopicPartition(topic, partition, start)])
        found = {}
        while start + len(found) < end:
            batch = consumer.consume(min(1_000, end - start - len(found)), timeout=SECONDS)
            check(batch, f"{topic}-{partition} can't be read to the end")
            for message in batch:
                check(message.error() is None, f"reading {topic}-{partition}: {message.error()}")
                check(message.offset() == start + len(found), f"{topic}-{partition}: a hole at {start + len(found)}")
                name, number, _ = message.value().split(b" ", 2)
                check(name.decode() == topic and len(message.value()) == RECORD, f"{topic}: a foreign record")
                found[message.offset()] = int(number)
        consumer.close()
        return found

    def restart(self):
        self.server.kill()
        began = time.monotonic()
        self.server.start()
        patiently("the server is back", self.ready)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUICK})
        remark(f"killed, and back after {time.monotonic() - began:.1f} s")

    def relieve(self):
        """Deletes all of the ballast's records."""
        def attempt():
            places = [ck.TopicPartition(BALLAST, p, ck.OFFSET_END) for p in range(PARTITIONS)]
            return [future.result() for future in self.admin.delete_records(places, request_timeout=10).values()]

        starts = {}
        for p, deleted in enumerate(patiently("deleting records", attempt)):
            starts[p] = deleted.low_watermark
        gone = [key for key in self.acknowledged if key[0] == BALLAST and key[2] < starts[key[1]]]
        for key in gone:
            del self.acknowledged[key]
        remark(f"deleted {len(gone)} records")
        began = time.monotonic()
        patiently("records are taken again", lambda: None if self.produce(KEPT, 1) else True)
        check(self.metric("millstream_disk_full") == 0, "millstream_disk_full is not 0")
        check(self.metric("millstream_reserve_bytes") == self.metric("millstream_reserve_wanted_bytes"), "the reserve")
        took = time.monotonic() - began
        remark(f"records are taken again after {took:.1f} s")
        return took

    def verify(self):
        for topic in (KEPT, BALLAST):
            for partition in range(PARTITIONS):
                found = self.read(topic, partition)
                for (name, index, offset), number in self.acknowledged.items():
                    if (name, index) == (topic, partition):
                        there = found.get(offset)
                        check(there == number, f"LOST: {topic}-{partition} {offset} is {there}, not {number}")

    def run(self):
        self.create(KEPT)
        self.create(BALLAST)

        def is_set_aside():
            wanted = self.metric("millstream_reserve_wanted_bytes")
            return True if self.metric("millstream_reserve_bytes") == wanted > 0 else None

        patiently("the reserve is set aside", is_set_aside)
        self.commit(0)
        self.fill()
        filled = len(self.acknowledged)
        for round in range(1, 4):
            self.goes_on(round)
        self.restart()
        self.verify()
        self.goes_on(4)
        self.fill()
        self.goes_on(5)
        took = self.relieve()
        check(not self.produce(KEPT, 1_000), "records are refused again")
        self.restart()
        self.verify()
        self.commit(6)
        return {"records until it was full": filled, "checked at the end": len(self.acknowledged),
                "seconds until records were taken again": float(f"{took:.1f}")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--http", required=True)
    parser.add_argument("--log", default="server.log")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    server = Server([word for i, word in enumerate(options.command) if i or word != "--"], options.log)
    conclude(server, Test(options, server).run)


main()
