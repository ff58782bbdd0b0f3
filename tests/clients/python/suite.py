"""The scenarios, written once for all clients that are driven from Python.

A client is a class with the methods that `Client` lists; its program ends with `suite.main(TheClient)`:

    python confluent_client.py BOOTSTRAP SCENARIO RUN [ARGUMENT...]

The last line printed is the result: {"result": "pass" | "fail" | "skip", "reason": ..., "data": ...}.
"""

import base64
import collections
import contextlib
import hashlib
import json
import logging
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback
from typing import NamedTuple

TOPIC_AUTHORIZATION_FAILED, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS, NON_EMPTY_GROUP = 29, 36, 37, 68
PARTITIONS = 4  # of a topic that is created by being used: the server runs with num.partitions=4


# How to log in, where the server is not open to everybody: what xtask/src/test/secure.rs writes.
DOOR = json.loads(pathlib.Path(os.environ["DOOR"]).read_text()) if "DOOR" in os.environ else {}


class Tokens:
    """What gives clients their tokens; and those that it has given. `good_for`: for how many seconds it says so,
    whatever the token says."""

    def __init__(self, make, good_for=None):
        self.make, self.good_for, self.given = make, good_for, []

    def __call__(self):
        token = self.make()
        self.given.append(token)
        return token

    def until(self, token):
        return time.time() + self.good_for if self.good_for else expires(token)


# Scenarios that are about tokens put others here.
tokens = Tokens(lambda: DOOR["token"])


def expires(token):
    """When a token says that it expires."""
    claims = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]


def fresh_token():
    """One that is good for `token_seconds`."""
    made = subprocess.run(DOOR["make_token"], capture_output=True, check=True, text=True)
    return made.stdout.strip()


def librdkafka(bootstrap):
    """Where the server is and how to log in, as librdkafka takes it."""
    names = {
        "protocol": "security.protocol",
        "authority": "ssl.ca.location",
        "certificate": "ssl.certificate.location",
        "mechanism": "sasl.mechanism",
        "user": "sasl.username",
        "password": "sasl.password",
    }
    settings = {"bootstrap.servers": bootstrap}
    settings |= {name: DOOR[ours] for ours, name in names.items() if ours in DOOR}
    if "certificate" in DOOR:
        settings["ssl.key.location"] = DOOR["certificate"]
    if "token" in DOOR:
        settings["oauth_cb"] = lambda _, ask=tokens: (token := ask(), ask.until(token))
    return settings


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: list = []  # [(name, bytes or None)]: order and repetition count
    timestamp: int | None = None  # milliseconds; None: whatever the client puts there
    partition: int | None = 0  # None: the client's partitioner chooses
    offset: int | None = None


class Lacks(Exception):
    """The client can't do this: the scenario is skipped with this reason."""


class Client:
    """What a client must be able to do. A method left out makes its scenarios end as skipped."""

    name = "?"
    lacks = {}  # scenario -> why this client can't run it
    rebalance_errors = ()  # what a commit may raise while the group is rebalancing
    sets_timestamps = True
    protocol = "classic"  # "consumer" in scenarios whose name ends with -consumer
    logs_in_again = True  # False: when its login has ended it comes anew, and not on the same connection
    leaves_under_load = True  # False: it loses a record that arrives while it is ending

    def visible(self, records):
        """What the client shows of these records, where it can't show everything."""
        return records

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def __getattr__(self, method):
        raise Lacks(f"{self.name} can't: {method.replace('_', ' ')}")

    # version() -> str
    # produce(topic, records, compression="none", acks="all", idempotent=False) -> [(partition, offset)]
    # read(topic, partition, start, count, ready=None) -> [Record]
    #     start is an offset, "start", "end" or ("time", milliseconds); ready() is called when it is resolved
    # member(group, topic, auto_commit=False, instance=None) -> a member of a group, used by one thread:
    #     .poll() -> [Record] (waits for some at most 100 ms), .commit({partition: offset} or None),
    #     .close() -> records not polled yet that it has committed, or None, .assigned: set, .rebalances: int
    # committed(group, topic) -> {partition: offset}
    # create_topic(topic, partitions, configs), topics() -> names, describe_topic(topic) -> {partition: leader},
    # delete_topic(topic), add_partitions(topic, total)
    # configs(topic) -> {name: value}, alter_configs(topic, {name: value}, names to unset)
    # group_type(group) -> "classic" or "consumer"
    # groups() -> ids, describe_group(group) -> (state, number of members), delete_group(group)
    # offset(topic, partition, "earliest" | "latest" | milliseconds) -> offset or -1
    # delete_records(topic, partition, before) -> the new first offset
    # everything(topic, committed) -> [Record]: all partitions, each to the end that the isolation level shows
    # transactional(id, timeout=60) -> a producer that has taken the id, with an open transaction ended by that:
    #     .begin(), .send(topic, records), .offsets(group, topic, {partition: offset}, member), .commit(), .abort(),
    #     .close(). A send may fail later, by the commit
    # lasting(topic, patience=30) -> an idempotent producer that stays connected:
    #     .send(records) returns when all are acknowledged, or raises after so many seconds, .close()
    # error_code(exception) -> Kafka's error code
    # turned_away() -> the errors of a client that tries to log in by bad credentials, once it has said that it
    #     could not, in its own words or classes for it

    def denied(self, topic):
        """Tries to make a topic without a right, which has to be refused."""
        refused(self, TOPIC_AUTHORIZATION_FAILED, lambda: self.create_topic(topic, 1, {}))


