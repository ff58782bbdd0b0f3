"""A word count with Kafka Streams, exactly once, while its processes and the server are killed (SIGKILL).

Two instances of `WordCount` share the work. One of them, the server, one of them with its state on disk, and both
the server and an instance are killed in turn while lines come in. At the end the topic of the counts holds, for each word,
every number from one to how often it was fed, once and in order, and the changelog the last of them.
"""

import shutil
import struct

from stack import Program, Reader, check, main, remark
from words import PARTITIONS, Counting, Counts

CHANGELOG, REPARTITION = "word-count-counts-changelog", "word-count-words-repartition"


def long(value):
    return struct.unpack(">q", value)[0]


def instance(options, number):
    settings = [f"group.protocol={options.protocol}", f"processing.guarantee={options.guarantee}",
                "repartition.purge.interval.ms=1000"]
    if options.protocol == "classic":
        settings.append("session.timeout.ms=6000")  # else a killed member is missed for 45 s
    state = options.state / f"instance-{number}"
    return Program(options, f"instance-{number}", "WordCount", options.bootstrap, state, *settings), state


def run(options, scene):
    """Counts words under kills."""
    counting = Counting(scene, Counts, long)
    instances = []
    for number in range(2):
        instances.append(instance(options, number))
        scene.programs.append(instances[-1][0])
    for number in range(options.rounds):
        scene.wait("both instances are running", lambda: all(one.said("RUNNING") for one, _ in instances))
        counting.progress()
        what = ("instance", "server", "instance and state", "both")[number % 4]
        remark(f"round {number + 1}: {sum(counting.counts.by_partition)} counts; killing: {what}")
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
    counting.progress()
    counting.finish()
    scene.wait("what was repartitioned is deleted", lambda: purged(scene))
    for program, _ in instances:
        scene.programs.remove(program)
        program.end()
    counting.end()
    changelog(scene, counting.fed)
    return {"protocol": options.protocol, "rounds": options.rounds, **counting.told()}


def purged(scene):
    """Whether the application has deleted what it has read of its own topic."""
    reader = Reader(scene.bootstrap, REPARTITION, PARTITIONS, None)
    starts = [reader.consumer.get_watermark_offsets(place, 5)[0] for place in reader.places]
    reader.close()
    return all(starts)


def changelog(scene, expected):
    check(scene.config(CHANGELOG)["cleanup.policy"] == "compact", f"{CHANGELOG} is not compacted")
    # A value begins with a timestamp.
    last = {message.key().decode(): long(message.value()[-8:]) for message in scene.read_all(CHANGELOG)}
    check(last == dict(expected), f"the changelog does not hold the last counts: {last}")


main(run, ("--protocol", "classic"), ("--guarantee", "exactly_once_v2"))
