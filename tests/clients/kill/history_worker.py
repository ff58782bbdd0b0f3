"""One client of a recorded history: it does random things as its role says, and writes down what it did.

    python history_worker.py ROLE --name c1 --number 1 --bootstrap 127.0.0.1:9092 --seed 1 --log c1.jsonl

It ends on SIGTERM when what it is doing is done. It may be killed or stopped at any moment: what is in the log then is
true, and what has no end in it is unknown. The lines are described in `crates/testkit/src/history/recorded.rs`.
"""

import argparse
import json
import os
import random
import signal
import struct
import time

import confluent_kafka as ck

TOPICS, PARTITIONS = ("alpha", "beta", "gamma"), 4
PLACES = [(topic, partition) for topic in TOPICS for partition in range(PARTITIONS)]
SECONDS = 120  # for anything to get an answer while the server comes and goes
# Without the recovery strategy librdkafka 2.x sends offsets to a broker that it has given up, and waits for ever.
QUICK = {
    "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 500, "log_level": 0,
    "metadata.recovery.strategy": "none", "socket.timeout.ms": 10_000,
}
# Groups, and whether they are of the consumer protocol. Members of `work-*` commit in transactions.
GROUPS = {"read-classic": "classic", "read-consumer": "consumer", "work-classic": "classic", "work-consumer": "consumer"}


class Log:
    """Lines, each written whole by one call, so that a kill leaves no half of one behind."""

    def __init__(self, path, name, number):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.name, self.number, self.clients, self.ops, self.values = name, number, 0, 0, 0

    def client(self):
        """Begins a new client: a name, a new place in every partition, nothing sent yet."""
        self.clients += 1
        self.current = f"{self.name}.{self.number}.{self.clients}"

    def write(self, event, op, **more):
        line = {"at": time.monotonic_ns(), "client": self.current, "op": op, "event": event, **more}
        os.write(self.file, (json.dumps(line) + "\n").encode())

    def value(self):
        """A value that nobody else sends."""
        self.values += 1
        return self.number * 1_000_000_000 + self.values

    def begin(self, **kind):
        self.ops += 1
        operation = Operation(self, self.ops)
        operation.note("begin", **(kind or {"kind": "plain"}))
        return operation


class Operation:
    def __init__(self, log, number):
        self.log, self.number = log, number

    def note(self, event, **more):
        self.log.write(event, self.number, **more)

    def end(self, outcome, why=None):
        self.note("end", outcome=outcome, **({"why": f"{why}"} if why else {}))


class Worker:
    def __init__(self, options):
        self.options, self.bootstrap = options, options.bootstrap
        self.random = random.Random(f"{options.seed} {options.number}")
        self.log = Log(options.log, options.name, options.number)
        self.stopping = False
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))

    def work(self):
        while not self.stopping:
            try:
                self.session()
            except ck.KafkaException as error:
                print(f"{time.monotonic_ns()} {self.log.current}: {error}", flush=True)
                time.sleep(0.2)

    def producer(self, **settings):
        return ck.Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, **settings, **QUICK})

    def send(self, producer, operation, then=lambda error: None):
        """Sends a new value to some partition as part of an operation."""
        (topic, partition), value = self.random.choice(PLACES), self.log.value()

        def delivered(error, message):
            # A producer that is told "I have that already" may not know the offset.
            if error is None and message.offset() >= 0:
                operation.note("sent", value=value, offset=message.offset())
            then(error)

        operation.note("send", to=[topic, partition], value=value)
        padding = "." * self.random.choice((0, 0, 20, 200, 2_000))
        try:
            producer.produce(topic, f"{value} {padding}", partition=partition, on_delivery=delivered)
        except BufferError as error:
            operation.note("unsent", value=value)
            then(error)


class Plain(Worker):
    """Sends without transactions, idempotently, many at a time; each value is an operation of its own."""

    def session(self):
        self.log.client()
        timeout = self.random.choice((2_000, 30_000, 300_000))
        producer = self.producer(**{"enable.idempotence": True, "message.timeout.ms": timeout})
        for _ in range(self.random.randrange(20, 400)):
            if self.stopping:
                break
            for _ in range(self.random.choice((1, 1, 5, 20))):
                operation = self.log.begin()

                def then(error, operation=operation):
                    operation.end("ok" if error is None else "unknown", error)

                self.send(producer, operation, then)
            producer.poll(0)
            time.sleep(self.random.uniform(0, 0.04))
            while len(producer) > 500 and not self.stopping:
                producer.poll(0.1)
        # What is not delivered by then has no end in the log: unknown.
        producer.flush(SECONDS)