def numbered(count, partition=0, base=None):
    """Records that are easy to tell apart; with `base`, one second of record time after another."""
    return [
        Record(f"k{i}".encode(), f"v{i}".encode(), [], base and base + i * 1000, partition) for i in range(count)
    ]


def unhex(text):
    return None if text is None else bytes.fromhex(text)


def load(path):
    """Records as the runner writes them: JSON with all bytes in hex."""
    with open(path) as file:
        return [
            Record(unhex(r["key"]), unhex(r["value"]), [(n, unhex(v)) for n, v in r["headers"]], r["timestamp"])
            for r in json.load(file)
        ]


def equal(got, expected):
    assert len(got) == len(expected), f"{len(got)} records instead of {len(expected)}"
    for i, (g, e) in enumerate(zip(got, expected)):
        for field in ("key", "value", "headers", "timestamp"):
            mine, its = getattr(g, field), getattr(e, field)
            if field == "timestamp" and its is None:
                continue
            assert mine == its, f"record {i}: {field} is {short(mine)} instead of {short(its)}"


def short(value):
    text = repr(value)
    return text if len(text) < 80 else f"{text[:60]}... ({len(text)})"


def wait(what, condition, seconds=30):
    """Polls until the condition holds."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)
    return result


def refused(client, code, action):
    try:
        action()
    except Lacks:
        raise
    except Exception as error:
        assert client.error_code(error) == code, f"error {client.error_code(error)} instead of {code}: {error!r}"
    else:
        raise AssertionError(f"not refused with error {code}")


# ---- produce


def produce(compression):
    def scenario(client, topic, records_file):
        records = load(records_file)
        client.produce(topic, records, compression=compression)
        equal(client.read(topic, 0, "start", len(records)), records)

    return scenario


def acks(level):
    def scenario(client, topic):
        records = numbered(100)
        client.produce(topic, numbered(1))  # a topic that is just being created may lose what has acks=0
        client.produce(topic, records, acks=level)
        equal(client.read(topic, 0, 1, 100), records)

    return scenario


def idempotent(client, topic):
    records = {p: numbered(500, p) for p in range(PARTITIONS)}
    mixed = [records[i % PARTITIONS][i // PARTITIONS] for i in range(2000)]
    client.produce(topic, mixed, idempotent=True)
    for p in records:
        equal(client.read(topic, p, "start", 500), records[p])
        assert client.offset(topic, p, "latest") == 500


def keys(client, topic):
    records = [Record(f"key-{i % 50}".encode(), str(i).encode(), partition=None) for i in range(1000)]
    client.produce(topic, records)
    counts = {p: count for p in range(PARTITIONS) if (count := client.offset(topic, p, "latest"))}
    assert len(counts) > 1, "one partition for 50 keys"
    seen = collections.defaultdict(list)
    for p, count in counts.items():
        for r in client.read(topic, p, "start", count):
            seen[r.key].append((p, int(r.value)))
    assert len(seen) == 50
    for key, places in seen.items():
        assert len({p for p, _ in places}) == 1, f"{key} in several partitions"
        assert len(places) == 20 and places == sorted(places), f"{key}: {places}"


# ---- consume


def consume_start(client, topic):
    records = numbered(100)
    client.produce(topic, records)
    got = client.read(topic, 0, "start", 100)
    equal(got, records)
    assert [r.offset for r in got] == list(range(100))


def consume_end(client, topic):
    client.produce(topic, numbered(100))
    later = numbered(10)
    got = client.read(topic, 0, "end", 10, ready=lambda: client.produce(topic, later))
    equal(got, later)
    assert got[0].offset == 100


def consume_offset(client, topic):
    records = numbered(100)
    client.produce(topic, records)
    got = client.read(topic, 0, 42, 58)
    equal(got, records[42:])
    assert got[0].offset == 42


def produce_over_time(client, topic):
    """100 records, and a time between the 42nd and the 43rd."""
    if client.sets_timestamps:
        base = int(time.time() * 1000) - 200_000
        client.produce(topic, numbered(100, base=base))
        return base + 41_500
    client.produce(topic, numbered(100)[:42])
    time.sleep(0.01)
    between = int(time.time() * 1000)
    time.sleep(0.01)
    client.produce(topic, numbered(100)[42:])
    return between


def consume_timestamp(client, topic):
    between = produce_over_time(client, topic)
    equal(client.read(topic, 0, ("time", between), 58), numbered(100)[42:])


# ---- groups


class Running:
    """A group member in a thread of its own; commits by hand after each poll unless told otherwise."""

    def __init__(self, client, group, topic, seen=None, **options):
        self.client, self.arguments, self.options = client, (group, topic), options
        self.seen = collections.Counter() if seen is None else seen
        self.assigned, self.rebalances, self.error = set(), 0, None
        self.leaving = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            member = self.client.member(*self.arguments, **self.options)
            while not self.leaving.is_set():
                records = member.poll()
                self.note(records)
                if records and not self.options.get("auto_commit"):
                    with contextlib.suppress(*self.client.rebalance_errors):
                        member.commit()
                self.assigned, self.rebalances = set(member.assigned), member.rebalances
            self.note(member.close() or [])
        except BaseException as error:
            self.error = error
            traceback.print_exc()

    def note(self, records):
        for r in records:
            self.seen[r.partition, r.offset] += 1

    def leave(self):
        self.leaving.set()
        self.thread.join(30)
        assert not self.thread.is_alive(), "a member didn't leave within 30 s"
        assert self.error is None, f"a member failed: {self.error!r}"


class Load:
    """Produces to all partitions until stopped."""

    def __init__(self, client, topic):
        self.client, self.topic, self.count, self.error = client, topic, 0, None
        self.stopping, self.going = threading.Event(), threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping.wait(0.1):
                with self.going:
                    self.client.produce(self.topic, [r for p in range(PARTITIONS) for r in numbered(25, p)])
                    self.count += 25 * PARTITIONS
        except Exception as error:
            self.error = error

    def stop(self):
        self.stopping.set()
        self.thread.join(30)
        assert self.error is None, f"the load failed: {self.error!r}"
        return self.count


def shared(*members):
    """Each member has partitions, no partition has two owners, and none is without."""

    def condition():
        failed = [m.error for m in members if m.error]
        assert not failed, f"a member failed: {failed[0]!r}"
        owned = [p for m in members for p in m.assigned]
        return all(m.assigned for m in members) and sorted(owned) == list(range(PARTITIONS))

    return condition


def committed(client, group):
    """Partition to committed offset, or None where the client can't tell."""
    try:
        return client.committed(group, group)
    except Lacks:
        return None


