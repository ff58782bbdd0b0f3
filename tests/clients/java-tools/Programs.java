import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Apache Kafka's own test programs and the rest of its tools: see {@link Tools}, which runs them. */
final class Programs {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static final Tools.Main VERIFIABLE_CONSUMER = org.apache.kafka.tools.VerifiableConsumer::main;
    private static final Tools.Main COPIER = org.apache.kafka.tools.TransactionalMessageCopier::main;
    private static final Tools.Main LATENCY = org.apache.kafka.tools.EndToEndLatency::main;
    private static final Tools.Main CONSUMER_PERFORMANCE = org.apache.kafka.tools.ConsumerPerformance::main;
    private static final Tools.Main COMPATIBILITY = org.apache.kafka.tools.ClientCompatibilityTest::main;
    private static final Tools.Main COMPACTION = org.apache.kafka.tools.LogCompactionTester::main;
    private static final Tools.Main API_VERSIONS = org.apache.kafka.tools.BrokerApiVersionsCommand::main;
    private static final Tools.Main CLUSTER = org.apache.kafka.tools.ClusterTool::main;
    private static final Tools.Main RESETTER = org.apache.kafka.tools.StreamsResetter::main;

    static final Map<String, Callable<Object>> SCENARIOS = Map.of(
        "configs-tool", Programs::configs,
        "offsets-tool", Programs::offsets,
        "reset-offsets", Programs::resetOffsets,
        "streams-reset", Programs::streamsReset,
        "broker-tools", Programs::broker,
        "verifiable", Programs::verifiable,
        "copier", Programs::copier,
        "test-programs", Programs::testPrograms);

    private Programs() { }

    // ---- kafka-configs

    /** What kafka-configs prints of an entity, for each config that it names. */
    private static Map<String, String> described(String[] entity, String... more) throws Exception {
        String printed = Tools.tool(Tools.CONFIGS, Tools.with(entity, Tools.with(new String[] {"--describe"}, more)));
        return printed.lines().map(String::trim).filter(line -> line.matches("[a-z0-9.]+=.* sensitive=.*"))
            .collect(Collectors.toMap(line -> line.substring(0, line.indexOf('=')),
                line -> line.substring(line.indexOf('=') + 1)));
    }

    private static void set(String[] entity, String configs) throws Exception {
        Tools.tool(Tools.CONFIGS, Tools.with(entity, "--alter", "--add-config", configs));
    }

    private static void unset(String[] entity, String configs) throws Exception {
        Tools.tool(Tools.CONFIGS, Tools.with(entity, "--alter", "--delete-config", configs));
    }

    /** The words of the refusal must name the config. */
    private static void refused(String[] entity, String config) throws Exception {
        Tools.Ran ran = Tools.refused(Tools.CONFIGS, Tools.with(entity, "--alter", "--add-config", config));
        String name = config.substring(0, config.indexOf('='));
        Tools.check(ran.code() != 0, "%s was taken", config);
        Tools.contains(Tools.complaints(), name);
    }

    private static void is(String[] entity, String name, String expected) throws Exception {
        Tools.await(name + " is " + expected, () -> {
            String value = described(entity).get(name);
            return expected == null ? value == null : value != null && value.startsWith(expected + " ");
        });
    }

