"""Records a history: many clients do random things while the server is killed, stopped, and left without disk space.

    python histories.py --bootstrap 127.0.0.1:9092 --folder history [--disk FOLDER]
        [--seconds 75] [--seed 1] [--java 'java -cp ... Client'] [--log server.log] -- SERVER COMMAND...

Every client is a process (`history_worker.py`; those in Java share one), so that it can be killed and stopped as well.
What each did is in `FOLDER/*.jsonl`, and so are the faults; nothing is judged here but that clients do not fail and that
everything can be read to its end when the faults are over. `--disk` names the file system that the server's data are
on, small enough to be filled up. The last line printed is the result as JSON.
"""

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

from driver import SECONDS, Server, check, conclude, remark
from history_worker import PARTITIONS, QUICK, TOPICS

BALLAST, BALLAST_RECORD, BALLAST_RECORDS_MAX = "ballast", 200_000, 5_000
STOP_SECONDS_MAX = 60
# Role, and group.
CLIENTS = [
    ("plain", None), ("transact", "work-classic"), ("transact", "work-classic"), ("transact", "work-consumer"),
    ("read", None), ("member", "read-classic"), ("member", "read-classic"), ("member", "read-consumer"),
    ("member", "read-consumer"), ("observe", None),
]


class Client:
    """A process that records; started again under the same name after it was killed."""

    numbers = 0

    def __init__(self, options, name, role, group):
        self.options, self.name, self.role, self.group = options, name, role, group
        self.resume_at = None
        self.start()

    def start(self):
        Client.numbers += 1
        given = ["--name", self.name, "--number", str(Client.numbers), "--bootstrap", self.options.bootstrap,
                 "--seed", str(self.options.seed), "--log", str(self.options.folder / f"{self.name}.jsonl")]
        if self.role == "java":
            command = shlex.split(self.options.java) + given
        else:
            here = Path(__file__).parent / "history_worker.py"
            command = [sys.executable, str(here), self.role, *given] + (["--group", self.group] if self.group else [])
        self.said = self.options.folder / f"{self.name}.out"
        with open(self.said, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def look(self):
        """Whether it runs. One that its own library has ended (an assertion of librdkafka) is one that was killed."""
        code = self.process.poll()
        if code == -signal.SIGABRT and "Assertion" in self.tail():
            self.kill()
            return False
        check(code is None, f"client {self.name} ended by itself ({code}): {self.tail()}")
        if self.resume_at is not None and time.monotonic() >= self.resume_at:
            self.resume()
        return True

    def tail(self):
        return "\n".join(self.said.read_text(errors="replace").splitlines()[-10:])

    def stop_for(self, seconds):
        self.process.send_signal(signal.SIGSTOP)
        self.resume_at = time.monotonic() + seconds

    def resume(self):
        self.resume_at = None
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.resume_at = None
        self.start()

    def finish(self):
        """Lets it end what it is doing."""
        self.resume()
        self.process.terminate()

    def wait(self, seconds):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            check(False, f"HANGS: client {self.name} does not end: {self.tail()}")
        # One that has just been started may not know yet what the signal asks for.
        check(code in (0, -signal.SIGTERM, 128 + signal.SIGTERM), f"client {self.name} failed ({code}): {self.tail()}")


class Faults:
    def __init__(self, options, server, clients):
        self.options, self.server, self.clients = options, server, clients
        self.dice = random.Random(options.seed)
        self.file = open(options.folder / "faults.jsonl", "a", buffering=1)
        self.counts = {}
        self.until = time.monotonic() + options.seconds

    def note(self, what):
        self.file.write(json.dumps({"at": time.monotonic_ns(), "event": "fault", "what": what}) + "\n")
        remark(f"{self.options.seconds - (self.until - time.monotonic()):6.1f} s: {what}")

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def sleep(self, seconds):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            for client in self.clients:
                if not client.look():
                    self.note(f"client {client.name} has ended itself: {client.tail()}")
                    self.count("clients that ended themselves")
            check(self.server.process.poll() is None, f"the server ended by itself: {self.server.process.returncode}")

    def run(self):
        kinds = [(self.kill, 5), (self.stop, 3), (self.kill_client, 4), (self.stop_client, 3)]
        if self.options.disk:
            kinds.append((self.fill, 2))
        fault, weights = zip(*kinds)
        # Each kind once before chance has its way, so that a short run has seen all.
        first = self.dice.sample(fault, len(fault))
        while time.monotonic() < self.until:
            self.sleep(self.dice.uniform(0.5, 5))
            (first.pop() if first else self.dice.choices(fault, weights)[0])()
        for client in self.clients:
            if client.resume_at is not None:
                client.resume()

    def length(self):
        """For how long something is stopped: mostly short, now and then longer than every timeout."""
        most = min(STOP_SECONDS_MAX, self.options.seconds / 5)
        return self.dice.uniform(0.2, self.dice.choice((1, 1, most / 3, most)))

    def restart(self):
        self.server.kill()
        if self.dice.random() < 0.3:
            time.sleep(self.dice.uniform(0, 3))
        self.server.start()
        if self.dice.random() < 0.25:
            # While it starts, too.
            time.sleep(self.dice.uniform(0, 0.5))
            self.note("kill the server while it starts")
            self.server.kill()
            self.server.start()

    def kill(self):
        self.note("kill the server")
        self.count("kills")
        self.restart()

    def stop(self):
        seconds = self.length()
        self.note(f"stop the server for {seconds:.1f} s")
        self.count("stops")
        os.killpg(self.server.process.pid, signal.SIGSTOP)
        try:
            self.sleep(seconds)
        finally:
            os.killpg(self.server.process.pid, signal.SIGCONT)
        self.note("the server goes on")

    def kill_client(self):
        client = self.dice.choice(self.clients)
        self.note(f"kill client {client.name}")
        self.count("clients killed")
        client.kill()

    def stop_client(self):
        client = self.dice.choice(self.clients)
        if client.resume_at is None:
            seconds = self.length() * 2
            self.note(f"stop client {client.name} for {seconds:.1f} s")
            self.count("clients stopped")
            client.stop_for(seconds)

    def fill(self):
        """Takes all the disk there is, and gives it back."""
        self.note("fill the disk")
        ballast = self.options.disk / "ballast"
        try:
            take_all(ballast)
            refused = self.produce_until_refused()
            self.note("records are refused" if refused else "no record was refused")
            self.count("full disks" if refused else "disks that were nearly full")
            self.sleep(self.dice.uniform(0, 8))
            if self.dice.random() < 0.3:
                self.note("kill the server on a full disk")
                self.count("kills on a full disk")
                self.restart()
                self.sleep(self.dice.uniform(0, 3))
        finally:
            ballast.unlink(missing_ok=True)
        self.note("the disk has space again")
        self.patiently("the ballast is deleted", self.delete_ballast)
        self.patiently("records are taken again", lambda: not self.produce(1))
        self.note("records are taken again")

    def patiently(self, what, attempt):
        deadline = time.monotonic() + 2 * SECONDS
        while True:
            try:
                if attempt():
                    return
                error = "no"
            except (ck.KafkaException, OSError) as failure:
                error = failure
            check(time.monotonic() < deadline, f"HANGS: {what}: {error}")
            self.sleep(0.3)

    def produce_until_refused(self):
        for _ in range(BALLAST_RECORDS_MAX // 50):
            if self.produce(50):
                return True
        return False

    def produce(self, count):
        """Whether one of so many large records was refused, or is not taken in time."""
        producer = ck.Producer({"bootstrap.servers": self.options.bootstrap, "retries": 0, "batch.size": 900_000,
                                "message.timeout.ms": 10_000, **QUICK})
        failed = []
        for number in range(count):
            producer.produce(BALLAST, b"." * BALLAST_RECORD, partition=number % PARTITIONS,
                             on_delivery=lambda error, _: error and failed.append(error))
        producer.flush(20)
        return bool(failed)

    def delete_ballast(self):
        admin = AdminClient({"bootstrap.servers": self.options.bootstrap, **QUICK})
        places = [ck.TopicPartition(BALLAST, partition, ck.OFFSET_END) for partition in range(PARTITIONS)]
        for answer in admin.delete_records(places, request_timeout=10).values():
            answer.result()
        return True


def take_all(path):
    """Leaves no byte of the file system that this file is on."""
    with open(path, "wb", buffering=0) as file:
        free = os.statvfs(path)
        try:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        except OSError:
            pass  # something else was quicker: byte by byte
        file.seek(0, os.SEEK_END)
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def create_topics(bootstrap, server):
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUICK})
    for topic in (*TOPICS, BALLAST):
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                admin.create_topics([NewTopic(topic, PARTITIONS, 1)], request_timeout=5)[topic].result()
                break
            except ck.KafkaException as error:
                if error.args[0].code() == ck.KafkaError.TOPIC_ALREADY_EXISTS:
                    break
                check(server.process.poll() is None, "the server ended by itself")
                check(time.monotonic() < deadline, f"the topic can't be created: {error}")
                time.sleep(0.2)