def group(client, topic):
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(1, p)])
    load, seen = Load(client, topic), collections.Counter()

    def join():
        return Running(client, topic, topic, seen)

    a = join()
    wait("the first member has all partitions", shared(a))
    b = join()
    wait("two members share", shared(a, b))
    c = join()
    wait("three members share", shared(a, b, c))
    with contextlib.nullcontext() if client.leaves_under_load else load.going:
        if not client.leaves_under_load:
            wait("all records so far", lambda: len(seen) >= load.count + PARTITIONS)
        b.leave()
    wait("two members share after one left", shared(a, c))
    b = join()
    wait("three members share again", shared(a, b, c))

    total = load.stop() + PARTITIONS
    with contextlib.suppress(AssertionError):
        wait(f"all {total} records seen", lambda: len(seen) >= total)
    ends = {p: client.offset(topic, p, "latest") for p in range(PARTITIONS)}
    assert sum(ends.values()) == total, f"{total} produced, {ends} there"
    missing = [(p, o) for p in ends for o in range(ends[p]) if not seen[p, o]]
    assert not missing, f"{len(missing)} records not seen: {missing[:5]}..."
    twice = sum(seen.values()) - total

    def settled():
        ends = {p: client.offset(topic, p, "latest") for p in range(PARTITIONS)}
        return committed(client, topic) in (ends, None) and shared(a, b, c)()

    wait("all committed", settled)
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(250, p)])
    wait("the next 1,000 records", lambda: len(seen) >= total + 1000)
    wait("the next 1,000 committed", settled)
    for member in (a, b, c):
        member.leave()
    assert sum(seen.values()) == total + 1000 + twice, "records seen twice after commits had settled"

    last = Running(client, topic, topic)
    wait("a new member has all partitions", shared(last))
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(1, p)])
    wait("the new member sees the newest", lambda: len(last.seen) >= PARTITIONS)
    last.leave()
    assert len(last.seen) == PARTITIONS, "a new member saw what was committed before"
    return {"records": total + 1000 + PARTITIONS, "seen twice during rebalances": twice}