class Poller:
    """A consumer, and what it has polled since it was last written down."""

    def __init__(self, worker, **settings):
        self.worker, self.log, self.records, self.operation = worker, worker.log, [], None
        self.committed = settings.get("isolation.level", "read_committed") == "read_committed"
        self.next = {}  # what to commit
        self.ends = {}  # where it has come to the end of a partition
        self.group = settings["group.id"]
        protocol = GROUPS.get(self.group, "classic")
        if protocol == "classic":
            settings["session.timeout.ms"] = 6_000
        self.consumer = ck.Consumer({
            "bootstrap.servers": worker.bootstrap, "enable.auto.commit": False, "isolation.level": "read_committed",
            "group.protocol": protocol, "fetch.wait.max.ms": 200, **settings, **QUICK,
        })

    def subscribe(self):
        self.consumer.subscribe(list(TOPICS), on_assign=self.assigned, on_revoke=self.moved, on_lost=self.moved)

    def assigned(self, consumer, places):
        # Those that are new begin where the group has committed.
        self.moved()

    def moved(self, *_):
        """What comes next may come from anywhere; what was polled before is not to be committed."""
        self.flush()
        operation = self.operation or self.log.begin()
        operation.note("assign")
        if operation is not self.operation:
            operation.end("ok")
        self.next = {}

    def flush(self):
        if self.records:
            self.operation.note("polled", committed=self.committed, records=self.records)
            self.records = []

    def poll(self, operation, count, seconds):
        """Polls as part of an operation; the number of records."""
        self.operation, found = operation, 0
        deadline = time.monotonic() + seconds
        while found < count:
            message = self.consumer.poll(max(0, deadline - time.monotonic()))
            if message is None:
                break
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if error := message.error():
                if error.code() == ck.KafkaError._PARTITION_EOF:
                    self.ends[topic, partition] = offset
                if error.code() == ck.KafkaError._AUTO_OFFSET_RESET:
                    raise SystemExit(f"LOST: a position that was reached is not there any more: {error}")
                continue
            self.records.append([topic, partition, offset, int(message.value().split(b" ")[0])])
            self.next[topic, partition] = offset + 1
            found += 1
        self.flush()
        self.operation = None
        return found

    def hold(self):
        """Writes down which partitions it has in which epoch of its group."""
        before = self.epoch()
        places = [[place.topic, place.partition] for place in self.consumer.assignment()]
        if places and before == self.epoch() and before > 0:
            operation = self.log.begin()
            operation.note("holds", group=self.group, epoch=before, partitions=places)
            operation.end("ok")

    def epoch(self):
        # librdkafka gives the metadata of a group as bytes: a word, then the epoch.
        metadata = self.consumer.consumer_group_metadata()
        word, _, rest = metadata.partition(b":")
        if word != b"CGMDv2":
            raise SystemExit(f"metadata of a group in a form that is not known: {metadata}")
        return struct.unpack("<i", rest[:4])[0]

    def offsets(self):
        return [ck.TopicPartition(*place, offset) for place, offset in self.next.items()]


class Transact(Worker):
    """Polls, sends and commits offsets in transactions (of the first protocol); aborts some, leaves some open."""

    def session(self):
        self.log.client()
        producer = self.producer(**{"transactional.id": self.options.name, "transaction.timeout.ms": 20_000})
        producer.init_transactions(SECONDS)
        poller = Poller(self, **{"group.id": self.options.group, "auto.offset.reset": "earliest"})
        try:
            poller.subscribe()
            for _ in range(self.random.randrange(5, 60)):
                if self.stopping or not self.transaction(producer, poller):
                    break
        finally:
            poller.consumer.close()

    def transaction(self, producer, poller):
        """Whether to go on with the same clients."""
        dice = self.random
        operation = self.log.begin(kind="transaction", protocol=1)
        asked = False
        try:
            producer.begin_transaction()
            poller.next = {}
            for _ in range(dice.randrange(1, 4)):
                poller.poll(operation, dice.randrange(30), dice.uniform(0, 0.3))
                for _ in range(dice.randrange(5)):
                    self.send(producer, operation)
                producer.poll(0)
            if (places := poller.offsets()) and dice.random() < 0.9:
                offsets = [[place.topic, place.partition, place.offset] for place in places]
                operation.note("commit", group=poller.group, offsets=offsets)
                metadata = poller.consumer.consumer_group_metadata()
                producer.send_offsets_to_transaction(places, metadata, SECONDS)
            how = dice.random()
            if how < 0.04:
                operation.end("failed", "left open")
                return False
            if how < 0.14:
                producer.abort_transaction(SECONDS)
                operation.end("failed", "aborted")
                return dice.random() < 0.5
            operation.note("committing")
            asked = True
            producer.commit_transaction(SECONDS)
            operation.end("ok")
            return True
        except ck.KafkaException as error:
            self.give_up(producer, operation, error, asked)
            return False

    def give_up(self, producer, operation, error, asked):
        """Aborts where that is possible. What nobody asked to commit will not be."""
        if error.args[0].txn_requires_abort():
            try:
                producer.abort_transaction(SECONDS)
                operation.end("failed", error)
                return
            except ck.KafkaException as another:
                error = another
        operation.end("unknown" if asked else "failed", error)
        print(f"{time.monotonic_ns()} {self.log.current}: {error}", flush=True)


