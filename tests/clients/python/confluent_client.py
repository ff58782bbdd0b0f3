"""confluent-kafka: librdkafka, driven from Python."""

import confluent_kafka as ck
from confluent_kafka import admin as ca

import suite

SECONDS = 30


class Member:
    def __init__(self, bootstrap, group, topic, auto_commit, instance, protocol):
        self.topic, self.assigned, self.rebalances = topic, set(), 0
        config = {
            **suite.librdkafka(bootstrap),
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": auto_commit,
            "auto.commit.interval.ms": 200,
            "topic.metadata.refresh.interval.ms": 1_000,
            "group.protocol": protocol,
        }
        if protocol == "classic":
            config |= {"heartbeat.interval.ms": 300, "session.timeout.ms": 10_000}
        if instance:
            config["group.instance.id"] = instance
        self.consumer = ck.Consumer(config)
        self.consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke)

    def _on_assign(self, _, partitions):
        self.assigned = self.assigned | {p.partition for p in partitions}
        self.rebalances += 1

    def _on_revoke(self, _, partitions):
        self.assigned -= {p.partition for p in partitions}

    def poll(self):
        return [to_record(m) for m in self.consumer.consume(500, timeout=0.1)]

    def commit(self, offsets=None):
        if offsets is None:
            self.consumer.commit(asynchronous=False)
        else:
            partitions = [ck.TopicPartition(self.topic, p, o) for p, o in offsets.items()]
            self.consumer.commit(offsets=partitions, asynchronous=False)

    def close(self):
        self.consumer.close()


class Transactional:
    def __init__(self, bootstrap, id, timeout):
        self.producer = ck.Producer(
            {
                **suite.librdkafka(bootstrap),
                "transactional.id": id,
                "transaction.timeout.ms": timeout * 1000,
                "linger.ms": 5,
            }
        )
        self.producer.init_transactions(SECONDS)

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, records):
        for r in records:
            self.producer.produce(topic, r.value, r.key, partition=r.partition)
        assert self.producer.flush(SECONDS) == 0, "not all records were delivered"

    def offsets(self, group, topic, offsets, member):
        places = [ck.TopicPartition(topic, p, o) for p, o in offsets.items()]
        self.producer.send_offsets_to_transaction(places, member.consumer.consumer_group_metadata(), SECONDS)

    def commit(self):
        self.producer.commit_transaction(SECONDS)

    def abort(self):
        self.producer.abort_transaction(SECONDS)

    def close(self):
        self.producer.flush(SECONDS)


class Lasting:
    def __init__(self, bootstrap, topic, patience):
        self.topic, self.patience = topic, patience
        self.producer = ck.Producer(
            {
                **suite.librdkafka(bootstrap),
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": patience * 1000,
            }
        )

    def send(self, records):
        errors = []
        for r in records:
            said = lambda error, _: error and errors.append(error)
            self.producer.produce(self.topic, r.value, r.key, partition=r.partition, on_delivery=said)
        assert self.producer.flush(self.patience + 5) == 0, "not all records were delivered"
        if errors:
            raise ck.KafkaException(errors[0])

    def close(self):
        self.producer.flush(self.patience)


def to_record(message):
    if message.error():
        raise ck.KafkaException(message.error())
    return suite.Record(
        message.key(),
        message.value(),
        message.headers() or [],
        message.timestamp()[1],
        message.partition(),
        message.offset(),
    )


def is_refusal(error):
    """A failed login; or, where a certificate says who somebody is, the alert that it is no good."""
    if "mechanism" in suite.DOOR:
        return error.code() == ck.KafkaError._AUTHENTICATION
    return "SSL alert" in error.str()


