import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileReader;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.utils.Exit;

/**
 * Apache Kafka's command-line tools, run as a shell would run them, but in one JVM.
 *
 * <pre>java -cp ... Tools BOOTSTRAP SCENARIO RUN [ARGUMENT...]</pre>
 *
 * The last line printed is the result: {"result": "pass" | "fail" | "skip", "reason": ..., "data": ...}.
 */
public final class Tools {
    static final int SECONDS = 30;
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = System.out;
    private static final PrintStream NOWHERE = new PrintStream(OutputStream.nullOutputStream());

    // What stands between the fields that kafka-console-consumer prints: nothing that is in a record.
    private static final String FIELD = "|f|";
    private static final String LINE = "|l|\n";
    private static final String HEADER = "|h|";
    private static final String NULL = "|null|";

    static String bootstrap;
    static String topic;
    private static List<String> arguments;

    private static final Map<String, Callable<Object>> SCENARIOS = new LinkedHashMap<>();

    static {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            SCENARIOS.put("produce-" + codec, () -> produceWith(codec));
        }
        for (String acks : List.of("0", "1", "all")) {
            SCENARIOS.put("acks-" + acks, () -> produceAcks(acks));
        }
        SCENARIOS.put("idempotent", Tools::idempotent);
        SCENARIOS.put("consume-start", () -> consumeFrom("earliest", 0));
        SCENARIOS.put("consume-end", Tools::consumeEnd);
        SCENARIOS.put("consume-offset", () -> consumeFrom("42", 42));
        SCENARIOS.put("commit-manual", Tools::commitManual);
        SCENARIOS.put("commit-auto", Tools::commitAuto);
        SCENARIOS.put("topics", Tools::topics);
        SCENARIOS.put("partitions", Tools::partitions);
        SCENARIOS.put("configs", Tools::configs);
        SCENARIOS.put("groups", Tools::groups);
        SCENARIOS.put("delete-group", Tools::deleteGroup);
        SCENARIOS.put("groups-tool-consumer", Tools::consumerGroups);
        SCENARIOS.put("streams-groups-tool", Streams::tool);
        SCENARIOS.put("list-offsets", Tools::listOffsets);
        SCENARIOS.put("delete-records", Tools::deleteRecords);
        SCENARIOS.put("topic-pages", Tools::topicPages);
        SCENARIOS.put("log-dirs", Tools::logDirs);
        SCENARIOS.put("describe-producers", Tools::describeProducers);
        SCENARIOS.put("transactions-tool", Tools::transactions);
        SCENARIOS.put("config-resources", Tools::configResources);
        SCENARIOS.put("client-metrics", Tools::clientMetrics);
        SCENARIOS.put("quotas", Tools::quotas);
        SCENARIOS.put("leader-election", Tools::leaderElection);
        SCENARIOS.put("reassignments", Tools::reassignments);
        SCENARIOS.put("quorum", Tools::quorum);
        SCENARIOS.put("features", Tools::features);
        SCENARIOS.put("performance", Tools::performance);
        SCENARIOS.put("log-export", Tools::logExport);
        SCENARIOS.put("read-others", Tools::readOthers);
        SCENARIOS.put("tables-read", Tools::tablesRead);
        SCENARIOS.putAll(Programs.SCENARIOS);
        SCENARIOS.putAll(Secure.SCENARIOS);
    }

    private static final Map<String, String> LACKS = Map.of(
        "keys", "the console producer is used on one partition here",
        "consume-timestamp", "kafka-console-consumer can't start from a time; see list-offsets",
        "group", "kafka-console-consumer is one member; see java",
        "static-members", "kafka-console-consumer is one member; see java",
        "token-expiry", "a tool that fails does not say what it has sent; see java",
        "table-produce", "kafka-console-producer doesn't tell where a record went");

    public static void main(String[] words) throws Exception {
        bootstrap = words[0];
        topic = words[2] + "-java-tools-" + words[1];
        arguments = List.of(words).subList(3, words.length);
        Exit.setExitProcedure((code, message) -> {
            // A tool may catch this and exit again: the first code is the one that a shell would see.
            exitCode.compareAndSet(null, code);
            // Nor would it see what the tool then prints.
            System.setOut(NOWHERE);
            System.setErr(NOWHERE);
            throw new Exited();
        });
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        OUT.println(JSON.writeValueAsString(attempt(words[1])));
        OUT.flush();
        Runtime.getRuntime().halt(0);
    }

    private static Map<String, Object> attempt(String scenario) throws IOException {
        if (scenario.equals("version")) {
            var properties = new Properties();
            properties.load(Exit.class.getResourceAsStream("/kafka/kafka-version.properties"));
            return result("pass", null, properties.getProperty("version"));
        }
        if (!SCENARIOS.containsKey(scenario)) {
            return result("skip", LACKS.getOrDefault(scenario, "not a scenario of this client"), null);
        }
        try {
            Object data = SCENARIOS.get(scenario).call();
            return data instanceof Skip skip ? result("skip", skip.reason, null) : result("pass", null, data);
        } catch (Throwable error) {
            error.printStackTrace();
            return result("fail", error.toString(), null);
        }
    }

    private record Skip(String reason) { }

    private static Map<String, Object> result(String result, String reason, Object data) {
        Map<String, Object> all = new HashMap<>();
        all.put("result", result);
        all.put("reason", reason);
        all.put("data", data);
        return all;
    }

    // ---- running a tool

    /** What a tool's call of `exit` becomes. */
    private static final class Exited extends RuntimeException { }

    private static final AtomicReference<Integer> exitCode = new AtomicReference<>();
    private static final List<Runnable> hooks = new ArrayList<>();

    record Ran(int code, byte[] bytes) {
        String text() {
            return new String(bytes, StandardCharsets.UTF_8);
        }
    }

    interface Main {
        void main(String[] words) throws Throwable;
    }

    /** What the last tool printed to standard error. */
    static String complaints() {
        return complaints.toString(StandardCharsets.UTF_8);
    }

    private static final ByteArrayOutputStream complaints = new ByteArrayOutputStream();

    /** Writes to both. */
    private static final class Twice extends OutputStream {
        private final OutputStream first;
        private final OutputStream second;

        Twice(OutputStream first, OutputStream second) {
            this.first = first;
            this.second = second;
        }

        @Override
        public void write(int b) throws IOException {
            first.write(b);
            second.write(b);
        }
    }

    /** Runs a tool with this input; what it prints to standard output, and its exit code. */
    static Ran run(Main tool, String input, String... words) throws Exception {
        System.err.println("$ " + String.join(" ", words));
        var printed = new ByteArrayOutputStream();
        PrintStream err = System.err;
        complaints.reset();
        exitCode.set(null);
        hooks.clear();
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        System.setOut(new PrintStream(printed, true));
        System.setErr(new PrintStream(new Twice(complaints, err), true));
        try {
            tool.main(words);
        } catch (Exited exited) {
            // The code is in `exitCode`.
        } catch (Throwable error) {
            throw new AssertionError("a tool failed: " + error, error);
        } finally {
            hooks.forEach(Runnable::run);
            System.setOut(OUT);
            System.setErr(err);
        }
        int code = exitCode.get() == null ? 0 : exitCode.get();
        return new Ran(code, printed.toByteArray());
    }

    /** Runs a tool on the server; it must end well. */
    static String tool(Main tool, String... words) throws Exception {
        Ran ran = attemptTool(tool, words);
        check(ran.code == 0, "exit %d: %s", ran.code, ran.text());
        return ran.text();
    }

    static Ran attemptTool(Main tool, String... words) throws Exception {
        return run(tool, "", with(words, server()));
    }

    /** As {@link #attemptTool}, where a complaint is expected: {@link #complaints} has it. */
    static Ran refused(Main tool, String... words) throws Exception {
        PrintStream err = System.err;
        System.setErr(NOWHERE);
        try {
            return attemptTool(tool, words);
        } finally {
            System.setErr(err);
        }
    }

    /** Runs a tool of several commands: for those the server comes first. */
    static Ran command(Main tool, String... words) throws Exception {
        return run(tool, "", with(server(), words));
    }

    /** Where the server is, and how to log in where DOOR_PROPERTIES names a file that says so. */
    static String[] server() {
        String[] at = {"--bootstrap-server", bootstrap};
        String door = System.getenv("DOOR_PROPERTIES");
        return door == null ? at : with(at, "--command-config", door);
    }

    /** The same for a client. */
    static Properties client() throws IOException {
        var all = new Properties();
        String door = System.getenv("DOOR_PROPERTIES");
        if (door != null) {
            try (var file = new FileReader(door)) {
                all.load(file);
            }
        }
        all.put("bootstrap.servers", bootstrap);
        return all;
    }

    static Callable<Object> scenario(String name) {
        return SCENARIOS.get(name);
    }

    static String[] with(String[] words, String... more) {
        String[] all = Arrays.copyOf(words, words.length + more.length);
        System.arraycopy(more, 0, all, words.length, more.length);
        return all;
    }

    static final Main TOPICS = org.apache.kafka.tools.TopicCommand::main;
    static final Main CONFIGS = kafka.admin.ConfigCommand::main;
    static final Main GROUPS = org.apache.kafka.tools.consumer.group.ConsumerGroupCommand::main;
    static final Main ALL_GROUPS = org.apache.kafka.tools.GroupsCommand::main;
    static final Main OFFSETS = org.apache.kafka.tools.GetOffsetShell::main;
    private static final Main DELETE_RECORDS = org.apache.kafka.tools.DeleteRecordsCommand::main;
    private static final Main PRODUCER = org.apache.kafka.tools.ConsoleProducer::main;
    private static final Main CONSUMER = org.apache.kafka.tools.consumer.ConsoleConsumer::main;
    private static final Main DUMP_LOG = org.apache.kafka.tools.DumpLogSegments::main;
    private static final Main PERFORMANCE = org.apache.kafka.tools.ProducerPerformance::main;

    private static final Main LOG_DIRS = org.apache.kafka.tools.LogDirsCommand::main;
    private static final Main TRANSACTIONS = org.apache.kafka.tools.TransactionsCommand::main;
    private static final Main CLIENT_METRICS = org.apache.kafka.tools.ClientMetricsCommand::main;
    private static final Main ELECTION = org.apache.kafka.tools.LeaderElectionCommand::main;
    private static final Main REASSIGN = org.apache.kafka.tools.reassign.ReassignPartitionsCommand::main;
    private static final Main QUORUM = org.apache.kafka.tools.MetadataQuorumCommand::main;
    private static final Main FEATURES = org.apache.kafka.tools.FeatureCommand::main;

    static boolean topicListed() throws Exception {
        return tool(TOPICS, "--list").lines().anyMatch(topic::equals);
    }

    /** Creates the topic with one partition and waits until the server shows it. */
    static void create() throws Exception {
        tool(TOPICS, "--create", "--topic", topic, "--partitions", "1", "--replication-factor", "1");
        await("the topic is listed", Tools::topicListed);
    }

    /** Sends lines of HEADERS, tab, KEY, tab, VALUE. */
    static void produce(String topic, String lines, String... options) throws Exception {
        Ran ran = run(PRODUCER, lines, with(with(options, server()), "--topic", topic,
            "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true",
            "--reader-property", "null.marker=" + NULL,
            "--command-property", "max.in.flight.requests.per.connection=1"));
        check(ran.code == 0, "kafka-console-producer: exit %d", ran.code);
    }

    record Field(String name, byte[] value) { }

    record Rec(byte[] key, byte[] value, List<Field> headers, long timestamp, long offset) {
        boolean equals(Rec other) {
            boolean same = headers.size() == other.headers.size();
            for (int i = 0; same && i < headers.size(); i++) {
                same = headers.get(i).name.equals(other.headers.get(i).name)
                    && Arrays.equals(headers.get(i).value, other.headers.get(i).value);
            }
            return same && Arrays.equals(key, other.key) && Arrays.equals(value, other.value)
                && (other.timestamp < 0 || timestamp == other.timestamp);
        }
    }

    /** Runs kafka-console-consumer until it has printed this many records. */
    static List<Rec> consume(String topic, int count, String... options) throws Exception {
        Ran ran = run(CONSUMER, "", with(with(options, server()), "--topic", topic,
            "--max-messages", "" + count, "--timeout-ms", "" + SECONDS * 1000,
            "--formatter-property", "print.timestamp=true", "--formatter-property", "print.offset=true",
            "--formatter-property", "print.headers=true", "--formatter-property", "print.key=true",
            "--formatter-property", "key.separator=" + FIELD, "--formatter-property", "line.separator=" + LINE,
            "--formatter-property", "headers.separator=" + HEADER, "--formatter-property", "null.literal=" + NULL));
        // One byte is one character here: whatever the records hold, it comes through.
        String printed = new String(ran.bytes, StandardCharsets.ISO_8859_1);
        List<Rec> records = new ArrayList<>();
        for (String line : printed.split(Pattern.quote(LINE))) {
            if (!line.isEmpty()) {
                records.add(parse(line));
            }
        }
        check(records.size() == count, "%d records instead of %d", records.size(), count);
        return records;
    }

    private static List<Rec> read(String topic, String offset, int count) throws Exception {
        return consume(topic, count, "--partition", "0", "--offset", offset);
    }

    /** From `CreateTime:1|f|Offset:2|f|NAME:VALUE|h|NAME:VALUE|f|KEY|f|VALUE`. */
    private static Rec parse(String line) {
        String[] fields = line.split(Pattern.quote(FIELD), -1);
        List<Field> headers = new ArrayList<>();
        if (!fields[2].equals("NO_HEADERS")) {
            for (String header : fields[2].split(Pattern.quote(HEADER), -1)) {
                int colon = header.indexOf(':');
                String name = new String(latin(header.substring(0, colon)), StandardCharsets.UTF_8);
                headers.add(new Field(name, latin(header.substring(colon + 1))));
            }
        }
        return new Rec(latin(fields[3]), latin(fields[4]), headers, number(fields[0]), number(fields[1]));
    }

    private static byte[] latin(String text) {
        return text.equals(NULL) ? null : text.getBytes(StandardCharsets.ISO_8859_1);
    }

    private static long number(String field) {
        return Long.parseLong(field.substring(field.indexOf(':') + 1));
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

    private static byte[] unhex(JsonNode node) {
        return node.isNull() ? null : HexFormat.of().parseHex(node.asText());
    }

    /** Records as the runner writes them: JSON with all bytes in hex. */
    private static List<Rec> load(String file) throws IOException {
        List<Rec> records = new ArrayList<>();
        for (JsonNode r : JSON.readTree(new File(file))) {
            List<Field> headers = new ArrayList<>();
            r.get("headers").forEach(h -> headers.add(new Field(h.get(0).asText(), unhex(h.get(1)))));
            long timestamp = r.get("timestamp").isNull() ? -1 : r.get("timestamp").asLong();
            records.add(new Rec(unhex(r.get("key")), unhex(r.get("value")), headers, timestamp, 0));
        }
        return records;
    }

    private static String text(byte[] bytes) {
        return bytes == null ? NULL : new String(bytes, StandardCharsets.UTF_8);
    }

    private static String line(Rec record) {
        var headers = record.headers.stream().map(h -> h.name + ":" + text(h.value)).toList();
        String joined = headers.isEmpty() ? NULL : String.join(",", headers);
        return joined + "\t" + text(record.key) + "\t" + text(record.value) + "\n";
    }

    static void equal(List<Rec> got, List<Rec> expected) {
        for (int i = 0; i < got.size(); i++) {
            check(got.get(i).equals(expected.get(i)), "record %d differs: %.200s", i, line(got.get(i)));
        }
    }

    static List<Rec> numbered(int count) {
        return IntStream.range(0, count)
            .mapToObj(i -> new Rec(("k" + i).getBytes(), ("v" + i).getBytes(), List.of(), -1, i)).toList();
    }

    static String lines(List<Rec> records) {
        return String.join("", records.stream().map(Tools::line).toList());
    }

    static void contains(String text, String expected) {
        check(text.contains(expected), "no \"%s\" in:%n%s", expected, text);
    }

    static void containsOne(String text, String... expected) {
        check(Arrays.stream(expected).anyMatch(text::contains), "none of %s in:%n%s", List.of(expected), text);
    }

    // ---- produce and consume

    private static Object produceWith(String codec) throws Exception {
        List<Rec> records = load(arguments.get(0));
        create();
        produce(topic, lines(records), "--compression-codec", codec);
        equal(read(topic, "earliest", records.size()), records);
        return null;
    }

    private static Object produceAcks(String acks) throws Exception {
        create();
        produce(topic, lines(numbered(100)), "--request-required-acks", acks);
        equal(read(topic, "earliest", 100), numbered(100));
        return null;
    }

    private static Object idempotent() throws Exception {
        create();
        produce(topic, lines(numbered(2000)), "--command-property", "enable.idempotence=true", "--batch-size", "500");
        equal(read(topic, "earliest", 2000), numbered(2000));
        contains(tool(OFFSETS, "--topic", topic), topic + ":0:2000");
        return null;
    }

    private static Object consumeFrom(String offset, int first) throws Exception {
        create();
        produce(topic, lines(numbered(100)));
        var got = read(topic, offset, 100 - first);
        equal(got, numbered(100).subList(first, 100));
        check(got.get(0).offset == first, "offset %d", got.get(0).offset);
        return null;
    }

    /** Nothing tells when the consumer is in place: so the load goes on until it has seen something. */
    private static Object consumeEnd() throws Exception {
        create();
        produce(topic, lines(numbered(100)));
        Properties client = client();
        var bytes = new org.apache.kafka.common.serialization.ByteArraySerializer();
        var producer = new org.apache.kafka.clients.producer.KafkaProducer<>(client, bytes, bytes);
        var load = new Thread(() -> {
            try {
                while (true) {
                    Thread.sleep(100);
                    producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, "later".getBytes()));
                }
            } catch (InterruptedException end) {
                producer.close();
            }
        });
        load.start();
        var got = read(topic, "latest", 3);
        load.interrupt();
        load.join();
        check(got.get(0).offset >= 100, "offset %d", got.get(0).offset);
        check(got.stream().allMatch(r -> Arrays.equals(r.value, "later".getBytes())), "not what came later");
        return null;
    }

    private static Object commitManual() throws Exception {
        create();
        produce(topic, lines(numbered(100)));
        String printed = tool(GROUPS, "--group", topic, "--topic", topic, "--reset-offsets", "--to-offset", "60", "--execute");
        check(Pattern.compile(topic + "\\s+0\\s+60").matcher(printed).find(), printed);
        var got = consume(topic, 40, "--group", topic);
        check(got.get(0).offset == 60, "offset %d", got.get(0).offset);
        return null;
    }

    private static Object commitAuto() throws Exception {
        create();
        produce(topic, lines(numbered(100)));
        equal(consume(topic, 100, "--group", topic, "--from-beginning"), numbered(100));
        produce(topic, lines(numbered(10)));
        var got = consume(topic, 10, "--group", topic, "--from-beginning");
        check(got.get(0).offset == 100, "offset %d", got.get(0).offset);
        return null;
    }

    // ---- admin

    private static Object topics() throws Exception {
        tool(TOPICS, "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=3600000");
        Ran again = attemptTool(TOPICS, "--create", "--topic", topic);
        check(again.code == 1 && again.text().contains("already exists"), "exit %d: %s", again.code, again.text());
        await("the topic is listed", Tools::topicListed);
        String described = tool(TOPICS, "--describe", "--topic", topic);
        contains(described, "PartitionCount: 3");
        contains(described, "retention.ms=3600000");
        check(described.lines().filter(line -> line.matches(".*Partition: \\d+\tLeader: \\d+.*")).count() == 3, described);
        tool(TOPICS, "--delete", "--topic", topic);
        await("the topic is gone", () -> !topicListed());
        return null;
    }

    private static Object partitions() throws Exception {
        create();
        tool(TOPICS, "--alter", "--topic", topic, "--partitions", "5");
        await("five partitions", () -> tool(TOPICS, "--describe", "--topic", topic).contains("PartitionCount: 5"));
        Ran fewer = attemptTool(TOPICS, "--alter", "--topic", topic, "--partitions", "2");
        check(fewer.code == 1 && fewer.text().contains("5"), "exit %d: %s", fewer.code, fewer.text());
        return null;
    }

    private static Object configs() throws Exception {
        create();
        String[] entity = {"--entity-type", "topics", "--entity-name", topic};
        String all = tool(CONFIGS, with(entity, "--describe", "--all"));
        contains(all, "retention.ms=604800000");
        contains(all, "max.message.bytes=");
        tool(CONFIGS, with(entity, "--alter", "--add-config", "retention.ms=3600000,cleanup.policy=[compact,delete]"));
        await("two configs set", () -> {
            String set = tool(CONFIGS, with(entity, "--describe"));
            return set.contains("retention.ms=3600000") && set.contains("cleanup.policy=compact,delete");
        });
        tool(CONFIGS, with(entity, "--alter", "--delete-config", "retention.ms"));
        await("one config unset", () -> !tool(CONFIGS, with(entity, "--describe")).contains("retention.ms"));
        return null;
    }

    private static Object groups() throws Exception {
        create();
        produce(topic, lines(numbered(100)));
        consume(topic, 60, "--group", topic, "--from-beginning");
        check(tool(GROUPS, "--list").lines().anyMatch(topic::equals), "the group is not listed");
        String described = tool(GROUPS, "--describe", "--group", topic);
        // Group, topic, partition, committed, end, lag.
        Matcher columns = Pattern.compile(topic + "\\s+" + topic + "\\s+0\\s+60\\s+100\\s+40").matcher(described);
        check(columns.find(), described);
        contains(tool(GROUPS, "--describe", "--group", topic, "--state"), "Empty");
        return null;
    }

    private static Object consumerGroups() throws Exception {
        create();
        produce(topic, lines(numbered(100)));
        Properties properties = client();
        properties.putAll(Map.of("group.id", topic, "group.protocol", "consumer",
            "auto.offset.reset", "earliest", "enable.auto.commit", "false", "client.id", "tester"));
        var bytes = new ByteArrayDeserializer();
        try (var member = new KafkaConsumer<>(properties, bytes, bytes)) {
            member.subscribe(List.of(topic));
            long[] seen = {0};
            await("all records", () -> (seen[0] += member.poll(Duration.ofMillis(100)).count()) >= 100);
            member.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(60)));
            String[] group = {"--group", topic};
            for (String[] flags : new String[][] {{"--list"}, {"--list", "--type", "consumer"}, {"--list", "--state", "stable"}}) {
                check(tool(GROUPS, flags).lines().anyMatch(line -> line.startsWith(topic + " ") || line.equals(topic)),
                    "not listed by %s", List.of(flags));
            }
            check(!tool(GROUPS, "--list", "--type", "classic").contains(topic), "listed as a classic group");
            check(!tool(GROUPS, "--list", "--state", "empty").contains(topic), "listed as an empty group");
            contains(tool(ALL_GROUPS, "--list", "--group-type", "consumer"), topic);
            contains(tool(ALL_GROUPS, "--list", "--consumer"), topic);
            String described = tool(GROUPS, with(group, "--describe"));
            Matcher columns = Pattern.compile(topic + "\\s+" + topic + "\\s+0\\s+60\\s+100\\s+40\\s+\\S+\\s+/127").matcher(described);
            check(columns.find(), described);
            contains(tool(GROUPS, with(group, "--describe", "--offsets", "--verbose")), topic);
            contains(tool(GROUPS, with(group, "--describe", "--members")), "tester");
            String members = tool(GROUPS, with(group, "--describe", "--members", "--verbose"));
            contains(members, "tester");
            String state = tool(GROUPS, with(group, "--describe", "--state"));
            contains(state, "uniform");
            contains(state, "Stable");
            contains(tool(GROUPS, with(group, "--describe", "--state", "--verbose")), "Stable");
            Ran refused = command(GROUPS, with(group, "--delete"));
            contains(refused.text(), "GroupNotEmptyException");
            String busy = command(GROUPS, with(group, "--topic", topic, "--reset-offsets", "--to-earliest", "--execute")).text();
            contains(busy, "state is Stable");
        }
        await("the group is empty", () -> tool(GROUPS, "--describe", "--state", "--group", topic).contains("Empty"));
        String moved = tool(GROUPS, "--group", topic, "--topic", topic, "--reset-offsets", "--to-offset", "10", "--execute");
        check(Pattern.compile(topic + "\\s+" + topic + "\\s+0\\s+10").matcher(moved).find()
            || Pattern.compile(topic + "\\s+0\\s+10").matcher(moved).find(), moved);
        tool(GROUPS, "--group", topic, "--topic", topic, "--delete-offsets");
        contains(tool(GROUPS, "--delete", "--group", topic), "was successful");
        check(tool(GROUPS, "--list").lines().noneMatch(topic::equals), "the group is still listed");
        return null;
    }

    private static Object deleteGroup() throws Exception {
        create();
        produce(topic, lines(numbered(10)));
        consume(topic, 10, "--group", topic, "--from-beginning");
        contains(tool(GROUPS, "--delete", "--group", topic), "was successful");
        check(tool(GROUPS, "--list").lines().noneMatch(topic::equals), "the group is still listed");
        return null;
    }

    private static Object listOffsets() throws Exception {
        create();
        produce(topic, lines(numbered(42)));
        Thread.sleep(10);
        long between = System.currentTimeMillis();
        Thread.sleep(10);
        produce(topic, lines(numbered(58)));
        for (var asked : Map.of("earliest", 0, "latest", 100, "max-timestamp", 99, "" + between, 42).entrySet()) {
            String printed = tool(OFFSETS, "--topic", topic, "--time", asked.getKey());
            // Records of one millisecond share the highest timestamp: any of them is right.
            String expected = asked.getKey().equals("max-timestamp") ? "\\d+" : "" + asked.getValue();
            check(printed.trim().matches(topic + ":0:" + expected), "%s: %s", asked, printed);
        }
        return null;
    }

    private static Object deleteRecords() throws Exception {
        create();
        produce(topic, lines(numbered(100)));
        Path file = Files.createTempFile("delete-records", ".json");
        var place = Map.of("topic", topic, "partition", 0, "offset", 40);
        Files.writeString(file, JSON.writeValueAsString(Map.of("partitions", List.of(place), "version", 1)));
        contains(tool(DELETE_RECORDS, "--offset-json-file", file.toString()), "low_watermark: 40");
        Files.delete(file);
        check(read(topic, "earliest", 60).get(0).offset == 40, "reading begins elsewhere");
        return null;
    }

    // ---- where partitions are, what they take, who writes them

    private static Object topicPages() throws Exception {
        tool(TOPICS, "--create", "--topic", topic, "--partitions", "5");
        await("the topic is listed", Tools::topicListed);
        String described = tool(TOPICS, "--describe", "--topic", topic, "--partition-size-limit-per-response", "2");
        contains(described, "PartitionCount: 5");
        for (int i = 0; i < 5; i++) {
            contains(described, "Partition: %d\tLeader: 1\tReplicas: 1\tIsr: 1".formatted(i));
        }
        return null;
    }

    /** What kafka-log-dirs says that partition 0 of the topic takes, and in which directory. */
    private static Map.Entry<String, Long> logDir() throws Exception {
        String printed = tool(LOG_DIRS, "--describe", "--topic-list", topic);
        String json = printed.lines().filter(line -> line.startsWith("{")).findFirst().orElseThrow();
        JsonNode dirs = JSON.readTree(json).get("brokers").get(0).get("logDirs");
        check(dirs.size() == 1 && dirs.get(0).get("partitions").size() == 1, printed);
        JsonNode partition = dirs.get(0).get("partitions").get(0);
        check(partition.get("partition").asText().equals(topic + "-0"), printed);
        check(partition.get("offsetLag").asLong() == 0 && !partition.get("isFuture").asBoolean(), printed);
        return Map.entry(dirs.get(0).get("logDir").asText(), partition.get("size").asLong());
    }

    private static Object logDirs() throws Exception {
        create();
        check(logDir().getValue() == 0, "an empty partition takes %d bytes", logDir().getValue());
        produce(topic, lines(numbered(100)));
        long once = logDir().getValue();
        // As many records as before; how they are cut into batches may differ.
        produce(topic, lines(numbered(100)));
        long twice = logDir().getValue();
        check(once > 1000 && once < 100_000, "100 records take %d bytes", once);
        check(twice > once + once / 2 && twice < 3 * once, "%d bytes, then %d", once, twice);
        check(Path.of(logDir().getKey()).isAbsolute(), logDir().getKey());
        return null;
    }

    private static Object describeProducers() throws Exception {
        create();
        // One batch: its last sequence number is known then.
        produce(topic, lines(numbered(100)), "--batch-size", "1000000", "--timeout", "2000");
        Ran ran = command(TRANSACTIONS, "describe-producers", "--topic", topic, "--partition", "0");
        check(ran.code == 0, "exit %d: %s", ran.code, ran.text());
        List<String> rows = ran.text().lines().toList();
        check(rows.size() == 2, ran.text());
        // Id, epoch, coordinator's epoch, last sequence number, time, transaction.
        check(rows.get(1).trim().matches("\\d+\\s+0\\s+-1\\s+99\\s+\\d{13}\\s+None"), ran.text());
        return null;
    }

    /** What kafka-transactions prints: a line of titles, then a row of words for each thing found. */
    private static List<List<String>> rows(String... words) throws Exception {
        Ran ran = command(TRANSACTIONS, words);
        check(ran.code == 0, "%s: exit %d: %s", words[0], ran.code, ran.text());
        return ran.text().lines().skip(1).map(line -> List.of(line.trim().split("\\s+"))).toList();
    }

    /** The state of the transactional id: in the list, and described. */
    private static String transactionState() throws Exception {
        var listed = rows("list").stream().filter(row -> row.get(0).equals(topic)).toList();
        var described = rows("describe", "--transactional-id", topic);
        check(listed.size() == 1 && described.size() == 1, "%s, %s", listed, described);
        check(described.get(0).get(1).equals(topic), "%s", described);
        String state = described.get(0).get(4);
        check(listed.get(0).get(3).equals(state), "%s, %s", listed, described);
        check(described.get(0).contains(topic + "-0") == state.equals("Ongoing"), "%s", described);
        return state;
    }

    /** Where the open transaction of a producer of partition 0 began, or "None". */
    private static String openFrom(String producer) throws Exception {
        var found = rows("describe-producers", "--topic", topic, "--partition", "0").stream()
            .filter(row -> row.get(0).equals(producer)).toList();
        check(found.size() == 1, "%s", found);
        return found.get(0).get(5);
    }

    /** kafka-transactions with every subcommand, on a transaction that is open. */
    private static Object transactions() throws Exception {
        create();
        produce(topic, lines(numbered(10)));
        Properties options = client();
        options.put("transactional.id", topic);
        var bytes = new org.apache.kafka.common.serialization.ByteArraySerializer();
        var producer = new org.apache.kafka.clients.producer.KafkaProducer<>(options, bytes, bytes);
        producer.initTransactions();
        check(transactionState().equals("Empty"), transactionState());
        producer.beginTransaction();
        producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, 0, null, "open".getBytes())).get();
        check(transactionState().equals("Ongoing"), transactionState());
        check(rows("list", "--duration-filter", "3600000").stream().noneMatch(row -> row.get(0).equals(topic)), "an hour");
        var described = rows("describe", "--transactional-id", topic).get(0);
        check(described.get(5).equals("60000"), "%s", described);
        String id = described.get(2);
        check(openFrom(id).equals("10"), openFrom(id));
        String[] place = {"--topic", topic, "--partition", "0"};
        // It is open, however long: its coordinator knows of it.
        var hanging = rows(with(new String[] {"find-hanging", "--max-transaction-timeout", "0"}, place));
        check(hanging.isEmpty(), "%s", hanging);
        check(rows("find-hanging", "--broker-id", "1").isEmpty(), "something hangs on the broker");

        rows(with(new String[] {"abort", "--start-offset", "10"}, place));
        check(openFrom(id).equals("None"), openFrom(id));
        check(transactionState().equals("Ongoing"), "only this partition was asked for");
        produce(topic, lines(numbered(5)));
        var expected = new ArrayList<>(numbered(10));
        expected.addAll(numbered(5));
        String[] committed = {"--partition", "0", "--offset", "earliest", "--isolation-level", "read_committed"};
        equal(consume(topic, 15, committed), expected);

        rows("forceTerminateTransaction", "--transactionalId", topic);
        // The tool takes the id as a second producer would, which aborts what the first had open.
        check(transactionState().equals("Empty"), transactionState());
        try {
            producer.commitTransaction();
            check(false, "a transaction that was ended by force was committed");
        } catch (org.apache.kafka.common.KafkaException fenced) {
            System.err.println("the commit of a transaction that was ended by force: " + fenced);
        }
        equal(consume(topic, 15, committed), expected);
        Ran unknown = command(TRANSACTIONS, "describe", "--transactional-id", topic + "-unknown");
        check(unknown.code == 1, "exit %d: %s", unknown.code, unknown.text());
        return null;
    }

    private static Object configResources() throws Exception {
        tool(CLIENT_METRICS, "--alter", "--name", topic, "--interval", "5000", "--metrics", "org.apache.kafka.");
        await("it is listed", () -> tool(CLIENT_METRICS, "--list").lines().anyMatch(topic::equals));
        contains(tool(CLIENT_METRICS, "--describe"), "interval.ms=5000");
        contains(tool(CONFIGS, "--describe", "--entity-type", "client-metrics"), "client-metric " + topic);
        tool(CLIENT_METRICS, "--delete", "--name", topic);
        await("it is gone", () -> tool(CLIENT_METRICS, "--list").lines().noneMatch(topic::equals));
        String[] group = {"--entity-type", "groups", "--entity-name", topic};
        tool(CONFIGS, with(group, "--alter", "--add-config", "consumer.session.timeout.ms=50000"));
        await("the group is listed", () ->
            tool(CONFIGS, "--describe", "--entity-type", "groups").contains("group " + topic));
        return null;
    }

    /** A producer is told who it is, as those are whose metrics are taken. Its last push is when it closes. */
    private static Object clientMetrics() throws Exception {
        create();
        tool(CLIENT_METRICS, "--alter", "--name", topic, "--interval", "100", "--metrics",
            "org.apache.kafka.producer.", "--match", "client_id=" + topic + ",client_software_name=apache-kafka-java");
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "client.id", topic);
        var bytes = new org.apache.kafka.common.serialization.ByteArraySerializer();
        var ids = new ArrayList<String>();
        for (int run = 0; run < 2; run++) {
            try (var producer = new org.apache.kafka.clients.producer.KafkaProducer<>(settings, bytes, bytes)) {
                producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, new byte[10])).get();
                ids.add(producer.clientInstanceId(Duration.ofSeconds(30)).toString());
            }
        }
        check(!ids.get(0).equals(ids.get(1)), "two producers have one id: %s", ids);
        Ran wrong = refused(CLIENT_METRICS, "--alter", "--name", topic, "--interval", "99");
        check(wrong.code == 1, complaints());
        tool(CLIENT_METRICS, "--delete", "--name", topic);
        return null;
    }

    private static Object quotas() throws Exception {
        create();
        String[] client = {"--entity-type", "clients", "--entity-name", topic};
        String[] address = {"--entity-type", "ips", "--entity-name", "192.0.2.1"};
        tool(CONFIGS, with(client, "--alter", "--add-config", "producer_byte_rate=5000,request_percentage=5000"));
        tool(CONFIGS, with(address, "--alter", "--add-config", "connection_creation_rate=7"));
        String said = tool(CONFIGS, with(client, "--describe"));
        contains(said, "producer_byte_rate=5000.0");
        contains(said, "request_percentage=5000.0");
        contains(tool(CONFIGS, with(address, "--describe")), "connection_creation_rate=7.0");
        Ran nothing = refused(CONFIGS, with(client, "--alter", "--add-config", "producer_byte_rate=0"));
        check(nothing.code == 1 && complaints().contains("more than 0"), complaints());
        // More than the ten seconds' worth that may be used at once.
        String printed = tool(PERFORMANCE, "--topic", topic, "--num-records", "60", "--record-size", "1000",
            "--throughput", "-1", "--print-metrics", "--command-property", "client.id=" + topic, "batch.size=4000");
        contains(printed, "60 records sent");
        String longest = printed.lines().filter(line -> line.contains("produce-throttle-time-max")).findFirst().orElse("");
        check(!longest.isEmpty() && !longest.matches(".*: (0\\.0+|NaN)$"), "the producer was told to wait: %s", longest);
        tool(CONFIGS, with(client, "--alter", "--delete-config", "producer_byte_rate,request_percentage"));
        tool(CONFIGS, with(address, "--alter", "--delete-config", "connection_creation_rate"));
        check(!tool(CONFIGS, with(client, "--describe")).contains("producer_byte_rate"), "the quota is gone");
        return null;
    }

    private static Object leaderElection() throws Exception {
        create();
        for (String kind : List.of("preferred", "unclean")) {
            String said = tool(ELECTION, "--election-type", kind, "--topic", topic, "--partition", "0");
            contains(said, "Valid replica already elected for partitions " + topic + "-0");
        }
        tool(ELECTION, "--election-type", "preferred", "--all-topic-partitions");
        Ran missing = attemptTool(ELECTION, "--election-type", "preferred", "--topic", topic, "--partition", "7");
        check(missing.code == 1 && missing.text().contains("UnknownTopicOrPartitionException"), missing.text());
        return null;
    }

    private static Object reassignments() throws Exception {
        create();
        Path topics = Files.createTempFile("topics", ".json");
        Path moves = Files.createTempFile("moves", ".json");
        Files.writeString(topics, JSON.writeValueAsString(
            Map.of("topics", List.of(Map.of("topic", topic)), "version", 1)));
        String proposed = tool(REASSIGN, "--generate", "--topics-to-move-json-file", topics.toString(),
            "--broker-list", "1").lines().filter(line -> line.startsWith("{")).reduce((a, b) -> b).orElseThrow();
        JsonNode move = JSON.readTree(proposed).get("partitions").get(0);
        check(move.get("topic").asText().equals(topic) && move.get("replicas").toString().equals("[1]"), proposed);
        // To the only broker, in whatever directory; then in the one that there is.
        String here = logDir().getKey();
        for (String dir : List.of("any", here)) {
            Files.writeString(moves, proposed.replace("\"any\"", JSON.writeValueAsString(dir)));
            String[] file = {"--reassignment-json-file", moves.toString()};
            contains(tool(REASSIGN, with(file, "--execute")), "Successfully started partition reassignment");
            await("it is done", () -> tool(REASSIGN, with(file, "--verify"))
                .contains("Reassignment of partition " + topic + "-0 is completed."));
            contains(tool(REASSIGN, "--list"), "No partition reassignments found.");
            contains(tool(REASSIGN, with(file, "--cancel")), "None of the specified partition reassignments are active.");
        }
        Files.delete(topics);
        Files.delete(moves);
        return null;
    }

    private static Object quorum() throws Exception {
        long before = number(command(QUORUM, "describe", "--status").text(), "HighWatermark:\\s+(\\d+)");
        create();
        String status = command(QUORUM, "describe", "--status").text();
        check(number(status, "LeaderId:\\s+(\\d+)") == 1, status);
        check(number(status, "MaxFollowerLag:\\s+(\\d+)") == 0, status);
        check(number(status, "HighWatermark:\\s+(\\d+)") > before, status);
        check(number(status, "CurrentVoters:\\s+\\[\\{\"id\": (\\d+)") == 1, status);
        String replication = command(QUORUM, "describe", "--replication", "--human-readable").text();
        List<String> rows = replication.lines().toList();
        check(rows.size() == 2 && rows.get(1).matches("1\\s.*\\s0\\s.*Leader\\s*"), replication);
        return null;
    }

    private static long number(String text, String pattern) {
        Matcher found = Pattern.compile(pattern).matcher(text);
        check(found.find(), "%s in: %s", pattern, text);
        return Long.parseLong(found.group(1));
    }

    private static Object features() throws Exception {
        Ran described = command(FEATURES, "describe");
        check(described.code == 0, "exit %d: %s", described.code, described.text());
        check(described.text().lines().allMatch(line -> line.contains("FinalizedVersionLevel")), described.text());
        Ran raised = command(FEATURES, "upgrade", "--feature", "no.such.feature=3");
        check(raised.code == 1, "exit %d: %s", raised.code, raised.text());
        return null;
    }

    private static Object performance() throws Exception {
        producerPerformance("--topic", topic, "--num-records", "50000", "--record-size", "200",
            "--throughput", "-1", "--command-property", "compression.type=lz4", "acks=all");
        return null;
    }

    /** Runs the producer's tool, which must have sent all. */
    static void producerPerformance(String... words) throws Exception {
        String records = words[List.of(words).indexOf("--num-records") + 1];
        contains(tool(PERFORMANCE, words), records + " records sent");
    }

    // ---- what is on disk

    /** The argument is what `log export --json` said: folders, with how many batches and records each must have. */
    private static Object logExport() throws Exception {
        int indexed = 0;
        for (JsonNode part : JSON.readTree(new File(arguments.get(0)))) {
            long batches = 0;
            long records = 0;
            File[] files = new File(part.get("folder").asText()).listFiles();
            for (File file : files) {
                if (file.getName().endsWith(".log")) {
                    for (String line : dumpLog(file, "--deep-iteration").lines().toList()) {
                        batches += line.startsWith("baseOffset: ") ? 1 : 0;
                        records += line.startsWith("| offset: ") ? 1 : 0;
                        check(!line.contains("isvalid: false"), "%s: %s", file, line);
                    }
                } else {
                    // As a broker checks them when it starts, then each entry against the log.
                    dumpLog(file, "--index-sanity-check");
                    dumpLog(file, "--verify-index-only");
                    indexed += file.length() > 0 ? 1 : 0;
                }
            }
            check(batches == part.get("batches").asLong(), "%s: %d batches", part, batches);
            check(records == part.get("records").asLong(), "%s: %d records", part, records);
        }
        return indexed > 0 ? null : new Skip("nothing has been produced in this run");
    }

    /** What it prints of a file. It tells of what is wrong on standard error only, and ends with 0. */
    private static String dumpLog(File file, String how) throws Exception {
        var complaints = new ByteArrayOutputStream();
        PrintStream err = System.err;
        System.setErr(new PrintStream(complaints, true));
        try {
            Ran ran = run(DUMP_LOG, "", "--files", file.toString(), how, "--max-message-size", "" + (100 << 20));
            String said = complaints.toString(StandardCharsets.UTF_8).lines().skip(1).reduce("", String::concat);
            // To this tool, a file that does not begin at offset 0 begins with a gap.
            long base = Long.parseLong(file.getName().replaceFirst("\\..*", ""));
            String begins = "Non-consecutive offsets in %s  -1 is followed by %d".formatted(file, base);
            boolean sound = said.isEmpty() || said.equals(begins);
            check(ran.code == 0 && sound, "%s: exit %d: %s", file, ran.code, said);
            return ran.text();
        } finally {
            System.setErr(err);
        }
    }

    // ---- all clients together

    private static Object readOthers() throws Exception {
        if (arguments.isEmpty()) {
            return new Skip("no other client has produced in this run");
        }
        for (String pair : arguments) {
            String[] parts = pair.split("=", 2);
            List<Rec> expected = load(parts[1]);
            equal(read(parts[0], "earliest", expected.size()), expected);
        }
        return Map.of("topics", arguments.size());
    }

    private static Object tablesRead() throws Exception {
        if (arguments.isEmpty()) {
            return new Skip("no table has been produced in this run");
        }
        Map<String, Object> tables = new TreeMap<>();
        for (String table : arguments) {
            Map<String, Object> digests = new TreeMap<>();
            for (String end : tool(OFFSETS, "--topic", table).trim().split("\n")) {
                String[] parts = end.split(":");
                int count = Integer.parseInt(parts[2]);
                if (count > 0) {
                    var hash = MessageDigest.getInstance("SHA-256");
                    for (Rec r : consume(table, count, "--partition", parts[1], "--offset", "earliest")) {
                        for (byte[] part : new byte[][] {r.key, {'\n'}, r.value, {'\n'}}) {
                            hash.update(part);
                        }
                    }
                    digests.put(parts[1], List.of(count, HexFormat.of().formatHex(hash.digest())));
                }
            }
            tables.put(table, digests);
        }
        return tables;
    }
}
