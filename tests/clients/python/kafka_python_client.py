"""kafka-python: the pure Python client."""

import time

import kafka
from kafka import OffsetAndMetadata, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.net.sasl.oauth import AbstractTokenProvider

import suite

SECONDS = 30


class Tokens(AbstractTokenProvider):
    def __init__(self):
        self.ask = suite.tokens

    def token(self):
        return self.ask()


def reach(bootstrap):
    """Where the server is, and how to log in."""
    names = {
        "protocol": "security_protocol",
        "authority": "ssl_cafile",
        "certificate": "ssl_certfile",
        "mechanism": "sasl_mechanism",
        "user": "sasl_plain_username",
        "password": "sasl_plain_password",
    }
    settings = {name: suite.DOOR[ours] for ours, name in names.items() if ours in suite.DOOR}
    if "certificate" in suite.DOOR:
        settings["ssl_keyfile"] = suite.DOOR["certificate"]
    if "token" in suite.DOOR:
        settings["sasl_oauth_token_provider"] = Tokens()
    return {"bootstrap_servers": bootstrap, **settings}


def to_record(r):
    return suite.Record(r.key, r.value, list(r.headers), r.timestamp, r.partition, r.offset)


class Listener(kafka.ConsumerRebalanceListener):
    def __init__(self, member):
        self.member = member

    def on_partitions_assigned(self, assigned):
        self.member.assigned = {p.partition for p in self.member.consumer.assignment()}
        self.member.rebalances += 1

    def on_partitions_revoked(self, revoked):
        self.member.assigned = self.member.assigned - {p.partition for p in revoked}


