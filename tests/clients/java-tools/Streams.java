import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/** A word count in the streams protocol, and kafka-streams-groups on it. */
final class Streams {
    private static final Tools.Main GROUPS = org.apache.kafka.tools.streams.StreamsGroupCommand::main;
    private static final int PARTITIONS = 2;
    private static final int WORDS = 100;

    private final String group = Tools.topic;
    private final List<KafkaStreams> instances = new ArrayList<>();
    private final Path folder;

    private Streams() throws IOException {
        folder = Files.createTempDirectory("streams");
    }

    static Object tool() throws Exception {
        Streams streams = new Streams();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", Tools.bootstrap))) {
            streams.scenario(admin);
        } finally {
            streams.instances.forEach(instance -> instance.close(Duration.ofSeconds(10)));
            try (var files = Files.walk(streams.folder)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
        return null;
    }

    private void scenario(Admin admin) throws Exception {
        admin.createTopics(List.of(new NewTopic(Tools.topic, PARTITIONS, (short) 1))).all().get();
        var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("streams.num.standby.replicas", "1"), AlterConfigOp.OpType.SET)))).all().get();
        produce();
        KafkaStreams first = start();
        Tools.await("all words are counted", () -> counted(first) == WORDS);
        KafkaStreams second = start();
        Tools.await("both instances have tasks", () -> counted(first) > 0 && counted(second) > 0);
        Tools.await("both have standbys", () -> {
            String members = describe("--members", "--verbose");
            return members.lines().filter(line -> line.contains(" STANDBY: ")).count() == 2;
        });
        Tools.check(counted(first) + counted(second) == WORDS, "counted twice, or not at all");
        lists(admin);
        Tools.contains(Tools.command(GROUPS, "--delete", "--group", group).text(), "could not be deleted");

        // The standby takes over: it has all counts already.
        first.close(Duration.ofSeconds(20));
        Tools.await("one instance has everything", () -> counted(second) == WORDS);
        produce();
        Tools.await("it goes on counting", () -> counted(second) == 2 * WORDS);
        second.close(Duration.ofSeconds(20));
        Tools.await("the group is empty", () -> describe("--state").contains("Empty"));
        String moved = Tools.tool(GROUPS, "--group", group, "--all-input-topics", "--reset-offsets", "--to-offset", "10", "--execute");
        for (int partition = 0; partition < PARTITIONS; partition++) {
            Tools.check(moved.matches("(?s).*\\s" + Tools.topic + "\\s+" + partition + "\\s+10\\s.*"), "not moved: %s", moved);
        }
        String deleted = Tools.tool(GROUPS, "--group", group, "--input-topic", Tools.topic, "--delete-offsets");
        Tools.contains(deleted, "Successful");
        Tools.contains(Tools.tool(GROUPS, "--delete", "--group", group, "--delete-all-internal-topics"), "was successful");
        Tools.check(Tools.tool(GROUPS, "--list").lines().noneMatch(group::equals), "the group is still listed");
        Tools.await("its topics are gone", () -> admin.listTopics().names().get().stream()
            .noneMatch(name -> name.startsWith(group + "-")));
    }

    private void lists(Admin admin) throws Exception {
        for (String[] flags : new String[][] {{"--list"}, {"--list", "--state"}, {"--list", "--state", "Stable"}}) {
            Tools.check(Tools.tool(GROUPS, flags).lines().anyMatch(line -> line.startsWith(group)), "not listed by %s", List.of(flags));
        }
        Tools.contains(Tools.tool(Tools.ALL_GROUPS, "--list", "--group-type", "streams"), group);
        Tools.contains(Tools.tool(Tools.ALL_GROUPS, "--list", "--streams"), group);
        Tools.check(!Tools.tool(Tools.ALL_GROUPS, "--list", "--group-type", "consumer").contains(group), "listed as a consumer group");
        Tools.contains(describe("--state", "--verbose"), "Stable");
        Tools.contains(describe("--offsets", "--verbose"), group + "-words-repartition");
        Tools.contains(describe(), Tools.topic);
        var described = admin.describeStreamsGroups(List.of(group)).all().get().get(group);
        Tools.check(described.members().size() == 2, "members: %s", described.members());
        var counting = described.subtopologies().stream().filter(part -> !part.stateChangelogTopics().isEmpty()).findFirst().get();
        Tools.check(counting.stateChangelogTopics().get(group + "-counts-changelog").partitions() == PARTITIONS, "%s", counting);
        var configs = admin.describeConfigs(List.of(new ConfigResource(ConfigResource.Type.TOPIC, group + "-counts-changelog")));
        String policy = configs.all().get().values().iterator().next().get("cleanup.policy").value();
        Tools.check(policy.equals("compact"), "the changelog is not compacted: %s", policy);
    }

    private String describe(String... flags) throws Exception {
        return Tools.tool(GROUPS, Tools.with(new String[] {"--describe", "--group", group}, flags));
    }

    /** Sends words to every partition. */
    private void produce() {
        var settings = Map.<String, Object>of("bootstrap.servers", Tools.bootstrap);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < WORDS; number++) {
                producer.send(new ProducerRecord<>(Tools.topic, number % PARTITIONS, null, "word-" + number % 20));
            }
        }
    }

    private KafkaStreams start() throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, Tools.bootstrap);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, folder.resolve("instance-" + instances.size()).toString());
        settings.put(StreamsConfig.GROUP_PROTOCOL_CONFIG, "streams");
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(Tools.topic)
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.as("words"))
            .count(Materialized.as("counts"));
        KafkaStreams instance = new KafkaStreams(builder.build(), settings);
        instances.add(instance);
        instance.start();
        Tools.await("the instance runs", () -> instance.state() == KafkaStreams.State.RUNNING);
        return instance;
    }

    /** How many words an instance has counted whose tasks it has. */
    private static long counted(KafkaStreams instance) {
        if (instance.state() != KafkaStreams.State.RUNNING) {
            return -1;
        }
        var store = instance.store(StoreQueryParameters.fromNameAndType("counts", QueryableStoreTypes.<String, Long>keyValueStore()));
        long sum = 0;
        try (var all = store.all()) {
            while (all.hasNext()) {
                sum += all.next().value;
            }
        } catch (org.apache.kafka.streams.errors.InvalidStateStoreException moving) {
            return -1;
        }
        return sum;
    }
}
