"""MirrorMaker 2 between Apache Kafka and this server, in both directions at once, exactly once, while it and this server
are killed (SIGKILL).

Orders are fed to Apache Kafka and mirrored here; payments are fed here and mirrored there. At the end each mirror
holds each record once and in order, in its partition, with key, header and timestamp; configs and added partitions have
followed; and groups that have read at one side go on at the other where they were.
"""

import itertools
import time

import confluent_kafka as ck

from stack import QUICK, Feed, Program, Reader, Server, check, free_port, main, remark

PARTITIONS = 3
SOURCES = {"kafka": "orders", "millstream": "payments"}


class Numbers:
    """Counts into each partition."""

    def __init__(self):
        self.counts, self.turn, self.began = [0] * PARTITIONS, itertools.count(), int(time.time() * 1000)

    def __next__(self):
        partition = next(self.turn) % PARTITIONS
        number = self.counts[partition]
        self.counts[partition] += 1
        return {"partition": partition, **self.record(partition, number)}

    def record(self, partition, number):
        return {"key": f"key of {partition}", "value": str(number), "headers": [("number", b"%d" % number)],
                "timestamp": self.began + number}


class Mirror:
    """What is mirrored of the numbers: each once, in order, in its partition, as it was."""

    def __init__(self, numbers):
        self.numbers, self.next = numbers, [0] * PARTITIONS

    def __call__(self, message):
        partition, number = message.partition(), int(message.value())
        wanted, where = self.next[partition], f"{message.topic()}/{partition}/{message.offset()}"
        check(number >= wanted, f"DOUBLED, or out of order: {number} after {wanted - 1} at {where}")
        check(number <= wanted, f"LOST: {number} after {wanted - 1} at {where}")
        found = {"key": message.key().decode(), "value": message.value().decode(), "headers": message.headers(),
                 "timestamp": message.timestamp()[1]}
        check(found == self.numbers.record(partition, number), f"CHANGED: {found} at {where}")
        self.next[partition] += 1


def settings(kafka, millstream):
    both = {
        "clusters": "kafka, millstream",
        "kafka.bootstrap.servers": kafka, "millstream.bootstrap.servers": millstream,
        # What MirrorMaker's documentation asks for where records are to be mirrored exactly once.
        "dedicated.mode.enable.internal.rest": "true", "listeners": f"http://127.0.0.1:{free_port()}",
        # Everything follows within a second rather than minutes, and a death is noticed in seconds.
        "refresh.topics.interval.seconds": 1, "refresh.groups.interval.seconds": 1,
        "sync.topic.configs.interval.seconds": 1, "sync.group.offsets.interval.seconds": 1,
        "emit.checkpoints.interval.seconds": 1, "sync.group.offsets.enabled": "true", "offset.lag.max": 0,
        "session.timeout.ms": 6_000, "heartbeat.interval.ms": 1_500, "scheduled.rebalance.max.delay.ms": 1_000,
        "tasks.max": 2,
    }
    for topic in ("", "checkpoints.topic.", "heartbeats.topic.", "offset-syncs.topic.",
                  "offset.storage.", "config.storage.", "status.storage."):
        both[f"{topic}replication.factor"] = 1
    for source, target in (("kafka", "millstream"), ("millstream", "kafka")):
        both |= {
            f"{source}->{target}.enabled": "true", f"{source}->{target}.topics": SOURCES[source],
            f"{target}.exactly.once.source.support": "enabled",
            f"{source}.consumer.isolation.level": "read_committed",
        }
    return "".join(f"{name}={value}\n" for name, value in both.items())


def read_as(scene, group, topic, wanted):
    """Has a group read so many records of each partition and commit; the numbers it has read."""
    consumer = ck.Consumer({
        "bootstrap.servers": scene.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True,
        "session.timeout.ms": 6_000, **QUICK,
    })
    consumer.subscribe([topic])
    numbers, after, ended = [[] for _ in range(PARTITIONS)], {}, set()

    def done():
        for message in consumer.consume(500, timeout=0.05):
            partition = message.partition()
            if message.error() is None and len(numbers[partition]) < wanted[partition]:
                numbers[partition].append(int(message.value()))
                after[partition] = ck.TopicPartition(topic, partition, message.offset() + 1)
            elif message.error() is not None and message.error().code() == ck.KafkaError._PARTITION_EOF:
                ended.add(partition)
        return all(len(found) >= want or partition in ended
                   for partition, (found, want) in enumerate(zip(numbers, wanted)))

    scene.wait(f"{group} reads {topic}", done)
    if after:
        consumer.commit(offsets=list(after.values()), asynchronous=False)
    consumer.close()
    return numbers