class Read(Worker):
    """Reads partitions that it chooses itself, from places that it chooses itself."""

    def session(self):
        dice = self.random
        self.log.client()
        isolation = dice.choice(("read_committed", "read_uncommitted"))
        poller = Poller(self, **{"group.id": "none", "auto.offset.reset": "error", "isolation.level": isolation})
        reached = {}  # nobody may lose a position once it was reached
        for _ in range(dice.randrange(3, 10)):
            places = dice.sample(PLACES, dice.randrange(1, len(PLACES)))
            choose = lambda place: dice.choice((0, reached.get(place, 0), dice.randint(0, reached.get(place, 0))))
            poller.moved()
            poller.consumer.assign([ck.TopicPartition(*place, choose(place)) for place in places])
            for _ in range(dice.randrange(2, 30)):
                if self.stopping:
                    break
                operation = self.log.begin()
                poller.poll(operation, dice.randrange(1, 300), 0.2)
                operation.end("ok")
                for place, offset in poller.next.items():
                    reached[place] = max(offset, reached.get(place, 0))
                if dice.random() < 0.1:
                    place = dice.choice(places)
                    poller.moved()
                    poller.consumer.seek(ck.TopicPartition(*place, choose(place)))
        poller.consumer.close()


class Member(Worker):
    """Reads as a member of a group, commits, and leaves for a while now and then."""

    def session(self):
        dice = self.random
        self.log.client()
        poller = Poller(self, **{"group.id": self.options.group, "auto.offset.reset": "earliest"})
        try:
            poller.subscribe()
            for _ in range(dice.randrange(10, 200)):
                if self.stopping:
                    break
                operation = self.log.begin()
                poller.poll(operation, dice.randrange(1, 200), 0.2)
                operation.end("ok")
                poller.hold()
                if dice.random() < 0.1:
                    # Work that takes its time: the group waits for partitions to be given up.
                    time.sleep(dice.uniform(0, 3))
                if poller.next and dice.random() < 0.5:
                    self.commit(poller)
        finally:
            poller.consumer.close()

    def commit(self, poller):
        operation, places = self.log.begin(), poller.offsets()
        poller.next = {}
        offsets = [[place.topic, place.partition, place.offset] for place in places]
        operation.note("commit", group=poller.group, offsets=offsets)
        try:
            answers = poller.consumer.commit(offsets=places, asynchronous=False)
            error = next((place.error for place in answers if place.error), None)
        except ck.KafkaException as failure:
            error = failure
        # A commit that was retried may be refused the second time: whether it counts, nobody can tell.
        operation.end("ok" if error is None else "unknown", error)


class Observe(Worker):
    """Asks for the offsets that groups have committed."""

    def session(self):
        self.log.client()
        places = [ck.TopicPartition(*place) for place in PLACES]
        observers = {group: Poller(self, **{"group.id": group}).consumer for group in GROUPS}
        while not self.stopping:
            group = self.random.choice(list(GROUPS))
            operation = self.log.begin()
            try:
                answers = observers[group].committed(places, timeout=10)
                known = [place for place in answers if not place.error]
                offsets = [[place.topic, place.partition, place.offset if place.offset >= 0 else None]
                           for place in known]
                operation.note("fetched", group=group, offsets=offsets)
                operation.end("ok")
            except ck.KafkaException as error:
                operation.end("unknown", error)
            time.sleep(self.random.uniform(0, 0.2))


class Drain(Worker):
    """Ends what was left open, then reads everything to its end: once all that is there, once what is committed."""

    def work(self):
        for name in self.options.ids:
            self.producer(**{"transactional.id": name}).init_transactions(SECONDS)
        for isolation in ("read_uncommitted", "read_committed"):
            self.log.client()
            self.read(isolation)

    def read(self, isolation):
        poller = Poller(self, **{"group.id": "none", "auto.offset.reset": "error", "isolation.level": isolation,
                                 "enable.partition.eof": True})
        everything = Poller(self, **{"group.id": "none", "isolation.level": "read_uncommitted"}).consumer
        # With nothing open, what is committed ends where everything ends.
        ends = {place: everything.get_watermark_offsets(ck.TopicPartition(*place), SECONDS)[1] for place in PLACES}
        poller.consumer.assign([ck.TopicPartition(*place, 0) for place in PLACES])
        deadline = time.monotonic() + SECONDS
        while not all(poller.ends.get(place, -1) >= ends[place] for place in PLACES):
            operation = self.log.begin()
            if poller.poll(operation, 1_000, 0.5):
                deadline = time.monotonic() + SECONDS
            operation.end("ok")
            if time.monotonic() > deadline:
                raise SystemExit(f"HANGS: {isolation}: the ends {ends} are not reached, but {poller.ends}")


ROLES = {"plain": Plain, "transact": Transact, "read": Read, "member": Member, "observe": Observe, "drain": Drain}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--name", required=True, help="of the client, and its transactional id")
    parser.add_argument("--number", required=True, type=int, help="of this process; no two have the same")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--group", help="of members, and of those who commit in transactions")
    parser.add_argument("--ids", nargs="*", default=[], help="transactional ids that others have left")
    options = parser.parse_args()
    ROLES[options.role](options).work()
    os._exit(0)  # clients that can't be closed in good order are not waited for


if __name__ == "__main__":
    main()
