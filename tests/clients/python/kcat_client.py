"""kcat: the command-line client on librdkafka, as Debian packages it."""

import re
import subprocess
import threading

import suite

SECONDS = 30
# One line with places and lengths, then the bytes of key, value and headers; -1 is null.
FORMAT = "%p %o %T %K %S\n%k%s\n%h\n"


def kcat(*arguments, **options):
    done = subprocess.run(["kcat", *arguments], capture_output=True, timeout=SECONDS, **options)
    assert done.returncode == 0, f"kcat: exit {done.returncode}: {done.stderr.decode()}"
    return done


def complaint(*arguments, **options):
    """What kcat says that ends as failed."""
    done = subprocess.run(["kcat", *arguments], capture_output=True, timeout=SECONDS, **options)
    assert done.returncode != 0, "kcat ended well"
    return done.stderr.decode()


def place(bootstrap):
    """Where the server is, and how to log in, as arguments."""
    return [word for pair in suite.librdkafka(bootstrap).items() for word in ("-X", "=".join(pair))]


def read_record(stream):
    """One record as FORMAT prints it, or None at the end."""
    line = stream.readline()
    if not line:
        return None
    partition, offset, timestamp, key_size, value_size = map(int, line.split())
    key, value = (None if size < 0 else stream.read(size) for size in (key_size, value_size))
    stream.readline()
    headers = parse_headers(stream.readline()[:-1])
    return suite.Record(key, value, headers, timestamp, partition, offset)


def parse_headers(text):
    """From `name=value,name=value`; no value in the suite has a comma. A null value is printed as NULL."""
    pairs = [pair.partition(b"=") for pair in text.split(b",") if pair]
    return [(name.decode(), None if value == b"NULL" else value) for name, _, value in pairs]


def is_plain(r):
    return r.key and r.value and not r.headers and not any(c in r.key + r.value for c in b"\t\n")


class Member:
    """`kcat -G`: commits by itself, every 200 ms and at the end."""

    def __init__(self, bootstrap, group, topic, instance):
        self.assigned, self.rebalances, self.got = set(), 0, []
        properties = [
            "auto.offset.reset=earliest",
            "auto.commit.interval.ms=200",
            "heartbeat.interval.ms=300",
            "session.timeout.ms=10000",
        ]
        if instance:
            properties.append(f"group.instance.id={instance}")
        options = [word for p in properties for word in ("-X", p)]
        self.process = subprocess.Popen(
            ["kcat", *place(bootstrap), *options, "-u", "-f", FORMAT, "-G", group, topic],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self._records, self._remarks)]
        for thread in self.threads:
            thread.start()

    def _records(self):
        while record := read_record(self.process.stdout):
            with self.changed:
                self.got.append(record)
                self.changed.notify()

    def _remarks(self):
        """`% Group G rebalanced (memberid ...): assigned: topic [0], topic [1]`, or `revoked: ...`"""
        for line in self.process.stderr:
            partitions = {int(p) for p in re.findall(rb"\[(\d+)\]", line.rpartition(b"signed: ")[2])}
            if b": assigned:" in line:
                self.assigned = partitions
                self.rebalances += 1
            elif b": revoked:" in line:
                self.assigned = set()

    def poll(self):
        with self.changed:
            self.changed.wait_for(lambda: self.got, timeout=0.1)
            got, self.got = self.got, []
            return got

    def commit(self, offsets=None):
        if offsets:
            raise suite.Lacks("kcat commits by itself only")

    def close(self):
        self.process.terminate()
        self.process.wait(SECONDS)
        for thread in self.threads:
            thread.join()
        return self.got


class Kcat(suite.Client):
    name = "kcat"
    lacks = {"commit-manual": "kcat commits by itself only"}
    if "token" in suite.DOOR:
        lacks |= dict.fromkeys(suite.SCENARIOS, "kcat can't be given a token")
    sets_timestamps = False
    # Told to end, kcat 1.7.1 drops the next record that it gets, but commits it.
    leaves_under_load = False

    def version(self):
        version, librdkafka = re.search(r"Version (\S+) .*librdkafka (\S+)", kcat("-V").stdout.decode()).groups()
        return f"{version} (librdkafka {librdkafka})"

    def produce(self, topic, records, compression="none", acks="all", idempotent=False):
        options = ["-P", *place(self.bootstrap), "-t", topic, "-z", compression, "-X", f"acks={acks}"]
        # Without idempotence, a retry of one of several requests in flight changes the order.
        order = "enable.idempotence=true" if idempotent else "max.in.flight.requests.per.connection=1"
        options += ["-X", order]
        # kcat puts one set of headers on all that it sends in a run: one run for each record then, or
        # one for the plain records of each partition.
        if all(map(is_plain, records)):
            for partition in dict.fromkeys(r.partition for r in records):
                self._send_lines(options, [r for r in records if r.partition == partition])
        else:
            for r in records:
                self._send_one(options, r)

    def _send_lines(self, options, records):
        lines = b"".join(r.key + b"\t" + r.value + b"\n" for r in records)
        partition = -1 if records[0].partition is None else records[0].partition
        kcat(*options, "-p", str(partition), "-K", "\t", input=lines)

    def _send_one(self, options, r):
        for name, value in r.headers:
            options = [*options, "-H", name.encode() if value is None else name.encode() + b"=" + value]
        options += ["-p", "-1" if r.partition is None else str(r.partition), "-D", "<end>"]
        if r.value is None:
            options.append("-Z")
        text = (r.value or b"") + b"<end>"
        if r.key is not None:
            options += ["-K", "<key>"]
            text = r.key + b"<key>" + text
        kcat(*options, input=text)

    def read(self, topic, partition, start, count, ready=None):
        at = {"start": "beginning", "end": "end"}.get(start, start)
        if isinstance(start, tuple):
            at = f"s@{start[1]}"
        command = ["kcat", "-C", *place(self.bootstrap), "-t", topic, "-p", str(partition), "-o", str(at)]
        command += ["-c", str(count), "-u", "-f", FORMAT]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            watchdog = threading.Timer(SECONDS, process.kill)
            watchdog.start()
            if ready:
                # With nothing to read yet kcat says "% Reached end of topic": it is in place.
                process.stderr.readline()
                ready()
            got = []
            while record := read_record(process.stdout):
                got.append(record)
            watchdog.cancel()
        assert len(got) == count, f"only {len(got)} of {count} records came"
        return got

    def denied(self, topic):
        said = complaint("-P", *place(self.bootstrap), "-t", topic, input=b"v\n")
        assert "Broker: Topic authorization failed" in said, said

    def turned_away(self):
        said = complaint("-L", *place(self.bootstrap))
        wanted = "SASL authentication error" if "mechanism" in suite.DOOR else "SSL"
        return [line for line in said.splitlines() if wanted in line]

    def visible(self, records):
        """kcat prints the value of a header up to its first zero byte."""
        cut = lambda value: value and value.partition(b"\0")[0]
        return [r._replace(headers=[(name, cut(value)) for name, value in r.headers]) for r in records]

    def member(self, group, topic, auto_commit=False, instance=None):
        return Member(self.bootstrap, group, topic, instance)

    def committed(self, group, topic):
        raise suite.Lacks("kcat can't tell what a group has committed")

    def offset(self, topic, partition, spec):
        asked = {"earliest": -2, "latest": -1}.get(spec, spec)
        printed = kcat("-Q", *place(self.bootstrap), "-t", f"{topic}:{partition}:{asked}").stdout
        return int(printed.split()[-1])


suite.main(Kcat)
