"""A word count with Kafka Streams, exactly once, while its processes and the server are killed (SIGKILL).

Two instances of `WordCount` share the work. One of them, the server, one of them with its state on disk, and both
the server and an instance are killed in turn while lines come in. At the end the topic of the counts holds, for each word,
every number from one to how often it was fed, once and in order, and the changelog the last of them.
"""

import collections
import random
import shutil
import struct

from stack import Feed, Program, Reader, check, main, remark

LINES, COUNTS, CHANGELOG, PARTITIONS = "lines", "counts", "word-count-counts-changelog", 4
REPARTITION = "word-count-words-repartition"
WORDS = [f"word-{number}" for number in range(60)]


class Text:
    """Lines without an end, and how often each word was in them."""

    def __init__(self):
        self.random, self.fed = random.Random(1), collections.Counter()

    def __next__(self):
        words = self.random.choices(WORDS, k=5)
        self.fed.update(words)
        return {"value": " ".join(words)}


class Counts:
    """The counts of each word, each exactly once and in order, and none beyond what was fed."""

    def __init__(self, fed):
        self.fed, self.last, self.by_partition = fed, collections.Counter(), [0] * PARTITIONS

    def __call__(self, message):
        word, count = message.key().decode(), struct.unpack(">q", message.value())[0]
        wanted = self.last[word] + 1
        where = f"{word} at {message.topic()}/{message.partition()}/{message.offset()}"
        check(count >= wanted, f"DOUBLED, or out of order: {count} after {wanted - 1} of {where}")
        check(count <= wanted, f"LOST: {count} after {wanted - 1} of {where}")
        check(count <= self.fed[word], f"DOUBLED: {count}, but fed {self.fed[word]} times: {where}")
        self.last[word] = count
        self.by_partition[message.partition()] += 1


def instance(options, number):
    settings = [f"group.protocol={options.protocol}", f"processing.guarantee={options.guarantee}",
                "repartition.purge.interval.ms=1000"]
    if options.protocol == "classic":
        settings.append("session.timeout.ms=6000")  # else a killed member is missed for 45 s
    state = options.folder / f"state-{number}"
    return Program(options, f"instance-{number}", "WordCount", options.bootstrap, state, *settings), state


def run(options, scene):
    """Counts words under kills."""
    scene.create(LINES, PARTITIONS)
    scene.create(COUNTS, PARTITIONS)
    text = Text()
    counts = Counts(text.fed)
    feed = Feed(scene, LINES, text)
    scene.readers.append(Reader(scene.bootstrap, COUNTS, PARTITIONS, counts))
    instances = []
    for number in range(2):
        instances.append(instance(options, number))
        scene.programs.append(instances[-1][0])

    def progress():
        """All tasks go on from here, in transactions that were not open before."""
        before = list(counts.by_partition)
        scene.wait("every partition of the counts grows", lambda: all(
            now >= then + 200 for now, then in zip(counts.by_partition, before)))

    for number in range(options.rounds):
        scene.wait("both instances are running", lambda: all(one.said("RUNNING") for one, _ in instances))
        progress()
        what = ("instance", "server", "instance and state", "both")[number % 4]
        remark(f"round {number + 1}: {sum(counts.by_partition)} counts; killing: {what}")
        killed, state = instances[number // 4 % 2]
        if what != "server":
            killed.kill()
        if what in ("server", "both"):
            scene.server.kill()
            scene.server.start()
        if what == "instance and state":
            shutil.rmtree(state)
        if what != "server":
            killed.start()
    progress()
    feed.finish()
    scene.wait("everything is counted", lambda: counts.last == text.fed)
    scene.wait("what was repartitioned is deleted", lambda: purged(scene))
    for program, _ in instances:
        scene.programs.remove(program)
        program.end()
    scene.readers.pop().to_end(scene)
    check(counts.last == text.fed, "something was counted after everything had been counted")
    changelog(scene, text.fed)
    return {"protocol": options.protocol, "rounds": options.rounds, "lines": feed.sent, "counts": sum(counts.by_partition)}


def purged(scene):
    """Whether the application has deleted what it has read of its own topic."""
    reader = Reader(scene.bootstrap, REPARTITION, PARTITIONS, None)
    starts = [reader.consumer.get_watermark_offsets(place, 5)[0] for place in reader.places]
    reader.close()
    return all(starts)


def changelog(scene, expected):
    check(scene.config(CHANGELOG)["cleanup.policy"] == "compact", f"{CHANGELOG} is not compacted")
    last = {}
    for message in scene.read_all(CHANGELOG):
        # A value begins with a timestamp.
        last[message.key().decode()] = struct.unpack(">q", message.value()[-8:])[0]
    check(last == dict(expected), f"the changelog does not hold the last counts: {last}")


main(run, ("--protocol", "classic"), ("--guarantee", "exactly_once_v2"))
