"""Exactly once under kills: records are copied to two topics in transactions, with their offsets, while the server is
killed (SIGKILL) at random moments.

    python exactly_once.py --bootstrap 127.0.0.1:9092 [--rounds 10] [--seed 1] [--log server.log] -- SERVER COMMAND...

Two processors share a consumer group. Now and then one aborts a transaction, or leaves it open and begins anew under
the same transactional id, which fences the one before. At the end readers of committed data find each record of the
source exactly once and in order in both topics. The last line printed is the result as JSON.
"""

import argparse
import random
import threading
import time
import traceback

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

from driver import SECONDS, Server, check, conclude, remark

SOURCE, COPIES, PARTITIONS = "source", ("copy-1", "copy-2"), 4
RATE = 1_000  # records a second
# Without the recovery strategy librdkafka 2.x sends offsets to a broker that it has given up, and waits for ever.
QUICK = {
    "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 0,
    "metadata.recovery.strategy": "none",
}


class Worker(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.stopping, self.error = threading.Event(), None

    def run(self):
        try:
            self.work()
        except BaseException as error:
            traceback.print_exc()
            self.error = error


class Feeder(Worker):
    """Counts into each partition of the source."""

    def __init__(self, bootstrap):
        super().__init__()
        self.sent = [0] * PARTITIONS
        self.producer = ck.Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "message.timeout.ms": 0, **QUICK}
        )

    def work(self):
        count = 0
        while not self.stopping.is_set():
            if len(self.producer) < 1_000:
                for _ in range(RATE // 100):
                    partition = count % PARTITIONS
                    self.producer.produce(SOURCE, str(self.sent[partition]), partition=partition)
                    self.sent[partition] += 1
                    count += 1
            self.producer.poll(0.01)
        check(self.producer.flush(SECONDS) == 0, "not everything was fed")


class Processor(Worker):
    """Copies. After any error it begins anew, as a process that has crashed would."""

    def __init__(self, bootstrap, name, seed):
        super().__init__()
        self.bootstrap, self.name, self.random = bootstrap, name, random.Random(f"{seed} {name}")
        self.committed = self.aborted = self.left = self.failed = 0

    def work(self):
        while not self.stopping.is_set():
            consumer = producer = None
            try:
                producer = ck.Producer({"bootstrap.servers": self.bootstrap, "transactional.id": self.name, **QUICK})
                producer.init_transactions(SECONDS)
                consumer = ck.Consumer({
                    "bootstrap.servers": self.bootstrap, "group.id": "copiers", "enable.auto.commit": False,
                    "auto.offset.reset": "earliest", "isolation.level": "read_committed",
                    "session.timeout.ms": 6_000, **QUICK,
                })
                consumer.subscribe([SOURCE])
                while self.copy(consumer, producer):
                    pass
            except ck.KafkaException:
                self.failed += 1
            finally:
                if consumer is not None:
                    consumer.close()

    def copy(self, consumer, producer):
        """One transaction; whether to go on with the same clients."""
        messages = [message for message in consumer.consume(200, timeout=0.2) if not message.error()]
        if self.stopping.is_set():
            return False
        if not messages:
            return True
        producer.begin_transaction()
        for message in messages:
            for topic in COPIES:
                producer.produce(topic, message.value(), partition=message.partition())
        places = [place for place in consumer.position(consumer.assignment()) if place.offset >= 0]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), SECONDS)
        dice = self.random.random()
        if dice < 0.05:
            producer.abort_transaction(SECONDS)
            self.aborted += 1
            return False
        if dice < 0.08:
            self.left += 1
            return False
        producer.commit_transaction(SECONDS)
        self.committed += 1
        return True


def wait(what, condition, workers, server):
    deadline = time.monotonic() + SECONDS
    while not condition():
        for worker in workers:
            check(worker.error is None, f"{worker.error}")
        check(server.process.poll() is None, f"the server ended by itself: {server.process.returncode}")
        check(time.monotonic() < deadline, f"waited {SECONDS} s in vain: {what}")
        time.sleep(0.01)


def create(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUICK})
    deadline = time.monotonic() + SECONDS
    for topic in (SOURCE, *COPIES):
        while True:
            try:
                admin.create_topics([NewTopic(topic, PARTITIONS, 1)], request_timeout=2)[topic].result()
                break
            except ck.KafkaException as error:
                check(time.monotonic() < deadline, f"the topic can't be created: {error}")
                time.sleep(0.1)


class Committed:
    """What readers of committed data find in a topic, as far as it has been read."""

    def __init__(self, bootstrap, topic):
        self.topic, self.next = topic, [0] * PARTITIONS
        self.consumer = ck.Consumer({
            "bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False,
            "isolation.level": "read_committed", **QUICK,
        })
        self.consumer.assign([ck.TopicPartition(topic, p, 0) for p in range(PARTITIONS)])

    def read(self):
        for message in self.consumer.consume(1_000, timeout=0.05):
            if message.error():
                check(message.error().code() < 0 or message.error().retriable(), f"reading: {message.error()}")
                continue
            partition, number = message.partition(), int(message.value())
            wanted = self.next[partition]
            where = f"{self.topic}/{partition}/{message.offset()}"
            check(number >= wanted, f"DOUBLED, or out of order: {number} after {wanted - 1} at {where}")
            check(number <= wanted, f"LOST: {number} after {wanted - 1} at {where}")
            self.next[partition] += 1


def run(options, server):
    dice = random.Random(options.seed)
    create(options.bootstrap)
    feeder = Feeder(options.bootstrap)
    processors = [Processor(options.bootstrap, f"processor-{number}", options.seed) for number in range(2)]
    workers = [feeder, *processors]
    readers = [Committed(options.bootstrap, topic) for topic in COPIES]
    for worker in workers:
        worker.start()
    for number in range(1, options.rounds + 1):
        before = sum(processor.committed for processor in processors)

        def progress():
            for reader in readers:
                reader.read()
            return sum(processor.committed for processor in processors) >= before + 5

        wait("transactions are committed", progress, workers, server)
        time.sleep(dice.uniform(0, options.pause))
        server.kill()
        server.start()
        remark(f"round {number}: {before} committed, {sum(readers[0].next)} records copied")
    feeder.stopping.set()
    feeder.join()
    check(feeder.error is None, f"{feeder.error}")

    def complete():
        for reader in readers:
            reader.read()
        return all(reader.next == feeder.sent for reader in readers)

    wait("everything is copied", complete, processors, server)
    for processor in processors:
        processor.stopping.set()
    for processor in processors:
        processor.join()
        check(processor.error is None, f"{processor.error}")
    count = lambda of: sum(getattr(processor, of) for processor in processors)
    return {"rounds": options.rounds, "seed": options.seed, "records": sum(feeder.sent),
            **{of: count(of) for of in ("committed", "aborted", "left", "failed")}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--pause", type=float, default=1.0, help="at most so many seconds of peace in a round")
    parser.add_argument("--log", default="server.log")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    server = Server([word for i, word in enumerate(options.command) if i or word != "--"], options.log)
    remark(f"seed {options.seed}")
    conclude(server, lambda: run(options, server))


main()