class Member:
    def __init__(self, bootstrap, group, topic, auto_commit, instance):
        self.topic, self.assigned, self.rebalances = topic, set(), 0
        self.consumer = kafka.KafkaConsumer(
            **reach(bootstrap),
            group_id=group,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=auto_commit,
            auto_commit_interval_ms=200,
            heartbeat_interval_ms=300,
            session_timeout_ms=10_000,
        )
        self.consumer.subscribe([topic], listener=Listener(self))

    def poll(self):
        # Longer than joining takes: a poll that times out in the middle of it never ends the join
        # (3.0.12, with any broker).
        found = self.consumer.poll(timeout_ms=2000)
        return [to_record(r) for records in found.values() for r in records]

    def commit(self, offsets=None):
        self.consumer.commit(
            offsets and {TopicPartition(self.topic, p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
        )

    def close(self):
        self.consumer.close()


class Transactional:
    def __init__(self, bootstrap, id, timeout):
        self.producer = kafka.KafkaProducer(
            **reach(bootstrap), transactional_id=id, transaction_timeout_ms=timeout * 1000
        )
        self.producer.init_transactions()

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, records):
        sent = [self.producer.send(topic, r.value, r.key, partition=r.partition) for r in records]
        self.producer.flush(SECONDS)
        for future in sent:
            future.get(SECONDS)

    def offsets(self, group, topic, offsets, member):
        places = {TopicPartition(topic, p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
        self.producer.send_offsets_to_transaction(places, member.consumer.group_metadata())

    def commit(self):
        self.producer.commit_transaction()

    def abort(self):
        self.producer.abort_transaction()

    def close(self):
        self.producer.close()


class Lasting:
    def __init__(self, bootstrap, topic, patience):
        self.topic, self.patience = topic, patience
        self.producer = kafka.KafkaProducer(**reach(bootstrap), enable_idempotence=True, linger_ms=5)

    def send(self, records):
        sent = [self.producer.send(self.topic, r.value, r.key, partition=r.partition) for r in records]
        for future in sent:
            future.get(self.patience)

    def close(self):
        self.producer.close()


class KafkaPython(suite.Client):
    name = "kafka-python"
    rebalance_errors = (kafka.errors.CommitFailedError, kafka.errors.RebalanceInProgressError)

    def version(self):
        return kafka.__version__

    def produce(self, topic, records, compression="none", acks="all", idempotent=False):
        producer = kafka.KafkaProducer(
            **reach(self.bootstrap),
            compression_type=None if compression == "none" else compression,
            acks=acks if acks == "all" else int(acks),
            enable_idempotence=idempotent,
            # Without idempotence, a retry of one of several requests in flight changes the order.
            max_in_flight_requests_per_connection=5 if idempotent else 1,
            linger_ms=5,
        )
        try:
            sent = [
                producer.send(topic, r.value, r.key, r.headers, r.partition, timestamp_ms=r.timestamp)
                for r in records
            ]
            producer.flush(SECONDS)
            placed = [future.get(SECONDS) for future in sent]
            return [(p.partition, p.offset) for p in placed]
        finally:
            producer.close()

    def read(self, topic, partition, start, count, ready=None):
        consumer = kafka.KafkaConsumer(**reach(self.bootstrap), enable_auto_commit=False)
        try:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            if start == "start":
                consumer.seek_to_beginning(place)
            elif start == "end":
                consumer.seek_to_end(place)
            elif isinstance(start, tuple):
                consumer.seek(place, consumer.offsets_for_times({place: start[1]})[place].offset)
            else:
                consumer.seek(place, start)
            consumer.position(place)
            if ready:
                ready()
            got = []
            while len(got) < count:
                batch = consumer.poll(timeout_ms=SECONDS * 1000, max_records=min(count - len(got), 10_000))
                assert batch, f"only {len(got)} of {count} records came"
                got.extend(map(to_record, batch[place]))
            return got
        finally:
            consumer.close()

    def member(self, group, topic, auto_commit=False, instance=None):
        return Member(self.bootstrap, group, topic, auto_commit, instance)

    def lasting(self, topic, patience=SECONDS):
        return Lasting(self.bootstrap, topic, patience)

    def transactional(self, id, timeout=60):
        return Transactional(self.bootstrap, id, timeout)

    def everything(self, topic, committed):
        consumer = kafka.KafkaConsumer(
            **reach(self.bootstrap),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if committed else "read_uncommitted",
        )
        try:
            places = [TopicPartition(topic, p) for p in range(suite.PARTITIONS)]
            consumer.assign(places)
            ends, got = consumer.end_offsets(places), []
            deadline = time.monotonic() + SECONDS
            while any(consumer.position(place) < ends[place] for place in places):
                assert time.monotonic() < deadline, f"only {len(got)} records came, not up to {ends}"
                for batch in consumer.poll(timeout_ms=100).values():
                    got.extend(map(to_record, batch))
            return got
        finally:
            consumer.close()

    # ---- admin

    @property
    def admin(self):
        if "_admin" not in self.__dict__:
            self._admin = KafkaAdminClient(**reach(self.bootstrap))
        return self._admin

    def error_code(self, error):
        return error.errno

    def turned_away(self):
        # Why is lost where it comes together with the end of the connection (3.0.12, with any broker).
        return suite.complaints(lambda: KafkaAdminClient(**reach(self.bootstrap), bootstrap_timeout_ms=2000), "Error")

    def create_topic(self, topic, partitions, configs):
        new = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        self.admin.create_topics({topic: new})

    def topics(self):
        return set(self.admin.list_topics())

    def describe_topic(self, topic):
        (found,) = self.admin.describe_topics([topic])
        return {p["partition_index"]: p["leader_id"] for p in found["partitions"]}

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def add_partitions(self, topic, total):
        self.admin.create_partitions({topic: total})

    def configs(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = self.admin.describe_configs([resource], config_filter="all")
        return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def alter_configs(self, topic, values, unset):
        changes = {name: (AlterConfigOp.SET, value) for name, value in values.items()}
        changes |= {name: (AlterConfigOp.DELETE, None) for name in unset}
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, changes)
        self.admin.alter_configs([resource], incremental=True)

    def groups(self):
        return {g["group_id"] for g in self.admin.list_groups()}

    def describe_group(self, group):
        found = self.admin.describe_groups([group])[group]
        return found["group_state"], len(found["members"])

    def delete_group(self, group):
        outcome = self.admin.delete_groups([group])[group]
        if outcome != "OK":
            raise getattr(kafka.errors, outcome)()

    def committed(self, group, topic):
        found = self.admin.list_group_offsets({group: None})[group]
        return {p.partition: o.offset for p, o in found.items() if p.topic == topic}

    def offset(self, topic, partition, spec):
        place = TopicPartition(topic, partition)
        named = {"earliest": OffsetSpec.EARLIEST, "latest": OffsetSpec.LATEST}
        asked = named.get(spec) or kafka.admin.OffsetTimestamp(spec)
        return self.admin.list_partition_offsets({place: asked})[place].offset

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        return self.admin.delete_records({place: before})[place]["low_watermark"]


suite.main(KafkaPython)