    private static Object configs() throws Exception {
        Tools.create();
        String[] topic = {"--entity-type", "topics", "--entity-name", Tools.topic};
        String[] group = {"--entity-type", "groups", "--entity-name", Tools.topic};
        String[] metrics = {"--entity-type", "client-metrics", "--entity-name", Tools.topic};
        String[] broker = {"--entity-type", "brokers", "--entity-name", "1"};
        String[] brokers = {"--entity-type", "brokers", "--entity-default"};

        set(topic, "cleanup.policy=[compact,delete],leader.replication.throttled.replicas=[0:1],retention.ms=604800000");
        is(topic, "cleanup.policy", "compact,delete");
        // Set to what the default is, it is still set.
        is(topic, "retention.ms", "604800000");
        unset(topic, "leader.replication.throttled.replicas,retention.ms");
        is(topic, "retention.ms", null);
        for (String wrong : List.of("retention.ms=soon", "segment.bytes=1", "no.such.config=1", "cleanup.policy=shred")) {
            refused(topic, wrong);
        }
        var all = described(topic, "--all");
        Tools.check(all.size() > 30 && all.get("segment.bytes").contains("DEFAULT_CONFIG:log.segment.bytes=1073741824"), "%s", all);

        set(group, "consumer.session.timeout.ms=50000,share.auto.offset.reset=earliest");
        is(group, "consumer.session.timeout.ms", "50000");
        for (String wrong : List.of("consumer.session.timeout.ms=1", "consumer.session.timeout.ms=900000",
                "share.auto.offset.reset=sometimes", "no.such.config=1")) {
            refused(group, wrong);
        }
        unset(group, "consumer.session.timeout.ms,share.auto.offset.reset");
        is(group, "share.auto.offset.reset", null);
        Tools.check(described(group, "--all").size() > 15, "all of a group");

        set(metrics, "interval.ms=5000,metrics=[org.apache.kafka.],match=[client_id=a.*]");
        is(metrics, "interval.ms", "5000");
        for (String wrong : List.of("interval.ms=1", "match=[colour=red]", "no.such.config=1")) {
            refused(metrics, wrong);
        }
        unset(metrics, "interval.ms,metrics,match");
        is(metrics, "match", null);

        // What a broker says of itself wins over what all of them say, and that over the default.
        String name = "log.cleaner.threads";
        set(brokers, name + "=3");
        is(brokers, name, "3");
        set(broker, name + "=2");
        is(broker, name, "2");
        String told = described(broker, "--all").get(name);
        Tools.contains(told, "synonyms={DYNAMIC_BROKER_CONFIG:" + name + "=2, DYNAMIC_DEFAULT_BROKER_CONFIG:" + name
            + "=3, DEFAULT_CONFIG:" + name + "=1}");
        unset(broker, name);
        unset(brokers, name);
        is(brokers, name, null);
        for (String wrong : List.of("num.io.threads=0", "message.max.bytes=many", "num.partitions=5")) {
            refused(broker, wrong);
        }
        Tools.check(described(broker, "--all").size() > 150, "all of a broker");
        return null;
    }

    // ---- offsets

    private static Object offsets() throws Exception {
        Tools.tool(Tools.TOPICS, "--create", "--topic", Tools.topic, "--partitions", "3");
        Tools.await("the topic is listed", Tools::topicListed);
        String topic = Tools.topic;
        for (int i = 0; i < 3; i++) {
            Tools.produce(topic, Tools.lines(Tools.numbered(30)));
        }
        record Asked(String[] words, String pattern, int lines) { }
        for (Asked asked : List.of(
                new Asked(new String[] {"--topic", topic}, "\\d+", 3),
                new Asked(new String[] {"--topic", topic, "--partitions", "0,2"}, "\\d+", 2),
                new Asked(new String[] {"--topic-partitions", topic + ":1-3"}, "\\d+", 2),
                new Asked(new String[] {"--topic-partitions", topic + ":1,.*x-none:0"}, "\\d+", 1),
                new Asked(new String[] {"--topic", topic, "--exclude-internal-topics"}, "\\d+", 3),
                new Asked(new String[] {"--topic", topic, "--time", "-2"}, "0", 3),
                new Asked(new String[] {"--topic", topic, "--time", "earliest-local"}, "0", 3),
                new Asked(new String[] {"--topic", topic, "--time", "-4"}, "0", 3))) {
            List<String> printed = Tools.tool(Tools.OFFSETS, asked.words).lines().toList();
            Tools.check(printed.size() == asked.lines, "%s: %s", List.of(asked.words), printed);
            for (String line : printed) {
                Tools.check(line.matches(Pattern.quote(topic) + ":[0-2]:" + asked.pattern), line);
            }
        }
        long all = Tools.tool(Tools.OFFSETS, "--topic", topic).lines()
            .mapToLong(line -> Long.parseLong(line.substring(line.lastIndexOf(':') + 1))).sum();
        Tools.check(all == 90, "%d records", all);
        Tools.check(Tools.attemptTool(Tools.OFFSETS, "--topic", topic + "-none").code() == 1, "offsets of no topic");
        return null;
    }

