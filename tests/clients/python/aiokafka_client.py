"""aiokafka: the asyncio client.

The scenarios are synchronous, so each call runs an event loop of its own; a group member keeps its loop.
"""

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, for_code
from aiokafka.helpers import create_ssl_context

import suite

SECONDS = 30


class Tokens(AbstractTokenProvider):
    def __init__(self):
        self.ask = suite.tokens

    async def token(self):
        return self.ask()


def reach(bootstrap):
    """Where the server is, and how to log in."""
    names = {
        "protocol": "security_protocol",
        "mechanism": "sasl_mechanism",
        "user": "sasl_plain_username",
        "password": "sasl_plain_password",
    }
    settings = {name: suite.DOOR[ours] for ours, name in names.items() if ours in suite.DOOR}
    if "token" in suite.DOOR:
        settings["sasl_oauth_token_provider"] = Tokens()
    if "authority" in suite.DOOR:
        shown = suite.DOOR.get("certificate")
        settings["ssl_context"] = create_ssl_context(cafile=suite.DOOR["authority"], certfile=shown, keyfile=shown)
    return {"bootstrap_servers": bootstrap, **settings}


def to_record(r):
    return suite.Record(r.key, r.value, list(r.headers), r.timestamp, r.partition, r.offset)


class Member(aiokafka.ConsumerRebalanceListener):
    def __init__(self, bootstrap, group, topic, auto_commit, instance):
        self.topic, self.assigned, self.rebalances = topic, set(), 0
        self.loop = asyncio.Runner()
        self.loop.run(self._start(bootstrap, group, auto_commit, instance))

    async def _start(self, bootstrap, group, auto_commit, instance):
        self.consumer = AIOKafkaConsumer(
            **reach(bootstrap),
            group_id=group,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=auto_commit,
            auto_commit_interval_ms=200,
            heartbeat_interval_ms=300,
            session_timeout_ms=10_000,
        )
        self.consumer.subscribe([self.topic], listener=self)
        await self.consumer.start()

    def on_partitions_assigned(self, assigned):
        self.assigned = {p.partition for p in assigned}
        self.rebalances += 1

    def on_partitions_revoked(self, revoked):
        self.assigned = set()

    def poll(self):
        found = self.loop.run(self.consumer.getmany(timeout_ms=100))
        return [to_record(r) for records in found.values() for r in records]

    def commit(self, offsets=None):
        at = offsets and {TopicPartition(self.topic, p): o for p, o in offsets.items()}
        self.loop.run(self.consumer.commit(at))

    def close(self):
        self.loop.run(self.consumer.stop())
        self.loop.close()


class Transactional:
    def __init__(self, bootstrap, id, timeout):
        self.loop = asyncio.Runner()
        self.loop.run(self._start(bootstrap, id, timeout))

    async def _start(self, bootstrap, id, timeout):
        self.producer = AIOKafkaProducer(
            **reach(bootstrap), transactional_id=id, transaction_timeout_ms=timeout * 1000
        )
        await self.producer.start()

    def run(self, action):
        self.loop.run(asyncio.wait_for(action, SECONDS))

    def begin(self):
        self.run(self.producer.begin_transaction())

    def send(self, topic, records):
        async def send():
            sent = [await self.producer.send(topic, r.value, r.key, partition=r.partition) for r in records]
            await asyncio.gather(*sent)

        self.run(send())

    def offsets(self, group, topic, offsets, member):
        places = {TopicPartition(topic, p): o for p, o in offsets.items()}
        self.run(self.producer.send_offsets_to_transaction(places, group))

    def commit(self):
        self.run(self.producer.commit_transaction())

    def abort(self):
        self.run(self.producer.abort_transaction())

    def close(self):
        self.run(self.producer.stop())


class Lasting:
    def __init__(self, bootstrap, topic, patience):
        self.topic, self.patience = topic, patience
        self.loop = asyncio.Runner()
        self.loop.run(self._start(bootstrap))

    async def _start(self, bootstrap):
        self.producer = AIOKafkaProducer(
            **reach(bootstrap), enable_idempotence=True, request_timeout_ms=self.patience * 1000
        )
        await self.producer.start()

    def send(self, records):
        async def send():
            sent = [await self.producer.send(self.topic, r.value, r.key, partition=r.partition) for r in records]
            await asyncio.wait_for(asyncio.gather(*sent), self.patience)

        self.loop.run(send())

    def close(self):
        self.loop.run(self.producer.stop())