def static_members(client, topic):
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(1, p)])
    one = Running(client, topic, topic, instance="one")
    two = Running(client, topic, topic, instance="two")
    wait("two members share", shared(one, two))
    had, kept, rebalances = one.assigned, two.assigned, two.rebalances
    one.leave()
    one = Running(client, topic, topic, instance="one")
    wait("the restarted member has its partitions again", lambda: one.assigned == had)
    before = len(two.seen)
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(5, p)])
    wait("both go on", lambda: len(one.seen) >= 5 and len(two.seen) >= before + 5)
    assert two.assigned == kept and two.rebalances == rebalances, "the other member was disturbed"
    one.leave()
    two.leave()


def first_records(member, count):
    got = []
    wait(f"{count} records", lambda: got.extend(member.poll()) or len(got) >= count)
    return got


def commit_manual(client, topic):
    client.produce(topic, numbered(100))
    first = client.member(topic, topic)
    first_records(first, 100)
    first.commit({0: 60})
    first.close()
    assert client.committed(topic, topic).get(0) == 60, client.committed(topic, topic)
    second = client.member(topic, topic)
    got = first_records(second, 40)
    second.close()
    assert [r.offset for r in got] == list(range(60, 100))


def commit_auto(client, topic):
    client.produce(topic, numbered(100))
    first = client.member(topic, topic, auto_commit=True)
    first_records(first, 100)
    wait("the automatic commit", lambda: first.poll() or (committed(client, topic) or {0: 100}).get(0) == 100)
    first.close()
    client.produce(topic, numbered(10))
    second = client.member(topic, topic, auto_commit=True)
    got = first_records(second, 10)
    second.close()
    assert [r.offset for r in got] == list(range(100, 110))


# ---- admin


def create(client, topic, partitions, configs):
    """Creates a topic and waits until the server shows it."""
    client.create_topic(topic, partitions, configs)
    wait("the topic is listed", lambda: topic in client.topics())


def topics(client, topic):
    create(client, topic, 3, {"retention.ms": "3600000"})
    refused(client, TOPIC_ALREADY_EXISTS, lambda: client.create_topic(topic, 3, {}))
    leaders = client.describe_topic(topic)
    assert sorted(leaders) == [0, 1, 2] and all(leader >= 0 for leader in leaders.values()), leaders
    client.delete_topic(topic)
    wait("the topic is gone", lambda: topic not in client.topics())