    private static void reset(String expected, String... how) throws Exception {
        String[] group = {"--group", Tools.topic, "--reset-offsets"};
        String printed = Tools.tool(Tools.GROUPS, Tools.with(Tools.with(group, how), "--execute"));
        Pattern row = Pattern.compile(Pattern.quote(Tools.topic) + "\\s+0\\s+" + expected + "\\s");
        Tools.check(row.matcher(printed).find(), "%s: %s", List.of(how), printed);
    }

    private static Object resetOffsets() throws Exception {
        Tools.create();
        Tools.produce(Tools.topic, Tools.lines(Tools.numbered(100)));
        String[] topic = {"--topic", Tools.topic};
        reset("0", Tools.with(topic, "--to-earliest"));
        reset("100", Tools.with(topic, "--to-latest"));
        reset("60", Tools.with(topic, "--to-offset", "60"));
        reset("60", Tools.with(topic, "--to-current"));
        reset("50", Tools.with(topic, "--shift-by", "-10"));
        // Beyond either end, it is that end.
        reset("100", Tools.with(topic, "--shift-by", "1000"));
        reset("0", Tools.with(topic, "--to-offset", "-5"));
        reset("0", Tools.with(topic, "--to-datetime", "2013-01-01T00:00:00.000"));
        reset("0", Tools.with(topic, "--by-duration", "P1D"));
        reset("100", Tools.with(topic, "--by-duration", "PT0S"));
        reset("70", "--topic", Tools.topic + ":0", "--to-offset", "70");
        reset("0", "--all-topics", "--to-earliest");
        String[] group = {"--group", Tools.topic, "--reset-offsets"};
        String planned = Tools.tool(Tools.GROUPS, Tools.with(group, "--all-topics", "--to-offset", "33", "--dry-run"));
        Tools.contains(planned, "33");
        String plan = Tools.tool(Tools.GROUPS, Tools.with(group, "--all-topics", "--to-offset", "44", "--dry-run", "--export"));
        Tools.contains(plan, Tools.topic + "\",0,44");
        Path file = Files.createTempFile("offsets", ".csv");
        Files.writeString(file, plan);
        reset("44", "--from-file", file.toString());
        Files.delete(file);
        String printed = Tools.tool(Tools.GROUPS, "--delete-offsets", "--group", Tools.topic, "--topic", Tools.topic + ":0");
        Tools.contains(printed, "Successful");
        String none = Tools.refused(Tools.GROUPS, "--describe", "--group", Tools.topic).text();
        Tools.check(!Pattern.compile(Pattern.quote(Tools.topic) + "\\s+0\\s+44").matcher(none).find(), none);
        return null;
    }

    /** A Streams application that has read everything is to begin again. */
    private static Object streamsReset() throws Exception {
        Tools.create();
        Tools.produce(Tools.topic, Tools.lines(Tools.numbered(20)));
        String application = Tools.topic + "-app";
        String internal = application + "-store-changelog";
        Tools.tool(Tools.TOPICS, "--create", "--topic", internal, "--partitions", "1");
        Tools.consume(Tools.topic, 20, "--group", application, "--from-beginning");
        String[] what = {"--application-id", application, "--input-topics", Tools.topic};
        String planned = Tools.tool(RESETTER, Tools.with(what, "--dry-run"));
        Tools.contains(planned, internal);
        Tools.check(Tools.tool(Tools.TOPICS, "--list").contains(internal), "a dry run has deleted it");
        Tools.tool(RESETTER, what);
        Tools.await("the internal topic is gone", () -> !Tools.tool(Tools.TOPICS, "--list").contains(internal));
        var again = Tools.consume(Tools.topic, 20, "--group", application);
        Tools.check(again.get(0).offset() == 0, "offset %d", again.get(0).offset());
        return null;
    }