class Aiokafka(suite.Client):
    name = "aiokafka"
    logs_in_again = False  # 0.14.0 has nothing of KIP-368: it finds the connection closed, and opens another
    rebalance_errors = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError)

    def version(self):
        return aiokafka.__version__

    def produce(self, topic, records, compression="none", acks="all", idempotent=False):
        async def send():
            async with AIOKafkaProducer(
                **reach(self.bootstrap),
                compression_type=None if compression == "none" else compression,
                acks=acks if acks == "all" else int(acks),
                enable_idempotence=idempotent,
                linger_ms=5,
            ) as producer:
                sent = [
                    await producer.send(
                        topic, r.value, r.key, partition=r.partition, timestamp_ms=r.timestamp, headers=r.headers
                    )
                    for r in records
                ]
                placed = await asyncio.wait_for(asyncio.gather(*sent), SECONDS)
                return [(p.partition, p.offset) if p else None for p in placed]  # with acks=0: None

        return asyncio.run(send())

    def read(self, topic, partition, start, count, ready=None):
        async def receive():
            async with AIOKafkaConsumer(**reach(self.bootstrap), enable_auto_commit=False) as consumer:
                place = TopicPartition(topic, partition)
                consumer.assign([place])
                if start == "start":
                    await consumer.seek_to_beginning(place)
                elif start == "end":
                    await consumer.seek_to_end(place)
                elif isinstance(start, tuple):
                    consumer.seek(place, (await consumer.offsets_for_times({place: start[1]}))[place].offset)
                else:
                    consumer.seek(place, start)
                await consumer.position(place)
                if ready:
                    await asyncio.to_thread(ready)
                got = []
                while len(got) < count:
                    batch = await consumer.getmany(timeout_ms=SECONDS * 1000, max_records=count - len(got))
                    assert batch, f"only {len(got)} of {count} records came"
                    got.extend(map(to_record, batch[place]))
                return got

        return asyncio.run(receive())

    def member(self, group, topic, auto_commit=False, instance=None):
        return Member(self.bootstrap, group, topic, auto_commit, instance)

    def lasting(self, topic, patience=SECONDS):
        return Lasting(self.bootstrap, topic, patience)

    def transactional(self, id, timeout=60):
        return Transactional(self.bootstrap, id, timeout)

    def everything(self, topic, committed):
        async def receive():
            async with AIOKafkaConsumer(
                **reach(self.bootstrap),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed" if committed else "read_uncommitted",
            ) as consumer:
                places = [TopicPartition(topic, p) for p in range(suite.PARTITIONS)]
                consumer.assign(places)
                ends, got = await consumer.end_offsets(places), []
                deadline = time.monotonic() + SECONDS
                while any([await consumer.position(place) < ends[place] for place in places]):
                    assert time.monotonic() < deadline, f"only {len(got)} records came, not up to {ends}"
                    for batch in (await consumer.getmany(timeout_ms=100)).values():
                        got.extend(map(to_record, batch))
                return got

        return asyncio.run(receive())

    # ---- admin: the library hands back the protocol's responses, errors included

    def administer(self, action):
        async def run():
            admin = AIOKafkaAdminClient(**reach(self.bootstrap))
            await admin.start()
            try:
                return await action(admin)
            finally:
                await admin.close()

        return asyncio.run(run())

    def error_code(self, error):
        return error.errno

    def turned_away(self):
        # An alert of TLS is a connection that was closed, to asyncio; and it does not look at what it is answered
        # to a token: it finds the connection closed, sooner or later.
        by_password = "mechanism" in suite.DOOR and "token" not in suite.DOOR
        words = ["SaslAuthenticationFailed"] if by_password else ["KafkaConnectionError", "NodeNotReadyError"]
        return suite.complaints(self.topics, *words)

    def create_topic(self, topic, partitions, configs):
        new = NewTopic(topic, partitions, 1, topic_configs=configs)
        response = self.administer(lambda admin: admin.create_topics([new]))
        check(response.topic_errors[0][1])

    def topics(self):
        return set(self.administer(lambda admin: admin.list_topics()))

    def describe_topic(self, topic):
        (found,) = self.administer(lambda admin: admin.describe_topics([topic]))
        return {p["partition"]: p["leader"] for p in found["partitions"]}

    def delete_topic(self, topic):
        response = self.administer(lambda admin: admin.delete_topics([topic]))
        check(response.topic_error_codes[0][1])

    def add_partitions(self, topic, total):
        self.administer(lambda admin: admin.create_partitions({topic: NewPartitions(total)}))

    def configs(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = self.administer(lambda admin: admin.describe_configs([resource]))
        (code, _, _, _, entries), *_ = response.resources
        check(code)
        return {name: value for name, value, *_ in entries}

    def alter_configs(self, topic, values, unset):
        # AlterConfigs replaces all that was set, so what is to stay is named again.
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = self.administer(lambda admin: admin.describe_configs([resource]))
        entries = response.resources[0][4]
        kept = {name: value for name, value, _, source, *_ in entries if source == 1 and name not in unset}
        changed = ConfigResource(ConfigResourceType.TOPIC, topic, kept | values)
        (response,) = self.administer(lambda admin: admin.alter_configs([changed]))
        check(response.resources[0][0])

    def groups(self):
        return {group for group, *_ in self.administer(lambda admin: admin.list_consumer_groups())}

    def describe_group(self, group):
        (response,) = self.administer(lambda admin: admin.describe_consumer_groups([group]))
        code, _, state, _, _, members, *_ = response.groups[0]
        check(code)
        return state, len(members)

    def committed(self, group, topic):
        found = self.administer(lambda admin: admin.list_consumer_group_offsets(group))
        return {p.partition: o.offset for p, o in found.items() if p.topic == topic}

    def offset(self, topic, partition, spec):
        async def ask():
            async with AIOKafkaConsumer(**reach(self.bootstrap)) as consumer:
                place = TopicPartition(topic, partition)
                consumer.assign([place])
                if spec == "earliest":
                    return (await consumer.beginning_offsets([place]))[place]
                if spec == "latest":
                    return (await consumer.end_offsets([place]))[place]
                return (await consumer.offsets_for_times({place: spec}))[place].offset

        return asyncio.run(ask())

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        return self.administer(lambda admin: admin.delete_records({place: RecordsToDelete(before)}))[place]


def check(code):
    if code:
        raise for_code(code)()


suite.main(Aiokafka)
