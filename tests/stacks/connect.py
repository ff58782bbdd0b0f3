"""Kafka Connect in distributed mode: lines of a file go to a topic and from there to another file, while workers and
the server are killed (SIGKILL).

Two workers share the file source and the file sink, which are set up through their REST API. With
`--source exactly-once` the workers have `exactly.once.source.support=enabled`, and the topic holds each line once and in order;
without, each line at least once, as Connect promises then. The sink may write again what it has not committed; it
leaves nothing out. At the end its offsets are reset, and it writes everything anew.
"""

import json
import re
import urllib.error
import urllib.request

from stack import Failure, Program, Reader, check, free_port, main, remark

TOPIC, SOURCE, SINK = "lines", "file-source", "file-sink"
CLASS = "org.apache.kafka.connect.file.FileStream%sConnector"
INTERNAL = {"offset": "connect-offsets", "config": "connect-configs", "status": "connect-status"}


class File:
    """A file that grows by numbered lines."""

    def __init__(self, scene, path):
        self.out, self.lines = open(path, "w"), 0
        scene.feeds.append(self)

    def pump(self):
        for _ in range(5):
            self.out.write(f"<{self.lines}>\n")
            self.lines += 1
        self.out.flush()


class Topic:
    """The lines of the topic; exactly once if told so, else at least once: what is repeated is in order too."""

    def __init__(self, exactly_once):
        self.exactly_once, self.next = exactly_once, 0

    def __call__(self, message):
        number = int(message.value().decode().strip("<>"))
        where = f"{message.topic()}/{message.partition()}/{message.offset()}"
        check(number <= self.next, f"LOST: {number} after {self.next - 1} at {where}")
        check(number == self.next or not self.exactly_once, f"DOUBLED: {number} after {self.next - 1} at {where}")
        self.next = max(self.next, number + 1)