    // ---- the broker

    private static Object broker() throws Exception {
        String versions = Tools.tool(API_VERSIONS);
        Tools.contains(versions, "(id: 1 rack: null");
        Tools.contains(versions, "Produce(0): 0 to 13 [usable: 13]");
        Tools.Ran id = Tools.run(CLUSTER, "", "cluster-id", "--bootstrap-server", Tools.bootstrap);
        Tools.check(id.code() == 0 && id.text().matches("(?s)Cluster ID: [\\w-]{22}\\s*"), "%d: %s", id.code(), id.text());
        Tools.Ran listed = Tools.run(CLUSTER, "", "list-endpoints", "--bootstrap-server", Tools.bootstrap);
        Tools.check(listed.code() == 0, "exit %d: %s", listed.code(), listed.text());
        Tools.contains(listed.text(), "127.0.0.1");
        Tools.create();
        Tools.produce(Tools.topic, Tools.lines(Tools.numbered(100)));
        replicas();
        return null;
    }

    private static Process start(String program, String... words) throws Exception {
        String[] java = {"java", "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"),
            "org.apache.kafka.tools." + program};
        return new ProcessBuilder(Tools.with(java, words)).redirectErrorStream(true).start();
    }

    /** What a program prints that does its last part when its process ends. */
    private static String ownProcess(String program, String... words) throws Exception {
        Process process = start(program, words);
        try (var lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            String printed = lines.lines().collect(Collectors.joining("\n"));
            int code = process.waitFor();
            Tools.check(code == 0, "exit %d: %s", code, printed);
            return printed;
        }
    }

    /** kafka-replica-verification goes on until it is ended. */
    private static void replicas() throws Exception {
        Process process = start("ReplicaVerificationTool", "--broker-list", Tools.bootstrap, "--time", "-2",
            "--topics-include", Pattern.quote(Tools.topic), "--report-interval-ms", "200");
        var end = new Thread(() -> {
            try {
                process.waitFor(Tools.SECONDS, TimeUnit.SECONDS);
            } catch (InterruptedException enough) {
                // It has said what it was to say.
            }
            process.destroyForcibly();
        });
        end.start();
        List<String> printed = new ArrayList<>();
        try (var lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            String line = lines.readLine();
            while (line != null && !line.contains("max lag is 0 for partition " + Tools.topic + "-0 at offset 100")) {
                printed.add(line);
                line = lines.readLine();
            }
            Tools.check(line != null, "%s", printed);
        } finally {
            end.interrupt();
            end.join();
        }
    }

    // ---- Kafka's own test programs

    /** The lines of JSON that a program printed under this name. */
    private static List<JsonNode> events(String printed, String name) throws Exception {
        List<JsonNode> found = new ArrayList<>();
        for (String line : printed.lines().filter(line -> line.startsWith("{")).toList()) {
            JsonNode event = JSON.readTree(line);
            if (event.path("name").asText().equals(name)) {
                found.add(event);
            }
        }
        return found;
    }

    private static Object verifiable() throws Exception {
        Tools.tool(Tools.TOPICS, "--create", "--topic", Tools.topic, "--partitions", "3");
        Tools.await("the topic is listed", Tools::topicListed);
        for (String acks : List.of("-1", "1")) {
            String printed = ownProcess("VerifiableProducer", "--bootstrap-server", Tools.bootstrap, "--topic", Tools.topic,
                "--max-messages", "300", "--acks", acks);
            Tools.check(events(printed, "producer_send_success").size() == 300, printed);
            Tools.check(events(printed, "producer_send_error").isEmpty(), printed);
        }
        for (String protocol : List.of("classic", "consumer")) {
            String printed = Tools.tool(VERIFIABLE_CONSUMER, "--topic", Tools.topic, "--group-id", Tools.topic + protocol,
                "--group-protocol", protocol, "--max-messages", "600", "--reset-policy", "earliest", "--verbose");
            Tools.check(events(printed, "partitions_assigned").size() > 0, printed);
            Tools.check(events(printed, "record_data").size() == 600, "%s: %.2000s", protocol, printed);
            var commits = events(printed, "offsets_committed");
            Tools.check(!commits.isEmpty() && commits.stream().allMatch(one -> one.get("success").asBoolean()), "%s", commits);
            String told = Tools.tool(Tools.GROUPS, "--describe", "--group", Tools.topic + protocol, "--offsets");
            long lag = told.lines().map(line -> line.trim().split("\\s+")).filter(row -> row.length > 5 && row[0].startsWith(Tools.topic))
                .mapToLong(row -> Long.parseLong(row[5])).sum();
            Tools.check(lag == 0, told);
        }
        return null;
    }

    /** Copies in transactions, with offsets in them and some aborted at random. */
    private static Object copier() throws Exception {
        Tools.create();
        String copy = Tools.topic + "-copy";
        Tools.tool(Tools.TOPICS, "--create", "--topic", copy, "--partitions", "1");
        Tools.produce(Tools.topic, Tools.lines(Tools.numbered(300)));
        for (String[] more : new String[][] {{"--group-mode", "--use-group-metadata"}, {}}) {
            Tools.run(COPIER, "", Tools.with(new String[] {"--input-topic", Tools.topic, "--input-partition", "0",
                "--output-topic", copy, "--broker-list", Tools.bootstrap, "--transactional-id", copy, "--consumer-group",
                copy + more.length, "--transaction-size", "50", "--enable-random-aborts"}, more));
        }
        var expected = new ArrayList<>(Tools.numbered(300));
        expected.addAll(Tools.numbered(300));
        var copied = Tools.consume(copy, 600, "--partition", "0", "--offset", "earliest", "--isolation-level", "read_committed");
        Tools.equal(copied, expected);
        return null;
    }

    private static Object testPrograms() throws Exception {
        Tools.create();
        Tools.Ran latency = Tools.run(LATENCY, "", Tools.bootstrap, Tools.topic, "200", "all", "100");
        Tools.check(latency.code() == 0 && latency.text().contains("Avg latency"), "exit %d: %s", latency.code(), latency.text());
        Tools.tool(CONSUMER_PERFORMANCE, "--topic", Tools.topic, "--num-records", "200");
        boolean acls = !Tools.tool(API_VERSIONS).contains("DescribeAcls(29): UNSUPPORTED");
        // What the program makes has a name of its own.
        String[] made = {"--delete", "--if-exists", "--topic", "newtopic"};
        Tools.tool(Tools.TOPICS, made);
        Tools.Ran compatible = Tools.run(COMPATIBILITY, "", "--bootstrap-server", Tools.bootstrap, "--topic", Tools.topic + "-c",
            "--offsets-for-times-supported", "true", "--cluster-id-supported", "true", "--expect-record-too-large-exception",
            "false", "--num-cluster-nodes", "1", "--create-topics-supported", "true", "--describe-acls-supported", "" + acls,
            "--describe-configs-supported", "true", "--idempotent-producer-supported", "true");
        Tools.check(compatible.code() == 0, "exit %d: %s", compatible.code(), compatible.text());
        Tools.tool(Tools.TOPICS, made);
        Tools.tool(COMPACTION, "--messages", "2000", "--duplicates", "4", "--percent-deletes", "10", "--compression-type", "lz4");
        return null;
    }
}