def partitions(client, topic):
    create(client, topic, 1, {})
    client.add_partitions(topic, 5)
    wait("five partitions", lambda: len(client.describe_topic(topic)) == 5)
    refused(client, INVALID_PARTITIONS, lambda: client.add_partitions(topic, 2))
    client.produce(topic, numbered(10, partition=4))
    equal(client.read(topic, 4, "start", 10), numbered(10))


def configs(client, topic):
    create(client, topic, 1, {"retention.ms": "3600000"})
    assert client.configs(topic)["retention.ms"] == "3600000"
    default = client.configs(topic)["max.message.bytes"]
    assert len(client.configs(topic)) > 20, "a topic has more configs than that"
    client.alter_configs(topic, {"max.message.bytes": "2000000", "cleanup.policy": "compact"}, [])
    wait("two configs set", lambda: client.configs(topic)["max.message.bytes"] == "2000000")
    assert client.configs(topic)["cleanup.policy"] == "compact"
    assert client.configs(topic)["retention.ms"] == "3600000", "a config that was not named has changed"
    client.alter_configs(topic, {}, ["max.message.bytes"])
    wait("one config unset", lambda: client.configs(topic)["max.message.bytes"] == default)


def groups(client, topic):
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(1, p)])
    member = Running(client, topic, topic)
    wait("the member has all partitions", shared(member))
    wait("all seen", lambda: len(member.seen) == PARTITIONS)
    assert topic in client.groups()
    assert client.describe_group(topic) == ("Stable", 1), client.describe_group(topic)
    member.leave()
    wait("the group is empty", lambda: client.describe_group(topic) == ("Empty", 0))


def delete_group(client, topic):
    client.produce(topic, numbered(1))
    member = Running(client, topic, topic)
    wait("the member has all partitions", shared(member))
    refused(client, NON_EMPTY_GROUP, lambda: client.delete_group(topic))
    member.leave()
    client.delete_group(topic)
    wait("the group is gone", lambda: topic not in client.groups())


def expression(client, topic):
    first, later = f"{topic}-1", f"{topic}-2"
    client.produce(first, [r for p in range(PARTITIONS) for r in numbered(1, p)])
    member = Running(client, topic, f"^{topic}-[0-9]$")
    wait("the first topic is read", lambda: len(member.seen) == PARTITIONS)
    client.produce(later, [r for p in range(PARTITIONS) for r in numbered(3, p)])
    wait("the later topic is read as well", lambda: sum(member.seen.values()) == 4 * PARTITIONS)
    member.leave()


def migration(client, topic):
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(5, p)])
    seen = collections.Counter()
    old = Running(client, topic, topic, seen, protocol="classic")
    wait("the classic member has all partitions", shared(old))
    assert client.group_type(topic) == "classic", client.group_type(topic)
    new = Running(client, topic, topic, seen)
    wait("both share", shared(old, new))
    assert client.group_type(topic) == "consumer", client.group_type(topic)
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(5, p)])
    wait("all records seen", lambda: len(seen) == 10 * PARTITIONS)
    new.leave()
    wait("the classic member has all partitions again", shared(old))
    wait("the group is classic again", lambda: client.group_type(topic) == "classic")
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(5, p)])
    wait("the rest is seen", lambda: len(seen) == 15 * PARTITIONS)
    old.leave()


def list_offsets(client, topic):
    between = produce_over_time(client, topic)
    for asked, expected in (("earliest", 0), ("latest", 100), (1, 0), (between, 42)):
        got = client.offset(topic, 0, asked)
        assert got == expected, f"{asked}: {got} instead of {expected}"


def delete_records(client, topic):
    client.produce(topic, numbered(100))
    low = client.delete_records(topic, 0, 40)
    assert low in (40, None), low
    wait("the start has moved", lambda: client.offset(topic, 0, "earliest") == 40)
    got = client.read(topic, 0, "start", 60)
    assert [r.offset for r in got] == list(range(40, 100))


# ---- transactions


def values(client, topic, committed=True):
    """Partition to the values in it, in order."""
    found = {p: [] for p in range(PARTITIONS)}
    for r in client.everything(topic, committed):
        found[r.partition].append(r.value.decode())
    return found


def on_each(word, count=1):
    """Records for every partition; the word and a number are their values."""
    return [Record(None, f"{word}{i}".encode(), partition=p) for i in range(count) for p in range(PARTITIONS)]