class Worker(Program):
    def __init__(self, options, number, **changes):
        self.port = free_port()
        settings = {
            "bootstrap.servers": options.bootstrap, "group.id": "connect",
            "listeners": f"http://127.0.0.1:{self.port}",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "exactly.once.source.support": "enabled" if options.source == "exactly-once" else "disabled",
            # A death is noticed, and what was done before taken over, in seconds.
            "session.timeout.ms": 6_000, "heartbeat.interval.ms": 1_500, "scheduled.rebalance.max.delay.ms": 1_000,
            "offset.flush.interval.ms": 500,
        }
        for kind, topic in INTERNAL.items():
            settings |= {f"{kind}.storage.topic": topic, f"{kind}.storage.replication.factor": 1}
        settings |= {name.replace("_", "."): value for name, value in changes.items()}
        path = options.folder / f"worker-{number}.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        super().__init__(options, f"worker-{number}", "org.apache.kafka.connect.cli.ConnectDistributed", path)

    def request(self, method, path, body=None):
        """The answer of the REST API; None while it has none, or not yet."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", method=method, headers={"Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            # It is being started, rebalanced, or waits for the server.
            if error.code in (404, 409, 500, 503, 504):
                return None
            raise Failure(f"{method} {path}: {error.code} {said}") from error
        except OSError:
            return None


def ask(scene, worker, method, path, body=None):
    answer = []

    def answered():
        answer[:] = [worker.request(method, path, body)]
        return answer[0] is not None

    scene.wait(f"{method} {path}", answered)
    return answer[0]


def is_running(worker, connector):
    status = worker.request("GET", f"connectors/{connector}/status")
    if status is None:
        return False
    failed = [task["trace"] for task in (status["connector"], *status["tasks"]) if task["state"] == "FAILED"]
    check(not failed, f"{connector} has failed: {failed}")
    return [task["state"] for task in (status["connector"], *status["tasks"])] == ["RUNNING", "RUNNING"]


def written(path):
    """How many lines of the beginning the sink has written, each at least once; and how many numbers in all."""
    # A line may be torn where the sink was killed.
    numbers = [int(number) for number in re.findall(r"<(\d+)>", path.read_text() if path.exists() else "")]
    upto = 0
    for number in numbers:
        check(number <= upto, f"LOST: {number} after {upto - 1} in {path}")
        upto = max(upto, number + 1)
    return upto, len(numbers)


def refuses_what_is_not_compacted(options, scene):
    """Connect looks at `cleanup.policy` before it starts: what we answer must be exact in both directions."""
    scene.create("not-compacted", 1, cleanup_policy="delete")
    worker = Worker(options, "refused", group_id="refused", offset_storage_topic="not-compacted")
    scene.wait("the worker ends", lambda: worker.process.poll() is not None)
    check(worker.said("cleanup.policy=compact"), "the worker has not ended because of cleanup.policy")


def run(options, scene):
    """Copies a file through a topic under kills."""
    source, sink = options.state / "source.txt", options.state / "sink.txt"
    exactly_once = options.source == "exactly-once"
    file = File(scene, source)
    workers = [Worker(options, number) for number in range(2)]
    scene.programs += workers
    ask(scene, workers[0], "PUT", f"connectors/{SOURCE}/config", {
        "connector.class": CLASS % "Source", "tasks.max": "1", "file": str(source), "topic": TOPIC,
        "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
        **({"exactly.once.support": "required"} if exactly_once else {}),
    })
    scene.wait(f"{TOPIC} is there, as the source has created it", lambda: scene.partitions(TOPIC) == 1)
    ask(scene, workers[1], "PUT", f"connectors/{SINK}/config", {
        "connector.class": CLASS % "Sink", "tasks.max": "1", "file": str(sink), "topics": TOPIC,
        "consumer.override.isolation.level": "read_committed",
    })
    topic = Topic(exactly_once)
    scene.readers.append(Reader(scene.bootstrap, TOPIC, 1, topic))

    def progress():
        before = file.lines
        scene.wait("what is written to the file now reaches the other", lambda: written(sink)[0] > before + 100)

    for number in range(options.rounds):
        for connector in (SOURCE, SINK):
            scene.wait(f"{connector} is running", lambda: is_running(workers[number % 2], connector))
        progress()
        what = ("worker", "server", "workers", "both")[number % 4]
        killed = {"worker": workers[:1], "server": [], "workers": workers, "both": workers[1:]}[what]
        remark(f"round {number + 1}: {topic.next} lines in the topic; killing: {what}")
        for worker in killed:
            worker.kill()
        if what in ("server", "both"):
            scene.server.kill()
            scene.server.start()
        for worker in killed:
            worker.start()
    progress()
    scene.feeds.remove(file)
    scene.wait("everything is in the other file", lambda: written(sink)[0] == file.lines)
    offsets_are_reset(scene, workers[0], sink, file.lines)
    ask(scene, workers[1], "DELETE", f"connectors/{SOURCE}")
    for worker in workers:
        scene.programs.remove(worker)
        worker.end()
    scene.readers[0].to_end(scene)
    check(topic.next == file.lines, f"{topic.next} lines in the topic, {file.lines} in the file")
    for internal in INTERNAL.values():
        check(scene.config(internal)["cleanup.policy"] == "compact", f"{internal} is not compacted")
    refuses_what_is_not_compacted(options, scene)
    return {"source": options.source, "rounds": options.rounds, "lines": file.lines, "written": written(sink)[1]}


def offsets_are_reset(scene, worker, sink, lines):
    """The sink is stopped, its group forgets its offsets, and it goes on from the start."""
    path = f"connectors/{SINK}"
    ask(scene, worker, "PUT", f"{path}/stop")
    scene.wait("the sink has stopped", lambda: ask(scene, worker, "GET", f"{path}/status")["connector"]["state"] == "STOPPED"
               and not ask(scene, worker, "GET", f"{path}/status")["tasks"])
    offset = ask(scene, worker, "GET", f"{path}/offsets")["offsets"][0]["offset"]["kafka_offset"]
    check(offset >= lines, f"the sink has committed {offset}, but written {lines} lines")
    ask(scene, worker, "DELETE", f"{path}/offsets")
    check(ask(scene, worker, "GET", f"{path}/offsets") == {"offsets": []}, "the sink's offsets are not reset")
    sink.unlink()
    ask(scene, worker, "PUT", f"{path}/resume")
    scene.wait("the sink has written everything anew", lambda: written(sink)[0] == lines)


main(run, ("--source", "at-least-once"))
