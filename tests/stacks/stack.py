"""What the drivers of all stacks share: programs that are killed, records that are fed and read, and waiting."""

import argparse
import pathlib
import socket
import sys
import time

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "clients/kill"))
from driver import Failure, Server, check, conclude, remark  # noqa: E402

SECONDS = 120  # in which something has to move on, on a machine that does other things as well
# A client that comes back quickly, and is silent about a server that is away.
QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 0}


class Program(Server):
    """A program in Java that is started, killed, and started again with what it has left."""

    def __init__(self, options, name, *words, opens=()):
        jars = options.jars
        self.name, self.path, self.seen = name, options.folder / f"{name}.log", 0
        super().__init__([
            # Short lives: compile quickly rather than well.
            "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx768m", *opens,
            f"-Djava.io.tmpdir={options.state}",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-cp", f"{jars}/classes:{jars}/lib/*", *map(str, words),
        ], self.path)

    def start(self):
        self.seen = self.path.stat().st_size if self.path.exists() else 0
        super().start()

    def said(self, text):
        """Whether it has printed this since it was started."""
        with open(self.path, "rb") as log:
            log.seek(self.seen)
            return text.encode() in log.read()

    def end(self):
        """Asks it to end (SIGTERM), as its user would."""
        check(self.process.poll() is None, f"{self.name} ended by itself: {self.process.returncode}")
        self.stop()
        # 143: it has ended in good order because of the signal.
        check(self.process.returncode in (0, 143), f"{self.name} ended with {self.process.returncode}")


class Scene:
    """A server, the programs that use it, and what goes in and comes out meanwhile."""

    def __init__(self, bootstrap, server):
        self.bootstrap, self.server, self.programs = bootstrap, server, []
        self.feeds, self.readers = [], []
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUICK})

    def beside(self, bootstrap, server):
        """The same with another server, that is not killed."""
        other = Scene(bootstrap, server)
        other.feeds, other.readers, other.programs = self.feeds, self.readers, self.programs
        self.programs.append(server)
        return other

    def wait(self, what, condition):
        """Feeds and reads until the condition holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            for feed in self.feeds:
                feed.pump()
            for reader in self.readers:
                reader.read()
            for program in (self.server, *self.programs):
                code = program.process.poll()
                check(code is None, f"{getattr(program, 'name', 'a server')} ended by itself: {code}")
            check(time.monotonic() < deadline, f"waited {SECONDS} s in vain: {what}")
            time.sleep(0.01)

    def ask(self, what, question):
        """The answer to a question that is asked again while the server is away."""
        answer = []

        def asked():
            try:
                answer.append(question())
            except ck.KafkaException as error:
                remark(f"{what}: {error}")
            return answer

        self.wait(what, asked)
        return answer[0]

    def create(self, topic, partitions, **config):
        new = NewTopic(topic, partitions, 1, config={name.replace("_", "."): value for name, value in config.items()})
        self.ask(f"{topic} is created", lambda: self.admin.create_topics([new], request_timeout=5)[topic].result())

    def add_partitions(self, topic, count):
        self.ask("partitions are added", lambda: self.admin.create_partitions([NewPartitions(topic, count)])[topic].result())

    def partitions(self, topic):
        """How many partitions a topic has; none when it is not there."""
        found = self.ask("the topics are listed", lambda: self.admin.list_topics(timeout=5)).topics.get(topic)
        return 0 if found is None else len(found.partitions)

    def set_config(self, topic, name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self.ask("a config is set", lambda: self.admin.incremental_alter_configs([resource])[resource].result())

    def config(self, topic):
        """A topic's configs, by name."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = self.ask("configs are described", lambda: self.admin.describe_configs([resource])[resource].result())
        return {name: entry.value for name, entry in found.items()}

    def read_all(self, topic):
        """All committed records of a topic, to its end."""
        records = []
        reader = Reader(self.bootstrap, topic, self.partitions(topic), records.append)
        reader.to_end(self)
        reader.close()
        return records

    def close(self):
        for program in reversed(self.programs):
            program.stop()


class Feed:
    """Produces what an iterator yields, arguments of `produce`, a few at a time."""

    def __init__(self, scene, topic, records, at_once=20):
        self.topic, self.records, self.at_once, self.sent = topic, records, at_once, 0
        self.producer = ck.Producer({
            "bootstrap.servers": scene.bootstrap, "enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 2,
            **QUICK,
        })
        scene.feeds.append(self)
        self.scene = scene

    def pump(self):
        if len(self.producer) < 500:
            for _ in range(self.at_once):
                self.producer.produce(self.topic, on_delivery=self.delivered, **next(self.records))
                self.sent += 1
        self.producer.poll(0)

    def delivered(self, error, _):
        check(error is None, f"a record of {self.topic} failed: {error}")

    def finish(self):
        """Feeds no more, and waits until everything is acknowledged."""
        self.scene.feeds.remove(self)
        self.scene.wait(f"{self.topic} is acknowledged", lambda: self.producer.flush(0.1) == 0)


class Reader:
    """Passes each committed record of a topic on, in order."""

    def __init__(self, bootstrap, topic, partitions, take):
        self.topic, self.take = topic, take
        self.position = [0] * partitions
        self.consumer = ck.Consumer({
            "bootstrap.servers": bootstrap, "group.id": f"reader of {topic}", "enable.auto.commit": False,
            "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.partition.eof": True, **QUICK,
        })
        self.places = [ck.TopicPartition(topic, partition, 0) for partition in range(partitions)]
        self.consumer.assign(self.places)

    def read(self):
        for message in self.consumer.consume(1_000, timeout=0.05):
            error = message.error()
            if error is None:
                self.take(message)
            elif error.code() != ck.KafkaError._PARTITION_EOF:
                check(error.code() < 0 or error.retriable(), f"reading {self.topic}: {error}")
                continue
            after = message.offset() + (error is None)
            self.position[message.partition()] = max(after, self.position[message.partition()])

    def to_end(self, scene):
        """Reads up to where the topic ends now, for readers of committed data."""
        ends = [scene.ask("the end is looked up", lambda: self.consumer.get_watermark_offsets(place, 5))[1]
                for place in self.places]

        def done():
            self.read()
            return all(position >= end for position, end in zip(self.position, ends))

        scene.wait(f"{self.topic} is read up to {ends}", done)

    def close(self):
        self.consumer.close()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(run, *arguments):
    """Parses the command line, runs a test of a stack, and prints its result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--jars", required=True, help="the folder with classes/ and lib/")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for logs; `state` in it is for all else that is left")
    parser.add_argument("--log", default="server.log")
    parser.add_argument("--rounds", type=int, default=4, help="of killing something")
    for name, default in arguments:
        parser.add_argument(name, default=default)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    options.state = options.folder / "state"
    options.state.mkdir()
    server = Server([word for i, word in enumerate(options.command) if i or word != "--"], options.log)
    scene = Scene(options.bootstrap, server)

    def test():
        try:
            return run(options, scene)
        finally:
            scene.close()

    conclude(server, test)


__all__ = ["QUICK", "Failure", "Feed", "Program", "Reader", "Scene", "Server", "check", "free_port", "main", "remark"]