def run(options, server):
    create_topics(options.bootstrap, server)
    kinds = CLIENTS + ([("java", None)] if options.java else [])
    clients = [Client(options, f"{role}-{at}", role, group) for at, (role, group) in enumerate(kinds)]
    faults = Faults(options, server, clients)
    try:
        began = time.monotonic()
        faults.run()
        for client in clients:
            client.finish()
        for client in clients:
            client.wait(3 * SECONDS)
        # Every id that a client had, also of those that were killed.
        ids = [client.name for client in clients if client.role == "transact"]
        ids += [f"{client.name}-id-{at}" for client in clients if client.role == "java" for at in range(2)]
        drain(options, server, ids)
    finally:
        for client in clients:
            client.process.kill()
    return {"seed": options.seed, "seconds": round(time.monotonic() - began), **faults.counts}


def drain(options, server, ids):
    remark("reading everything to its end")
    here = Path(__file__).parent / "history_worker.py"
    command = [sys.executable, str(here), "drain", "--name", "drain", "--number", str(Client.numbers + 1), "--bootstrap",
               options.bootstrap, "--seed", "0", "--log", str(options.folder / "drain.jsonl"), "--ids", *ids]
    out = subprocess.run(command, capture_output=True, text=True, timeout=10 * SECONDS)
    check(out.returncode == 0, f"the end: {out.stdout[-1000:]} {out.stderr[-2000:]}")
    check(server.process.poll() is None, f"the server ended by itself: {server.process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--folder", required=True, type=Path, help="for what is recorded")
    parser.add_argument("--disk", type=Path, help="the file system to fill up")
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--java", help="the command of the clients in Java")
    parser.add_argument("--log", default="server.log")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    server = Server([word for i, word in enumerate(options.command) if i or word != "--"], options.log)
    remark(f"seed {options.seed}")
    conclude(server, lambda: run(options, server))


main()
