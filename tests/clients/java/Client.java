import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.FileReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.AuthenticationException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client.
 *
 * <pre>java -cp ... Client BOOTSTRAP SCENARIO RUN [ARGUMENT...]
 * java -cp ... Client --OPTION VALUE...                       what {@link History} does</pre>
 *
 * The last line printed is the result: {"result": "pass" | "fail" | "skip", "reason": ..., "data": ...}.
 */
public final class Client {
    static final int SECONDS = 30;
    static final int PARTITIONS = 4; // of a topic that is created by being used
    private static final ObjectMapper JSON = new ObjectMapper();

    private static String bootstrap;
    static String topic;
    private static List<String> arguments;
    static Admin admin;

    /** Ends a scenario as one that can't be run. */
    private static final class Skip extends RuntimeException {
        Skip(String reason) {
            super(reason);
        }
    }

    /** How the names of scenarios end that are run with the consumer protocol. */
    private static final String CONSUMER = "-consumer";
    private static String protocol = "classic";
    private static final Map<String, Callable<Object>> SCENARIOS = new LinkedHashMap<>();

    static {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            SCENARIOS.put("produce-" + codec, () -> produceWith(codec));
        }
        for (String acks : List.of("0", "1", "all")) {
            SCENARIOS.put("acks-" + acks, () -> produceAcks(acks));
        }
        SCENARIOS.put("idempotent", Client::idempotent);
        SCENARIOS.put("keys", Client::keys);
        SCENARIOS.put("consume-start", () -> consumeFrom(0));
        SCENARIOS.put("consume-end", Client::consumeEnd);
        SCENARIOS.put("consume-offset", () -> consumeFrom(42));
        SCENARIOS.put("consume-timestamp", Client::consumeTimestamp);
        SCENARIOS.put("commit-manual", Client::commitManual);
        SCENARIOS.put("commit-auto", Client::commitAuto);
        SCENARIOS.put("group", Client::group);
        SCENARIOS.put("static-members", Client::staticMembers);
        SCENARIOS.put("topics", Client::topics);
        SCENARIOS.put("partitions", Client::addPartitions);
        SCENARIOS.put("configs", Client::configs);
        SCENARIOS.put("groups", Client::groups);
        SCENARIOS.put("delete-group", Client::deleteGroup);
        SCENARIOS.put("expression", Client::expression);
        SCENARIOS.put("migration", Client::migration);
        SCENARIOS.put("list-offsets", Client::listOffsets);
        SCENARIOS.put("delete-records", Client::deleteRecords);
        SCENARIOS.put("transactions", Transactions::transactions);
        SCENARIOS.put("transactions-fencing", Transactions::fencing);
        SCENARIOS.put("transactions-offsets", Transactions::offsets);
        SCENARIOS.put("transactions-timeout", Transactions::timeout);
        SCENARIOS.put("round-trip", Client::roundTrip);
        SCENARIOS.put("bad-credentials", Client::badCredentials);
        SCENARIOS.put("token-renewal", Tokens::renewal);
        SCENARIOS.put("token-expiry", Tokens::expiry);
        SCENARIOS.put("read-others", Client::readOthers);
        SCENARIOS.put("table-produce", Client::tableProduce);
        SCENARIOS.put("tables-read", Client::tablesRead);
    }

    public static void main(String[] words) throws Exception {
        if (words[0].startsWith("--")) {
            History.record(words);
            return;
        }
        bootstrap = words[0];
        topic = words[2] + "-java-" + words[1];
        arguments = List.of(words).subList(3, words.length);
        System.out.println(JSON.writeValueAsString(attempt(words[1])));
        System.out.flush();
        Runtime.getRuntime().halt(0); // members of a failed scenario may still be running
    }

    private static String version() throws IOException {
        var properties = new Properties();
        properties.load(KafkaConsumer.class.getResourceAsStream("/kafka/kafka-version.properties"));
        return properties.getProperty("version");
    }

    private static Map<String, Object> attempt(String scenario) throws IOException {
        if (scenario.equals("version")) {
            return result("pass", null, version());
        }
        if (scenario.endsWith(CONSUMER)) {
            protocol = "consumer";
        }
        Callable<Object> run = SCENARIOS.get(scenario.replace(CONSUMER, ""));
        if (run == null) {
            return result("skip", "not a scenario of this client", null);
        }
        try {
            admin = Admin.create(properties());
            return result("pass", null, run.call());
        } catch (Skip reason) {
            return result("skip", reason.getMessage(), null);
        } catch (Throwable error) {
            error.printStackTrace();
            return result("fail", error.toString(), null);
        }
    }

    private static Map<String, Object> result(String result, String reason, Object data) {
        Map<String, Object> all = new HashMap<>();
        all.put("result", result);
        all.put("reason", reason);
        all.put("data", data);
        return all;
    }

    // ---- helpers

    static void check(boolean holds, String format, Object... values) {
        if (!holds) {
            throw new AssertionError(String.format(format, values));
        }
    }

    static void await(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
        while (!condition.call()) {
            check(System.nanoTime() < deadline, "waited %d s in vain: %s", SECONDS, what);
            Thread.sleep(20);
        }
    }

    private static void refused(Class<? extends Exception> expected, Callable<?> action) throws Exception {
        try {
            action.call();
        } catch (ExecutionException error) {
            check(expected.isInstance(error.getCause()), "%s instead of %s", error.getCause(), expected);
            return;
        }
        check(false, "not refused with %s", expected);
    }

    /** Where the server is, how to log in where DOOR_PROPERTIES names a file that says so, and these pairs. */
    static Properties properties(String... pairs) {
        Properties all = new Properties();
        String door = System.getenv("DOOR_PROPERTIES");
        if (door != null) {
            try (var file = new FileReader(door)) {
                all.load(file);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
        all.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) {
            all.put(pairs[i], pairs[i + 1]);
        }
        return all;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** What is produced, and what is expected back; without a timestamp, any is right. */
    record Rec(byte[] key, byte[] value, List<Header> headers, Long timestamp, Integer partition) {
        ProducerRecord<byte[], byte[]> to(String topic) {
            return new ProducerRecord<>(topic, partition, timestamp, key, value, headers);
        }

        boolean matches(ConsumerRecord<byte[], byte[]> got) {
            return Arrays.equals(key, got.key())
                && Arrays.equals(value, got.value())
                && List.of(got.headers().toArray()).equals(headers)
                && (timestamp == null || timestamp == got.timestamp());
        }
    }

    /** Records that are easy to tell apart; with a base, one second of record time after another. */
    static List<Rec> numbered(int count, int partition, Long base) {
        return IntStream.range(0, count).mapToObj(i -> new Rec(
            bytes("k" + i), bytes("v" + i), List.of(), base == null ? null : base + i * 1000L, partition
        )).collect(Collectors.toList());
    }

    private static List<Rec> numbered(int count) {
        return numbered(count, 0, null);
    }

    static List<Rec> everywhere(int count) {
        return IntStream.range(0, PARTITIONS).boxed().flatMap(p -> numbered(count, p, null).stream()).toList();
    }

    private static byte[] unhex(JsonNode node) {
        return node.isNull() ? null : HexFormat.of().parseHex(node.asText());
    }

    /** Records as the runner writes them: JSON with all bytes in hex. */
    private static List<Rec> load(String file) throws Exception {
        List<Rec> records = new ArrayList<>();
        for (JsonNode r : JSON.readTree(new File(file))) {
            List<Header> headers = new ArrayList<>();
            for (JsonNode h : r.get("headers")) {
                headers.add(new RecordHeader(h.get(0).asText(), unhex(h.get(1))));
            }
            Long timestamp = r.get("timestamp").isNull() ? null : r.get("timestamp").asLong();
            records.add(new Rec(unhex(r.get("key")), unhex(r.get("value")), headers, timestamp, 0));
        }
        return records;
    }

    static void equal(List<ConsumerRecord<byte[], byte[]>> got, List<Rec> expected) {
        check(got.size() == expected.size(), "%d records instead of %d", got.size(), expected.size());
        for (int i = 0; i < got.size(); i++) {
            check(expected.get(i).matches(got.get(i)), "record %d differs: %.200s", i, got.get(i));
        }
    }

    static List<RecordMetadata> produce(String topic, List<Rec> records, String... options) throws Exception {
        // Without idempotence, a retry of one of several requests in flight changes the order.
        Properties properties = properties(
            "enable.idempotence", "false", "max.in.flight.requests.per.connection", "1", "linger.ms", "5");
        properties.putAll(properties(options));
        var bytes = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(properties, bytes, bytes)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (Rec record : records) {
                sent.add(producer.send(record.to(topic)));
            }
            producer.flush();
            List<RecordMetadata> placed = new ArrayList<>();
            for (var future : sent) {
                placed.add(future.get(SECONDS, TimeUnit.SECONDS));
            }
            return placed;
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer(String... options) {
        Properties properties = properties("group.protocol", protocol, "auto.offset.reset", "earliest",
            "fetch.max.wait.ms", "200", "metadata.max.age.ms", "1000");
        properties.putAll(properties(options));
        if (properties.get("group.protocol").equals("classic")) {
            properties.put("heartbeat.interval.ms", "300");
            properties.put("session.timeout.ms", "10000");
        }
        var bytes = new ByteArrayDeserializer();
        return new KafkaConsumer<>(properties, bytes, bytes);
    }

    /** Moves a consumer to where reading is to begin. */
    interface Start {
        void seek(KafkaConsumer<byte[], byte[]> consumer, TopicPartition place) throws Exception;
    }

    static final Start BEGINNING = (consumer, place) -> consumer.seekToBeginning(List.of(place));

    static List<ConsumerRecord<byte[], byte[]>> read(String topic, int partition, Start start, int count)
            throws Exception {
        try (var consumer = consumer("enable.auto.commit", "false")) {
            var place = new TopicPartition(topic, partition);
            consumer.assign(List.of(place));
            start.seek(consumer, place);
            List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
            while (got.size() < count) {
                var batch = consumer.poll(Duration.ofSeconds(SECONDS));
                check(!batch.isEmpty(), "only %d of %d records came", got.size(), count);
                batch.forEach(got::add);
            }
            return got;
        }
    }

    static Map<Integer, Long> offsets(String topic, OffsetSpec spec) throws Exception {
        int count = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        IntStream.range(0, count).forEach(p -> asked.put(new TopicPartition(topic, p), spec));
        Map<Integer, Long> found = new TreeMap<>();
        admin.listOffsets(asked).all().get().forEach((place, o) -> found.put(place.partition(), o.offset()));
        return found;
    }

    static Map<Integer, Long> committed(String group) throws Exception {
        Map<Integer, Long> found = new TreeMap<>();
        admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
            .forEach((place, o) -> found.put(place.partition(), o.offset()));
        return found;
    }

    // ---- produce

    private static Object produceWith(String codec) throws Exception {
        List<Rec> records = load(arguments.get(0));
        produce(topic, records, "compression.type", codec);
        equal(read(topic, 0, BEGINNING, records.size()), records);
        return null;
    }

    private static Object produceAcks(String acks) throws Exception {
        produce(topic, numbered(1)); // a topic that is just being created may lose what has acks=0
        produce(topic, numbered(100), "acks", acks);
        equal(read(topic, 0, (consumer, place) -> consumer.seek(place, 1), 100), numbered(100));
        return null;
    }

    private static Object idempotent() throws Exception {
        var placed = produce(topic, everywhere(500), "enable.idempotence", "true", "acks", "all");
        check(placed.stream().map(p -> p.partition() + ":" + p.offset()).distinct().count() == 2000, "doubled");
        for (int p = 0; p < PARTITIONS; p++) {
            equal(read(topic, p, BEGINNING, 500), numbered(500));
        }
        check(offsets(topic, OffsetSpec.latest()).equals(Map.of(0, 500L, 1, 500L, 2, 500L, 3, 500L)), "ends");
        return null;
    }

    private static Object keys() throws Exception {
        List<Rec> records = new ArrayList<>();
        for (int i = 0; i < 1000; i++) {
            records.add(new Rec(bytes("key-" + i % 50), bytes("" + i), List.of(), null, null));
        }
        produce(topic, records);
        Map<String, Integer> owner = new HashMap<>();
        Map<String, List<Integer>> values = new HashMap<>();
        for (var end : offsets(topic, OffsetSpec.latest()).entrySet()) {
            if (end.getValue() > 0) {
                for (var r : read(topic, end.getKey(), BEGINNING, end.getValue().intValue())) {
                    String key = new String(r.key());
                    check(owner.computeIfAbsent(key, k -> r.partition()) == r.partition(), "%s is split", key);
                    values.computeIfAbsent(key, k -> new ArrayList<>()).add(Integer.valueOf(new String(r.value())));
                }
            }
        }
        check(values.size() == 50 && Set.copyOf(owner.values()).size() > 1, "%s", owner);
        values.forEach((key, its) -> check(
            its.size() == 20 && its.equals(its.stream().sorted().toList()), "%s: %s", key, its));
        return null;
    }

    // ---- consume

    private static Object consumeFrom(int first) throws Exception {
        produce(topic, numbered(100));
        Start start = first == 0 ? BEGINNING : (consumer, place) -> consumer.seek(place, first);
        var got = read(topic, 0, start, 100 - first);
        equal(got, numbered(100).subList(first, 100));
        check(got.get(0).offset() == first, "offset %d", got.get(0).offset());
        return null;
    }

    private static Object consumeEnd() throws Exception {
        produce(topic, numbered(100));
        var got = read(topic, 0, (consumer, place) -> {
            consumer.seekToEnd(List.of(place));
            check(consumer.position(place) == 100, "position %d", consumer.position(place));
            produce(topic, numbered(10));
        }, 10);
        equal(got, numbered(10));
        check(got.get(0).offset() == 100, "offset %d", got.get(0).offset());
        return null;
    }

    private static Object consumeTimestamp() throws Exception {
        long base = System.currentTimeMillis() - 200_000;
        produce(topic, numbered(100, 0, base));
        var got = read(topic, 0, (consumer, place) -> {
            var found = consumer.offsetsForTimes(Map.of(place, base + 41_500)).get(place);
            check(found.timestamp() == base + 42_000, "timestamp %d", found.timestamp());
            consumer.seek(place, found.offset());
        }, 58);
        equal(got, numbered(100).subList(42, 100));
        return null;
    }

    // ---- groups

    /** A member that polls in a thread of its own; commits by hand after each poll unless told otherwise. */
    static final class Member extends Thread implements ConsumerRebalanceListener {
        final Map<String, Integer> seen;
        final List<Long> offsets = new ArrayList<>();
        final Set<Integer> assigned = ConcurrentHashMap.newKeySet();
        final AtomicInteger rebalances = new AtomicInteger();
        private final AtomicBoolean leaving = new AtomicBoolean();
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final boolean commit;
        private volatile Throwable error;

        Member(String group, Map<String, Integer> seen, boolean commit, String... options) {
            this.seen = seen;
            this.commit = commit;
            String[] all = Arrays.copyOf(options, options.length + 4);
            System.arraycopy(new String[] {"group.id", group, "auto.commit.interval.ms", "200"}, 0, all, options.length, 4);
            consumer = consumer(all);
            consumer.subscribe(List.of(topic), this);
            setDaemon(true);
            start();
        }

        Member(Map<String, Integer> seen, String... options) {
            this(topic, seen, true, with(options, "enable.auto.commit", "false"));
        }

        private static String[] with(String[] options, String name, String value) {
            String[] all = Arrays.copyOf(options, options.length + 2);
            all[options.length] = name;
            all[options.length + 1] = value;
            return all;
        }

        @Override
        public void run() {
            try (consumer) {
                while (!leaving.get()) {
                    var batch = consumer.poll(Duration.ofMillis(100));
                    batch.forEach(r -> {
                        seen.merge(r.partition() + ":" + r.offset(), 1, Integer::sum);
                        offsets.add(r.offset());
                    });
                    if (commit && !batch.isEmpty()) {
                        commit();
                    }
                }
            } catch (Throwable thrown) {
                thrown.printStackTrace();
                error = thrown;
            }
        }

        private void commit() {
            try {
                consumer.commitSync();
            } catch (CommitFailedException | RebalanceInProgressException again) {
                // The group is rebalancing: what is not committed comes again.
            }
        }

        void leave() throws InterruptedException {
            leaving.set(true);
            join(SECONDS * 1000L);
            check(!isAlive() && error == null, "a member failed: %s", error);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> places) {
            places.forEach(place -> assigned.add(place.partition()));
            rebalances.incrementAndGet();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> places) {
            places.forEach(place -> assigned.remove(place.partition()));
        }
    }

    /** Each member has partitions, no partition has two owners, and none is without. */
    static Callable<Boolean> shared(Member... members) {
        return () -> {
            List<Integer> owned = new ArrayList<>();
            for (Member member : members) {
                check(member.error == null, "a member failed: %s", member.error);
                if (member.assigned.isEmpty()) {
                    return false;
                }
                owned.addAll(member.assigned);
            }
            return owned.stream().sorted().toList().equals(List.of(0, 1, 2, 3));
        };
    }

    private static int sum(Map<String, Integer> seen) {
        return seen.values().stream().mapToInt(Integer::intValue).sum();
    }

    private static Object group() throws Exception {
        produce(topic, everywhere(1));
        var loading = new AtomicBoolean(true);
        var produced = new AtomicInteger(PARTITIONS);
        var load = new Thread(() -> {
            try {
                for (; loading.get(); Thread.sleep(100)) {
                    produce(topic, everywhere(25));
                    produced.addAndGet(25 * PARTITIONS);
                }
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        load.start();
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        var a = new Member(seen);
        await("the first member has all partitions", shared(a));
        var b = new Member(seen);
        await("two members share", shared(a, b));
        var c = new Member(seen);
        await("three members share", shared(a, b, c));
        b.leave();
        await("two members share after one left", shared(a, c));
        var again = new Member(seen);
        await("three members share again", shared(a, again, c));

        loading.set(false);
        load.join();
        int count = produced.get();
        await("all " + count + " records seen", () -> seen.size() >= count);
        check(seen.size() == count, "%d records seen, %d produced", seen.size(), count);
        Callable<Boolean> settled = () ->
            committed(topic).equals(offsets(topic, OffsetSpec.latest())) && shared(a, again, c).call();
        await("all committed", settled);
        int twice = sum(seen) - count;
        produce(topic, everywhere(250));
        await("the next 1,000 records", () -> seen.size() >= count + 1000);
        await("the next 1,000 committed", settled);
        for (Member member : List.of(a, again, c)) {
            member.leave();
        }
        check(sum(seen) == count + 1000 + twice, "records seen twice after commits had settled");

        var last = new Member(new ConcurrentHashMap<>());
        await("a new member has all partitions", shared(last));
        produce(topic, everywhere(1));
        await("the new member sees the newest", () -> last.seen.size() >= PARTITIONS);
        last.leave();
        check(last.seen.size() == PARTITIONS, "a new member saw what was committed before");
        return Map.of("records", count + 1000 + PARTITIONS, "seen twice during rebalances", twice);
    }

    private static Object staticMembers() throws Exception {
        produce(topic, everywhere(1));
        var one = new Member(new ConcurrentHashMap<>(), "group.instance.id", "one");
        var two = new Member(new ConcurrentHashMap<>(), "group.instance.id", "two");
        await("two members share", shared(one, two));
        var had = Set.copyOf(one.assigned);
        var kept = Set.copyOf(two.assigned);
        int rebalances = two.rebalances.get();
        one.leave();
        var back = new Member(new ConcurrentHashMap<>(), "group.instance.id", "one");
        await("the restarted member has its partitions again", () -> back.assigned.equals(had));
        int before = two.seen.size();
        produce(topic, everywhere(5));
        await("both go on", () -> back.seen.size() >= 5 && two.seen.size() >= before + 5);
        check(two.assigned.equals(kept) && two.rebalances.get() == rebalances, "the other member was disturbed");
        back.leave();
        two.leave();
        return null;
    }

    private static Object commitManual() throws Exception {
        produce(topic, numbered(100));
        try (var first = consumer("group.id", topic, "enable.auto.commit", "false")) {
            first.subscribe(List.of(topic));
            check(drain(first, 100).size() == 100, "not all records");
            first.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(60, "by hand")));
        }
        var found = admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
        check(found.get(new TopicPartition(topic, 0)).equals(new OffsetAndMetadata(60, "by hand")), "%s", found);
        try (var second = consumer("group.id", topic, "enable.auto.commit", "false")) {
            second.subscribe(List.of(topic));
            var got = drain(second, 40);
            check(got.size() == 40 && got.get(0).offset() == 60, "%d from %d", got.size(), got.get(0).offset());
        }
        return null;
    }

    private static List<ConsumerRecord<byte[], byte[]>> drain(KafkaConsumer<byte[], byte[]> consumer, int count)
            throws Exception {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        await(count + " records", () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(got::add);
            return got.size() >= count;
        });
        return got;
    }

    private static Object commitAuto() throws Exception {
        produce(topic, numbered(100));
        var first = new Member(topic, new ConcurrentHashMap<>(), false);
        await("100 records", () -> first.seen.size() >= 100);
        await("the automatic commit", () -> Objects.equals(committed(topic).get(0), 100L));
        first.leave();
        produce(topic, numbered(10));
        var second = new Member(topic, new ConcurrentHashMap<>(), false);
        await("10 records", () -> second.seen.size() >= 10);
        second.leave();
        check(second.offsets.get(0) == 100 && second.offsets.size() == 10, "from %d", second.offsets.get(0));
        return null;
    }

    // ---- admin

    /** Creates the topic and waits until the server shows it. */
    static Object create(int partitions, Map<String, String> configs) throws Exception {
        var wanted = new NewTopic(topic, partitions, (short) 1).configs(configs);
        admin.createTopics(List.of(wanted)).all().get();
        await("the topic is listed", Client::topicListed);
        return null;
    }

    private static boolean topicListed() throws Exception {
        return admin.listTopics().names().get().contains(topic);
    }

    private static Object topics() throws Exception {
        create(3, Map.of("retention.ms", "3600000"));
        refused(TopicExistsException.class, () -> create(3, Map.of()));
        var found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
        check(found.size() == 3 && found.stream().allMatch(p -> p.leader() != null), "%s", found);
        admin.deleteTopics(List.of(topic)).all().get();
        await("the topic is gone", () -> !topicListed());
        return null;
    }

    private static Object addPartitions() throws Exception {
        create(1, Map.of());
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        await("five partitions", () -> offsets(topic, OffsetSpec.latest()).size() == 5);
        refused(InvalidPartitionsException.class,
            () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get());
        produce(topic, numbered(10, 4, null));
        equal(read(topic, 4, BEGINNING, 10), numbered(10));
        return null;
    }

    private static ConfigEntry config(String name) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var found = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        check(found.entries().size() > 20, "a topic has more configs than %d", found.entries().size());
        return found.get(name);
    }

    private static void alter(AlterConfigOp... changes) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(changes))).all().get();
    }

    private static AlterConfigOp change(OpType type, String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private static Object configs() throws Exception {
        create(1, Map.of("retention.ms", "3600000"));
        check(config("retention.ms").value().equals("3600000"), "as created");
        check(config("retention.ms").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source");
        check(config("max.message.bytes").isDefault(), "not a default");
        alter(change(OpType.SET, "max.message.bytes", "2000000"), change(OpType.APPEND, "cleanup.policy", "compact"));
        await("two configs set", () -> config("max.message.bytes").value().equals("2000000"));
        check(config("cleanup.policy").value().equals("delete,compact"), "%s", config("cleanup.policy"));
        check(config("retention.ms").value().equals("3600000"), "a config that was not named has changed");
        alter(change(OpType.DELETE, "max.message.bytes", ""), change(OpType.SUBTRACT, "cleanup.policy", "delete"));
        await("one config unset", () -> config("max.message.bytes").isDefault());
        check(config("cleanup.policy").value().equals("compact"), "%s", config("cleanup.policy"));
        return null;
    }

    private static String describeGroup() throws Exception {
        var found = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
        return found.groupState() + " " + found.members().size();
    }

    private static boolean groupListed() throws Exception {
        return admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(topic));
    }

    private static Object groups() throws Exception {
        produce(topic, everywhere(1));
        var member = new Member(new ConcurrentHashMap<>());
        await("all seen", () -> member.seen.size() == PARTITIONS);
        check(groupListed(), "the group is not listed");
        check(describeGroup().equals("Stable 1"), describeGroup());
        member.leave();
        await("the group is empty", () -> describeGroup().equals("Empty 0"));
        return null;
    }

    private static Object deleteGroup() throws Exception {
        produce(topic, everywhere(1));
        var member = new Member(new ConcurrentHashMap<>());
        await("the member has all partitions", shared(member));
        refused(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(topic)).all().get());
        member.leave();
        admin.deleteConsumerGroups(List.of(topic)).all().get();
        await("the group is gone", () -> !groupListed());
        return null;
    }

    private static Object expression() throws Exception {
        String first = topic + "-1", later = topic + "-2";
        produce(first, everywhere(1));
        try (var consumer = consumer("group.id", topic)) {
            consumer.subscribe(new SubscriptionPattern(java.util.regex.Pattern.quote(topic) + "-[0-9]"));
            check(drain(consumer, PARTITIONS).size() == PARTITIONS, "the first topic");
            produce(later, everywhere(3));
            var got = drain(consumer, 3 * PARTITIONS);
            check(got.stream().allMatch(r -> r.topic().equals(later)), "the later topic");
            var described = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
            check(described.type() == GroupType.CONSUMER, "%s", described);
        }
        try (var consumer = consumer("group.id", topic)) {
            consumer.subscribe(new SubscriptionPattern("("));
            try {
                await("the expression is refused", () -> !consumer.poll(Duration.ofMillis(100)).isEmpty());
                check(false, "an expression that is none was not refused");
            } catch (InvalidRegularExpression expected) {
                // As it should be.
            }
        }
        return null;
    }

    private static GroupType groupType() throws Exception {
        return admin.listGroups().all().get().stream().filter(g -> g.groupId().equals(topic)).findFirst().get().type().get();
    }

    private static Object migration() throws Exception {
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        int produced = 0;
        for (String assignor : List.of("RangeAssignor", "CooperativeStickyAssignor")) {
            produce(topic, everywhere(5));
            var old = new Member(seen, "group.protocol", "classic",
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
            await("the classic member has all partitions", shared(old));
            check(groupType() == GroupType.CLASSIC, "%s", groupType());
            var fresh = new Member(seen);
            await("both share", shared(old, fresh));
            check(groupType() == GroupType.CONSUMER, "%s", groupType());
            produce(topic, everywhere(5));
            int soFar = produced + 10 * PARTITIONS;
            await("all records seen", () -> seen.size() == soFar);
            fresh.leave();
            await("the classic member has all partitions again", shared(old));
            await("the group is classic again", () -> groupType() == GroupType.CLASSIC);
            produce(topic, everywhere(5));
            await("the rest is seen", () -> seen.size() == soFar + 5 * PARTITIONS);
            old.leave();
            produced = soFar + 5 * PARTITIONS;
        }
        return null;
    }

    private static Object listOffsets() throws Exception {
        long base = System.currentTimeMillis() - 200_000;
        produce(topic, numbered(100, 0, base));
        check(offsets(topic, OffsetSpec.earliest()).get(0) == 0, "earliest");
        check(offsets(topic, OffsetSpec.latest()).get(0) == 100, "latest");
        check(offsets(topic, OffsetSpec.maxTimestamp()).get(0) == 99, "of the highest timestamp");
        for (var expected : Map.of(0, 0L, 41_500, 42L, 99_000, 99L).entrySet()) {
            var found = offsets(topic, OffsetSpec.forTimestamp(base + expected.getKey()));
            check(found.get(0).equals(expected.getValue()), "%s: %s", expected, found);
        }
        return null;
    }

    private static Object deleteRecords() throws Exception {
        produce(topic, numbered(100));
        var place = new TopicPartition(topic, 0);
        var deleted = admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(40)));
        check(deleted.lowWatermarks().get(place).get().lowWatermark() == 40, "low watermark");
        await("the start has moved", () -> offsets(topic, OffsetSpec.earliest()).get(0) == 40);
        check(read(topic, 0, BEGINNING, 60).get(0).offset() == 40, "reading begins elsewhere");
        return null;
    }

    // ---- logins and rights

    /** Some of the other scenarios, one after the other, and what nobody has given a right to. */
    private static Object roundTrip() throws Exception {
        String base = topic;
        List<String> done = List.of("topics", "acks-all", "commit-manual");
        for (String name : done) {
            topic = base + "-" + name;
            SCENARIOS.get(name).call();
        }
        topic = "other-" + base;
        refused(TopicAuthorizationException.class, () -> create(1, Map.of()));
        return done;
    }

    /** A client that can't log in says so. */
    private static Object badCredentials() throws Exception {
        var said = Tokens.bad();
        return said == null ? turnedAway() : said;
    }

    static String turnedAway(String... options) throws Exception {
        try (Admin client = Admin.create(properties(options))) {
            client.describeCluster().clusterId().get();
        } catch (ExecutionException error) {
            check(error.getCause() instanceof AuthenticationException, "%s", error.getCause());
            return error.getCause().toString();
        }
        throw new AssertionError("it has logged in");
    }

    // ---- all clients together

    private static Object readOthers() throws Exception {
        if (arguments.isEmpty()) {
            throw new Skip("no other client has produced in this run");
        }
        for (String pair : arguments) {
            String[] parts = pair.split("=", 2);
            System.err.println(parts[0]);
            List<Rec> expected = load(parts[1]);
            equal(read(parts[0], 0, BEGINNING, expected.size()), expected);
        }
        return Map.of("topics", arguments.size());
    }

    /** By partition: number of records and SHA-256 over key and value of each, in order. */
    private static final class Digests {
        private final Map<Integer, MessageDigest> hashes = new TreeMap<>();
        private final Map<Integer, Integer> counts = new TreeMap<>();

        void add(int partition, byte[] key, byte[] value) throws Exception {
            if (!hashes.containsKey(partition)) {
                hashes.put(partition, MessageDigest.getInstance("SHA-256"));
            }
            for (byte[] part : new byte[][] {key, {'\n'}, value, {'\n'}}) {
                hashes.get(partition).update(part);
            }
            counts.merge(partition, 1, Integer::sum);
        }

        Map<String, Object> summary() {
            Map<String, Object> all = new TreeMap<>();
            hashes.forEach((p, hash) ->
                all.put("" + p, List.of(counts.get(p), HexFormat.of().formatHex(hash.digest()))));
            return all;
        }
    }

    private static Object tableProduce() throws Exception {
        String table = arguments.get(0);
        List<Rec> rows = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(arguments.get(1)))) {
            String[] parts = line.split("\t", 2);
            rows.add(new Rec(bytes(parts[0]), bytes(parts[1]), List.of(), null, null));
        }
        var digests = new Digests();
        var placed = produce(table, rows, "compression.type", "zstd");
        for (int i = 0; i < rows.size(); i++) {
            digests.add(placed.get(i).partition(), rows.get(i).key(), rows.get(i).value());
        }
        return Map.of(table, digests.summary());
    }

    private static Object tablesRead() throws Exception {
        if (arguments.isEmpty()) {
            throw new Skip("no table has been produced in this run");
        }
        Map<String, Object> tables = new TreeMap<>();
        for (String table : arguments) {
            var digests = new Digests();
            for (var end : offsets(table, OffsetSpec.latest()).entrySet()) {
                if (end.getValue() > 0) {
                    for (var r : read(table, end.getKey(), BEGINNING, end.getValue().intValue())) {
                        digests.add(r.partition(), r.key(), r.value());
                    }
                }
            }
            tables.put(table, digests.summary());
        }
        return tables;
    }
}