def sees(client, topic, committed, *expected):
    """Each partition shows these values and no others."""
    for p, its in values(client, topic, committed).items():
        assert its == list(expected), f"partition {p}: {short(its)} instead of {short(list(expected))}"


def transactions(client, topic):
    client.produce(topic, on_each("plain"))
    producer = client.transactional(topic)
    producer.begin()
    producer.send(topic, on_each("kept", 2))
    producer.commit()
    producer.begin()
    producer.send(topic, on_each("open", 3))
    client.produce(topic, on_each("later"))
    opened, before = ["open0", "open1", "open2"], ["plain0", "kept0", "kept1"]
    sees(client, topic, True, *before)
    sees(client, topic, False, *before, *opened, "later0")
    producer.abort()
    sees(client, topic, True, *before, "later0")
    sees(client, topic, False, *before, *opened, "later0")
    for n in range(20):
        producer.begin()
        producer.send(topic, on_each(f"row{n}-"))
        producer.abort() if n % 3 == 1 else producer.commit()
    producer.close()
    sees(client, topic, True, *before, "later0", *(f"row{n}-0" for n in range(20) if n % 3 != 1))
    records = len(before) + len(opened) + 1 + 20
    for p in range(PARTITIONS):
        got = client.offset(topic, p, "latest")
        assert got == records + 22, f"partition {p} ends at {got}: {records} records and 22 markers are there"


def transactions_fencing(client, topic):
    client.produce(topic, on_each("plain"))
    old = client.transactional(topic)
    old.begin()
    old.send(topic, on_each("lost"))
    new = client.transactional(topic)
    client.produce(topic, on_each("later"))
    sees(client, topic, True, "plain0", "later0")
    fails("the commit of a fenced producer", old.commit)
    new.begin()
    new.send(topic, on_each("new"))
    new.commit()
    new.close()
    sees(client, topic, True, "plain0", "later0", "new0")
    sees(client, topic, False, "plain0", "lost0", "later0", "new0")


def fails(what, action):
    try:
        action()
    except Lacks:
        raise
    except Exception as error:
        print(f"{what}: {error!r}", file=sys.stderr)
    else:
        raise AssertionError(f"{what} has not failed")


def transactions_offsets(client, topic):
    source, sink = topic, f"{topic}-sink"
    client.produce(source, on_each("in", 100))
    producer = client.transactional(topic)
    rounds, counted = 0, 0
    while counted < 100 * PARTITIONS:
        # Whoever joins goes on from what is committed. A member leaves when its transaction was aborted, and once
        # after a commit: what it has read and not counted comes again.
        member, left = client.member(topic, source), False
        while counted < 100 * PARTITIONS and not left:
            records = []
            wait("records", lambda: records.extend(member.poll()) or records)
            while records and not left:
                some, records = records[:30], records[30:]
                producer.begin()
                producer.send(sink, [Record(None, r.value, partition=r.partition) for r in some])
                producer.offsets(topic, source, {r.partition: r.offset + 1 for r in some}, member)
                rounds += 1
                left = rounds in (1, 3, 4, 7)
                if rounds in (1, 4, 7):
                    producer.abort()
                else:
                    producer.commit()
                    counted += len(some)
        member.close()
    producer.close()
    got = client.committed(topic, source)
    assert got == {p: 100 for p in range(PARTITIONS)}, got
    sees(client, sink, True, *(f"in{i}" for i in range(100)))
    assert len(client.everything(sink, False)) > 100 * PARTITIONS, "nothing was aborted"
    return {"transactions": rounds}


def transactions_timeout(client, topic):
    client.produce(topic, on_each("plain"))
    abandoned = client.transactional(topic, timeout=2)
    abandoned.begin()
    abandoned.send(topic, on_each("lost"))
    client.produce(topic, on_each("later"))
    wait("readers go on", lambda: all(len(its) > 1 for its in values(client, topic).values()))
    sees(client, topic, True, "plain0", "later0")
    sees(client, topic, False, "plain0", "lost0", "later0")
    fails("the commit of a transaction that has timed out", abandoned.commit)
    sees(client, topic, True, "plain0", "later0")


# ---- logins and rights