class Confluent(suite.Client):
    name = "confluent-kafka"
    rebalance_errors = (ck.KafkaException,)

    def version(self):
        return f"{ck.version()} (librdkafka {ck.libversion()[0]})"

    def produce(self, topic, records, compression="none", acks="all", idempotent=False):
        producer = ck.Producer(
            {
                **suite.librdkafka(self.bootstrap),
                "compression.type": compression,
                "acks": acks,
                "enable.idempotence": idempotent,
                # Without idempotence, a retry of one of several requests in flight changes the order.
                "max.in.flight.requests.per.connection": 5 if idempotent else 1,
                "linger.ms": 5,
            }
        )
        placed, errors = [None] * len(records), []
        for i, r in enumerate(records):

            def delivered(error, message, i=i):
                placed[i] = error or (message.partition(), message.offset())
                if error:
                    errors.append(error)

            place = {} if r.partition is None else {"partition": r.partition}
            at = {} if r.timestamp is None else {"timestamp": r.timestamp}
            while True:
                try:
                    producer.produce(
                        topic, r.value, r.key, headers=r.headers or None, on_delivery=delivered, **place, **at
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(SECONDS) == 0, "not all records were delivered"
        assert not errors, f"{len(errors)} records failed, the first with {errors[0]}"
        return placed

    def read(self, topic, partition, start, count, ready=None):
        consumer = ck.Consumer(
            {
                **suite.librdkafka(self.bootstrap),
                "group.id": "none",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            place = ck.TopicPartition(topic, partition, ck.OFFSET_BEGINNING)
            if isinstance(start, tuple):
                asked = ck.TopicPartition(topic, partition, start[1])
                place.offset = consumer.offsets_for_times([asked], SECONDS)[0].offset
            elif start == "end":
                place.offset = consumer.get_watermark_offsets(place, SECONDS)[1]
            elif start != "start":
                place.offset = start
            consumer.assign([place])
            if ready:
                ready()
            got = []
            while len(got) < count:
                batch = consumer.consume(min(count - len(got), 10_000), timeout=SECONDS)
                assert batch, f"only {len(got)} of {count} records came"
                got.extend(map(to_record, batch))
            return got
        finally:
            consumer.close()

    def member(self, group, topic, auto_commit=False, instance=None, protocol=None):
        return Member(self.bootstrap, group, topic, auto_commit, instance, protocol or self.protocol)

    def lasting(self, topic, patience=SECONDS):
        return Lasting(self.bootstrap, topic, patience)

    def transactional(self, id, timeout=60):
        return Transactional(self.bootstrap, id, timeout)

    def everything(self, topic, committed):
        consumer = ck.Consumer(
            {
                **suite.librdkafka(self.bootstrap),
                "group.id": "none",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            consumer.assign([ck.TopicPartition(topic, p, ck.OFFSET_BEGINNING) for p in range(suite.PARTITIONS)])
            got, ended = [], set()
            while len(ended) < suite.PARTITIONS:
                message = consumer.poll(SECONDS)
                assert message, f"only {ended} came to their end"
                if message.error() and message.error().code() == ck.KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                else:
                    got.append(to_record(message))
            return got
        finally:
            consumer.close()

    # ---- admin

    @property
    def admin(self):
        if "_admin" not in self.__dict__:
            self._admin = ca.AdminClient(suite.librdkafka(self.bootstrap))
        return self._admin

    def error_code(self, error):
        return error.args[0].code()

    def turned_away(self):
        said = []
        admin = ca.AdminClient({**suite.librdkafka(self.bootstrap), "error_cb": said.append})
        suite.wait("a refusal", lambda: admin.poll(0.1) and False or any(map(is_refusal, said)))
        return said

    def create_topic(self, topic, partitions, configs):
        new = ca.NewTopic(topic, num_partitions=partitions, replication_factor=1, config=configs)
        self.admin.create_topics([new])[topic].result(SECONDS)

    def topics(self):
        return set(self.admin.list_topics(timeout=SECONDS).topics)

    def describe_topic(self, topic):
        found = self.admin.describe_topics(ck.TopicCollection([topic]))[topic].result(SECONDS)
        return {p.id: p.leader.id for p in found.partitions}

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result(SECONDS)

    def add_partitions(self, topic, total):
        self.admin.create_partitions([ca.NewPartitions(topic, total)])[topic].result(SECONDS)

    def configs(self, topic):
        resource = ca.ConfigResource(ca.ResourceType.TOPIC, topic)
        found = self.admin.describe_configs([resource])[resource].result(SECONDS)
        return {name: entry.value for name, entry in found.items()}

    def alter_configs(self, topic, values, unset):
        operations = ca.AlterConfigOpType
        entries = [
            ca.ConfigEntry(name, value, incremental_operation=operations.SET) for name, value in values.items()
        ] + [ca.ConfigEntry(name, None, incremental_operation=operations.DELETE) for name in unset]
        resource = ca.ConfigResource(ca.ResourceType.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)

    def groups(self):
        return {g.group_id for g in self.admin.list_consumer_groups().result(SECONDS).valid}

    def group_type(self, group):
        found = self.admin.list_consumer_groups().result(SECONDS).valid
        return next(g.type.name.lower() for g in found if g.group_id == group)

    def describe_group(self, group):
        found = self.admin.describe_consumer_groups([group])[group].result(SECONDS)
        return found.state.name.capitalize(), len(found.members)

    def delete_group(self, group):
        self.admin.delete_consumer_groups([group])[group].result(SECONDS)

    def committed(self, group, topic):
        asked = ck.ConsumerGroupTopicPartitions(group)
        found = self.admin.list_consumer_group_offsets([asked])[group].result(SECONDS)
        return {p.partition: p.offset for p in found.topic_partitions if p.topic == topic}

    def offset(self, topic, partition, spec):
        named = {"earliest": ca.OffsetSpec.earliest(), "latest": ca.OffsetSpec.latest()}
        place = ck.TopicPartition(topic, partition)
        asked = named.get(spec) or ca.OffsetSpec.for_timestamp(spec)
        return self.admin.list_offsets({place: asked})[place].result(SECONDS).offset

    def delete_records(self, topic, partition, before):
        place = ck.TopicPartition(topic, partition, before)
        return self.admin.delete_records([place])[place].result(SECONDS).low_watermark


suite.main(Confluent)
