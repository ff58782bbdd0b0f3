"""Kill rounds: a server is killed (SIGKILL) at random moments while producers and a consumer use it.

    python kill.py --bootstrap 127.0.0.1:9092 [--rounds 20] [--seed 1] [--log server.log] -- SERVER COMMAND...

The command is run as it is, again and again, on the data that the run before has left. At the end:

* every acknowledged record is where its acknowledgement said;
* what each producer sent to a partition is there completely and in order, and an idempotent one's exactly once;
* what the consumer saw on the way is what is there: no record that was seen has gone or changed;
* no acknowledged commit of the consumer was lost.

A kill proves no flush: the operating system still has what was written. The last line printed is the result as JSON.
"""

import argparse
import random
import threading
import time
import traceback

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

from driver import SECONDS, Server, check, conclude, remark

TOPIC, PARTITIONS = "kill", 12
RATE = 700  # records a second and producer
# A client that comes back quickly, and is silent about a server that is away.
QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 0}


class Worker(threading.Thread):
    """A thread with a client in it, until told to stop."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping, self.error = threading.Event(), None

    def run(self):
        try:
            self.work()
        except BaseException as error:
            traceback.print_exc()
            self.error = error


class Producer(Worker):
    """Sends `NAME SEQUENCE padding` to all partitions in turn; the sequence counts by partition."""

    def __init__(self, bootstrap, name, idempotent, seed):
        super().__init__()
        self.name, self.idempotent, self.random = name, idempotent, random.Random(f"{seed} {name}")
        self.sent = [0] * PARTITIONS
        self.acknowledged = []  # (partition, offset, sequence)
        # Plain producers keep their order only with one request in flight.
        kind = (
            {"enable.idempotence": True}
            if idempotent
            else {"acks": 1, "max.in.flight.requests.per.connection": 1, "retries": 2**31 - 1}
        )
        self.producer = ck.Producer(
            {"bootstrap.servers": bootstrap, "message.timeout.ms": 0, "linger.ms": 2, **kind, **QUICK}
        )

    def work(self):
        began, count = time.monotonic(), 0
        while not self.stopping.is_set():
            self.producer.poll(0.005)
            due = min(count + 50, int((time.monotonic() - began) * RATE))
            while count < due and len(self.producer) < 2_000:
                self.send()
                count += 1
            if count < due - 49:  # the server was away: don't try to catch up
                began = time.monotonic() - count / RATE
        check(self.producer.flush(SECONDS) == 0, f"{self.name}: not all records were acknowledged at the end")

    def send(self):
        partition = self.random.randrange(PARTITIONS)
        sequence = self.sent[partition]
        self.sent[partition] += 1

        def delivered(error, message):
            check(error is None, f"{self.name}: a record failed: {error}")
            self.acknowledged.append((partition, message.offset(), sequence))

        padding = "." * self.random.choice((0, 20, 20, 20, 200, 5_000))
        self.producer.produce(TOPIC, f"{self.name} {sequence} {padding}", partition=partition, on_delivery=delivered)


def parse(message):
    name, sequence, _ = message.value().split(b" ", 2)
    return name.decode(), int(sequence)


class Reader(Worker):
    """Reads everything from the start, and commits."""

    def __init__(self, bootstrap):
        super().__init__()
        self.seen = [{} for _ in range(PARTITIONS)]  # offset -> (name, sequence)
        self.position = [0] * PARTITIONS
        self.committed = [0] * PARTITIONS
        self.compare = threading.Event()
        self.consumer = ck.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "kill",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                **QUICK,
            }
        )
        self.consumer.assign([ck.TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)])

    def work(self):
        commit_at = time.monotonic()
        while not self.stopping.is_set():
            for message in self.consumer.consume(1_000, timeout=0.1):
                if not message.error():
                    self.note(message.partition(), message.offset(), parse(message))
                else:
                    check(message.error().code() < 0 or message.error().retriable(), f"reading: {message.error()}")
            if time.monotonic() >= commit_at:
                commit_at = time.monotonic() + 0.3
                self.commit()
            if self.compare.is_set():
                self.compare_committed()
        self.consumer.close()

    def note(self, partition, offset, what):
        check(offset == self.position[partition], f"partition {partition}: read {offset} after {self.position[partition]}")
        self.position[partition] = offset + 1
        self.seen[partition][offset] = what

    def commit(self):
        try:
            for place in self.consumer.commit(asynchronous=False) or []:
                if place.error is None:
                    self.committed[place.partition] = place.offset
        except ck.KafkaException:
            pass  # the server is away, or there is nothing new

    def compare_committed(self):
        try:
            places = [ck.TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
            found = self.consumer.committed(places, timeout=5)
        except ck.KafkaException:
            return  # not back yet: again later
        if any(place.error for place in found):
            return
        for place in found:
            least = self.committed[place.partition]
            check(max(place.offset, 0) >= least, f"commit lost: {place.offset} instead of {least}")
        self.compare.clear()


def wait(what, condition, workers, server=None):
    deadline = time.monotonic() + SECONDS
    while not condition():
        for worker in workers:
            check(worker.error is None, f"{worker.error}")
        if server:
            check(server.process.poll() is None, f"the server ended by itself: {server.process.returncode}")
        check(time.monotonic() < deadline, f"waited {SECONDS} s in vain: {what}")
        time.sleep(0.005)


def create_topic(bootstrap):
    """Creates the topic as soon as the server answers."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUICK})
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)], request_timeout=2)[TOPIC].result()
        except ck.KafkaException as error:
            if error.args[0].code() == ck.KafkaError.TOPIC_ALREADY_EXISTS:
                return
            check(time.monotonic() < deadline, f"the topic can't be created: {error}")
            time.sleep(0.1)