def round_trip(client, topic):
    """Some of the scenarios above, one after the other, and what nobody has given a right to."""
    done = [name for name in ("topics", "acks-all") if possible(client, topic, name)]
    # A group whose member commits by itself will do for those that can't by hand.
    done += [next(name for name in ("commit-manual", "commit-auto") if possible(client, topic, name))]
    client.denied(f"other-{topic}")
    return done


def possible(client, topic, name):
    if name in client.lacks:
        return False
    try:
        SCENARIOS[name](client, f"{topic}-{name}")
        return True
    except Lacks:
        return False


class Heard(logging.Handler):
    """What a client writes to its log."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


def complaints(action, *words):
    """What a client says, by an exception or in its log, with one of these words in it. It must have failed."""
    heard = Heard()
    logging.getLogger().addHandler(heard)
    try:
        action()
    except Exception as error:
        heard.said.append(f"{type(error).__name__}: {error}")
    else:
        raise AssertionError("it has logged in")
    found = [line for line in heard.said if any(word in line for word in words)]
    assert found, f"not a word of {words}: {heard.said}"
    return found


def bad_credentials(client, _):
    if "bad_tokens" not in DOOR:
        errors = client.turned_away()
        assert errors, "no error was reported"
        return [str(error) for error in errors]
    said = {}
    for what, token in DOOR["bad_tokens"].items():
        with using(Tokens(lambda: token, good_for=1000)) as given:
            errors = client.turned_away()
        assert errors, f"with a token that is {what}, no error was reported"
        assert given.given, "the token was not shown"
        said[what] = str(errors[0])
    return said


@contextlib.contextmanager
def using(source):
    """Has clients that are made meanwhile get their tokens elsewhere."""
    global tokens
    before, tokens = tokens, source
    try:
        yield source
    finally:
        tokens = before


def token_renewal(client, topic):
    create(client, topic, PARTITIONS, {})
    client.produce(topic, [r for p in range(PARTITIONS) for r in numbered(1, p)], idempotent=True)
    sent = {p: 1 for p in range(PARTITIONS)}
    with using(Tokens(fresh_token)) as given:
        member = Running(client, topic, topic)
        wait("the member has all partitions", shared(member))
        producer = client.lasting(topic)

        def send_to_all():
            producer.send([numbered(n + 1, p)[n] for p, n in sent.items()])
            for p in sent:
                sent[p] += 1

        send_to_all()
        before = len(given.given)
        end = time.monotonic() + 3 * DOOR["token_seconds"]
        while time.monotonic() < end:
            send_to_all()
            time.sleep(0.05)
        asked = len(given.given) - before
        producer.close()
        total = sum(sent.values())
        wait(f"all {total} records seen", lambda: member.error or len(member.seen) >= total)
        member.leave()
    for p, count in sent.items():
        equal(client.read(topic, p, "start", count), numbered(count, p))
        assert client.offset(topic, p, "latest") == count, f"partition {p} has records twice"
    assert set(member.seen) == {(p, o) for p, count in sent.items() for o in range(count)}
    # Two clients, for three lifetimes: each asks at least twice more.
    assert asked >= 4, f"{asked} tokens asked for"
    twice = sum(member.seen.values()) - total
    return {"records": total, "tokens": asked, "seen twice": twice, "logs in again": client.logs_in_again}


def token_expiry(client, topic):
    create(client, topic, 1, {})
    token = fresh_token()
    end, taken = expires(token), 0
    with using(Tokens(lambda: token, good_for=1000)):
        producer = client.lasting(topic, patience=5)
        while True:
            began = time.time()
            try:
                producer.send(numbered(taken + 1)[taken:])
            except Lacks:
                raise
            except Exception as error:
                said = str(error)
                break
            # A login ends to the millisecond; the broker's clock is this one.
            assert began < end + 1, f"a record was taken {began - end:.1f} s after the token had expired"
            taken += 1
            time.sleep(0.05)
        wait("the token has expired", lambda: time.time() > end)
        assert client.turned_away(), "no error was reported"
    assert taken, f"no record was taken before: {said}"
    equal(client.read(topic, 0, "start", taken), numbered(taken))
    assert client.offset(topic, 0, "latest") == taken, "a record was written that was not acknowledged"
    return {"records": taken, "said": said}


# ---- all clients together


def read_others(client, _, *pairs):
    """Each argument is TOPIC=FILE: what is in the topic's first partition, and what should be."""
    if not pairs:
        raise Lacks("no other client has produced in this run")
    for pair in pairs:
        topic, file = pair.split("=", 1)
        expected = load(file)
        try:
            equal(client.read(topic, 0, "start", len(expected)), client.visible(expected))
        except AssertionError as error:
            raise AssertionError(f"{topic}: {error}") from None
    return {"topics": len(pairs)}