def groups_go_on(here, there, topic, mirror, counts):
    """Groups that have read all, and half, of a topic at one side go on at the other: nothing is left out, and who has
    read everything sees nothing again."""
    half = [count // 2 for count in counts]
    for group, wanted in (("all", counts), ("half", half)):
        found = read_as(here, f"{group} of {topic}", topic, wanted)
        check(found == [list(range(count)) for count in wanted], f"{group} has not read {wanted} of {topic}")
    ends = ends_of(there, mirror)

    def synced():
        committed = committed_offsets(there, f"all of {topic}", mirror)
        return all(offset is not None and offset >= end for offset, end in zip(committed, ends)) and all(
            offset is not None for offset in committed_offsets(there, f"half of {topic}", mirror))

    there.wait(f"offsets of {mirror} have followed", synced)
    endless = [10**9] * PARTITIONS
    again = read_as(there, f"all of {topic}", mirror, endless)
    check(not any(again), f"who has read all of {topic} sees some of it again: {again}")
    rest = read_as(there, f"half of {topic}", mirror, endless)
    for partition, numbers in enumerate(rest):
        check(numbers == list(range(numbers[0], counts[partition])), f"LOST: {mirror}/{partition} holds {numbers}")
        # How far it goes back is MirrorMaker's affair; that it has gone on somewhere is not.
        check(0 < numbers[0] <= half[partition], f"{mirror}/{partition} goes on at {numbers[0]}, not {half[partition]}")


def ends_of(scene, topic):
    """One past the last record of each partition."""
    ends = [0] * PARTITIONS
    for message in scene.read_all(topic):
        ends[message.partition()] = message.offset() + 1
    return ends


def committed_offsets(scene, group, topic):
    places = [ck.TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    request = ck.ConsumerGroupTopicPartitions(group, places)
    found = scene.ask("committed offsets are looked up", lambda: scene.admin.list_consumer_group_offsets(
        [request])[group].result())
    return [place.offset if place.offset >= 0 else None for place in found.topic_partitions]


def run(options, scene):
    """Mirrors in both directions under kills."""
    port = free_port()
    bootstrap = f"127.0.0.1:{port}"
    command = [options.peer, str(port), str(options.state / "peer")]
    kafka = scene.beside(bootstrap, Server(command, options.folder / "peer.log"))
    sides = {"kafka": (kafka, scene), "millstream": (scene, kafka)}
    feeds, mirrors = {}, {}
    for source, (here, there) in sides.items():
        topic = SOURCES[source]
        here.create(topic, PARTITIONS, retention_ms="777000000", max_message_bytes="54321")
        feeds[source] = Feed(here, topic, Numbers(), at_once=6)
    path = options.folder / "mirror-maker.properties"
    path.write_text(settings(bootstrap, scene.bootstrap))
    program = Program(options, "mirror-maker", "org.apache.kafka.connect.mirror.MirrorMaker", path)
    scene.programs.append(program)
    for source, (here, there) in sides.items():
        mirror = f"{source}.{SOURCES[source]}"
        there.wait(f"{mirror} is there", lambda: there.partitions(mirror) == PARTITIONS)
        mirrors[source] = Mirror(feeds[source].records)
        scene.readers.append(Reader(there.bootstrap, mirror, PARTITIONS, mirrors[source]))

    def progress():
        before = {source: list(feed.records.counts) for source, feed in feeds.items()}
        scene.wait("what is fed now is mirrored in both directions", lambda: all(
            reached > fed for source in feeds for reached, fed in zip(mirrors[source].next, before[source])))

    for number in range(options.rounds):
        progress()
        what = ("mirror-maker", "server", "both", "server")[number % 4]
        remark(f"round {number + 1}: mirrored {[mirrors[source].next for source in mirrors]}; killing: {what}")
        if what != "server":
            program.kill()
        if what != "mirror-maker":
            scene.server.kill()
            scene.server.start()
        if what != "server":
            program.start()
    progress()
    for feed in feeds.values():
        feed.finish()
    for source, (here, there) in sides.items():
        topic, mirror, counts = SOURCES[source], f"{source}.{SOURCES[source]}", feeds[source].records.counts
        scene.wait(f"{mirror} is complete", lambda: mirrors[source].next == counts)
        configs_follow(here, there, topic, mirror)
        groups_go_on(here, there, topic, mirror, counts)
    scene.programs.remove(program)
    program.end()
    for reader in scene.readers:
        reader.to_end(scene)
    return {"rounds": options.rounds, **{source: sum(mirror.next) for source, mirror in mirrors.items()}}


def configs_follow(here, there, topic, mirror):
    def follows(name, value):
        there.wait(f"{name} of {mirror} is {value}", lambda: there.config(mirror)[name] == value)

    follows("retention.ms", "777000000")
    follows("max.message.bytes", "54321")
    here.set_config(topic, "retention.ms", "888000000")
    follows("retention.ms", "888000000")
    here.add_partitions(topic, PARTITIONS + 1)
    there.wait(f"{mirror} has another partition", lambda: there.partitions(mirror) == PARTITIONS + 1)


main(run, ("--peer", "tests/clients/peer/apache-kafka.sh"))