def read_all(bootstrap):
    """Everything that is there, by partition: [(name, sequence)], the index being the offset."""
    consumer = ck.Consumer({"bootstrap.servers": bootstrap, "group.id": "all", "enable.auto.commit": False})
    places = [ck.TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(place, SECONDS)[1] for place in places]
    consumer.assign(places)
    found = [[] for _ in range(PARTITIONS)]
    while left := sum(ends) - sum(map(len, found)):
        batch = consumer.consume(min(left, 10_000), timeout=SECONDS)
        check(batch, "what is there can't be read to the end")
        for message in batch:
            check(message.error() is None, f"reading: {message.error()}")
            records = found[message.partition()]
            check(message.offset() == len(records), f"a hole before offset {message.offset()}")
            records.append(parse(message))
    consumer.close()
    return found


def judge(producers, reader, found):
    """Compares what is there with what was acknowledged, sent and seen; the numbers of a good run."""
    for producer in producers:
        for partition, offset, sequence in producer.acknowledged:
            there = found[partition][offset] if offset < len(found[partition]) else None
            # A producer that is told "I have that already" may not know the offset.
            check(offset < 0 or there == (producer.name, sequence),
                  f"LOST: {producer.name} {sequence}, acknowledged as {partition}/{offset}; there: {there}")
    doubled = 0
    for producer in producers:
        for partition, records in enumerate(found):
            sequences = [sequence for name, sequence in records if name == producer.name]
            once = list(dict.fromkeys(sequences))
            where = f"{producer.name} in partition {partition}"
            check(once == sorted(once), f"ORDER: {where}")
            check(len(once) == producer.sent[partition], f"LOST: {where}: {len(once)} of {producer.sent[partition]}")
            doubled += len(sequences) - len(once)
            check(not producer.idempotent or len(sequences) == len(once), f"DOUBLED: {where}")
    for partition, seen in enumerate(reader.seen):
        for offset, what in seen.items():
            check(found[partition][offset] == what, f"CHANGED: {partition}/{offset}: {what}")
    return {
        "records": sum(map(len, found)),
        "acknowledged": sum(len(p.acknowledged) for p in producers),
        "doubled by plain producers": doubled,
    }


def run(options, server):
    dice = random.Random(options.seed)
    create_topic(options.bootstrap)
    kinds = [("idempotent-1", True), ("idempotent-2", True), ("plain-1", False), ("plain-2", False)]
    producers = [Producer(options.bootstrap, name, kind, options.seed) for name, kind in kinds]
    reader = Reader(options.bootstrap)
    workers = [*producers, reader]
    for worker in workers:
        worker.start()
    slowest, again = 0.0, 0
    for number in range(1, options.rounds + 1):
        acknowledged = [len(p.acknowledged) for p in producers]

        def progress():
            return all(len(p.acknowledged) > before + 100 for p, before in zip(producers, acknowledged))

        wait("every producer gets acknowledgements", progress, workers, server)
        time.sleep(dice.uniform(0, options.pause))
        server.kill()
        began = time.monotonic()
        if dice.random() < 0.25:
            # While it starts, too.
            server.start()
            time.sleep(dice.uniform(0, 0.5))
            server.kill()
            again += 1
        server.start()
        reader.compare.set()
        acknowledged = [len(p.acknowledged) for p in producers]
        wait("every producer gets acknowledgements again", progress, workers, server)
        wait("the commits are compared", lambda: not reader.compare.is_set(), workers, server)
        slowest = max(slowest, time.monotonic() - began)
        remark(f"round {number}: {sum(len(p.acknowledged) for p in producers)} acknowledged")
    for producer in producers:
        producer.stopping.set()
    for producer in producers:
        producer.join()
        check(producer.error is None, f"{producer.error}")
    found = read_all(options.bootstrap)
    caught_up = lambda: all(position >= len(records) for position, records in zip(reader.position, found))
    wait("the reader has seen everything", caught_up, [reader], server)
    reader.stopping.set()
    reader.join()
    numbers = judge(producers, reader, found)
    return {"rounds": options.rounds, "seed": options.seed, "killed while starting": again, **numbers,
            "slowest return, seconds": round(slowest, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--pause", type=float, default=1.0, help="at most so many seconds of peace in a round")
    parser.add_argument("--log", default="server.log")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    server = Server([word for i, word in enumerate(options.command) if i or word != "--"], options.log)
    remark(f"seed {options.seed}")
    conclude(server, lambda: run(options, server))


main()