class Digest:
    """Number of records and SHA-256 over key and value of each, in order."""

    def __init__(self):
        self.count, self.hash = 0, hashlib.sha256()

    def add(self, key, value):
        self.count += 1
        self.hash.update(key + b"\n" + value + b"\n")

    def summary(self):
        return [self.count, self.hash.hexdigest()]


def table_produce(client, _, topic, file):
    with open(file, "rb") as lines:
        rows = [line.rstrip(b"\n").split(b"\t", 1) for line in lines]
    placed = client.produce(topic, [Record(k, v, partition=None) for k, v in rows], compression="lz4")
    digests = collections.defaultdict(Digest)
    for (key, value), (partition, _) in zip(rows, placed):
        digests[partition].add(key, value)
    return {topic: {str(p): d.summary() for p, d in sorted(digests.items())}}


def tables_read(client, _, *topics):
    if not topics:
        raise Lacks("no table has been produced in this run")
    found = {}
    for topic in topics:
        found[topic] = {}
        for partition in range(PARTITIONS):
            if count := client.offset(topic, partition, "latest"):
                digest = Digest()
                for r in client.read(topic, partition, "start", count):
                    digest.add(r.key, r.value)
                found[topic][str(partition)] = digest.summary()
    return found


CONSUMER = "-consumer"

SCENARIOS = {
    **{f"produce-{c}": produce(c) for c in ("none", "gzip", "snappy", "lz4", "zstd")},
    **{f"acks-{a}": acks(a) for a in ("0", "1", "all")},
    "idempotent": idempotent,
    "keys": keys,
    "consume-start": consume_start,
    "consume-end": consume_end,
    "consume-offset": consume_offset,
    "consume-timestamp": consume_timestamp,
    "commit-manual": commit_manual,
    "commit-auto": commit_auto,
    "group": group,
    "static-members": static_members,
    "topics": topics,
    "partitions": partitions,
    "configs": configs,
    "groups": groups,
    "delete-group": delete_group,
    "expression": expression,
    "migration": migration,
    "list-offsets": list_offsets,
    "delete-records": delete_records,
    "transactions": transactions,
    "transactions-fencing": transactions_fencing,
    "transactions-offsets": transactions_offsets,
    "transactions-timeout": transactions_timeout,
    "round-trip": round_trip,
    "bad-credentials": bad_credentials,
    "token-renewal": token_renewal,
    "token-expiry": token_expiry,
    "read-others": read_others,
    "table-produce": table_produce,
    "tables-read": tables_read,
}


def attempt(client, scenario, run, arguments):
    if scenario == "version":
        return {"result": "pass", "data": client.version()}
    name = scenario
    if scenario.endswith(CONSUMER):
        client.protocol, scenario = "consumer", scenario.removesuffix(CONSUMER)
    if scenario in client.lacks or scenario not in SCENARIOS:
        return {"result": "skip", "reason": client.lacks.get(scenario, "not a scenario of this client")}
    try:
        data = SCENARIOS[scenario](client, f"{run}-{client.name}-{name}", *arguments)
        return {"result": "pass", "data": data}
    except Lacks as error:
        return {"result": "skip", "reason": str(error)}
    except BaseException as error:
        traceback.print_exc()
        return {"result": "fail", "reason": f"{type(error).__name__}: {error}"}


def main(make):
    bootstrap, scenario, run, *arguments = sys.argv[1:]
    logging.basicConfig(level=os.environ.get("LOG", "ERROR"), format="%(asctime)s %(name)s %(message)s")
    result = attempt(make(bootstrap), scenario, run, arguments)
    print(json.dumps(result), flush=True)
    sys.stderr.flush()
    os._exit(0)  # members of a failed scenario may still be running: don't wait for them
