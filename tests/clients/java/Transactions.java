import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The scenarios of transactions. */
final class Transactions {
    private Transactions() { }

    /** A producer that has taken the id: what was open with it has been aborted. */
    private static final class Transactional implements AutoCloseable {
        private final KafkaProducer<byte[], byte[]> producer;

        Transactional(String id, int seconds) {
            var bytes = new ByteArraySerializer();
            producer = new KafkaProducer<>(Client.properties("transactional.id", id, "linger.ms", "5",
                "transaction.timeout.ms", "" + seconds * 1000, "max.block.ms", "30000"), bytes, bytes);
            producer.initTransactions();
        }

        void begin() {
            producer.beginTransaction();
        }

        /** Begins a transaction and sends records. */
        void open(String topic, List<Rec> records) throws Exception {
            producer.beginTransaction();
            send(topic, records);
        }

        void send(String topic, List<Rec> records) throws Exception {
            List<Future<?>> sent = new ArrayList<>();
            records.forEach(r -> sent.add(producer.send(
                new ProducerRecord<>(topic, r.partition, null, Client.bytes(r.value)))));
            producer.flush();
            for (var future : sent) {
                future.get(Client.SECONDS, TimeUnit.SECONDS);
            }
        }

        void commit() {
            producer.commitTransaction();
        }

        void abort() {
            producer.abortTransaction();
        }

        @Override
        public void close() {
            producer.close(Duration.ofSeconds(5));
        }
    }

    private record Rec(int partition, String value) { }

    /** Records for every partition; the word and a number are their values. */
    private static List<Rec> onEach(String word, int count) {
        return IntStream.range(0, count * Client.PARTITIONS).mapToObj(
            i -> new Rec(i % Client.PARTITIONS, word + i / Client.PARTITIONS)).toList();
    }

    private static void plain(String topic, List<Rec> records) throws Exception {
        Client.produce(topic, records.stream().map(
            r -> new Client.Rec(null, Client.bytes(r.value), List.of(), null, r.partition)).toList());
    }

    /** Partition to the values in it, each to the end that the isolation level shows. */
    private static Map<Integer, List<String>> values(String topic, String isolation) throws Exception {
        Map<Integer, List<String>> found = new TreeMap<>();
        try (var consumer = Client.consumer("isolation.level", isolation, "enable.auto.commit", "false")) {
            var places = IntStream.range(0, Client.PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).toList();
            places.forEach(place -> found.put(place.partition(), new ArrayList<>()));
            consumer.assign(places);
            var ends = consumer.endOffsets(places);
            Client.await("reading up to " + ends, () -> {
                for (var r : consumer.poll(Duration.ofMillis(100))) {
                    found.get(r.partition()).add(new String(r.value()));
                }
                return places.stream().allMatch(place -> consumer.position(place) >= ends.get(place));
            });
        }
        return found;
    }

    /** Each partition shows these values and no others. */
    private static void sees(String topic, String isolation, List<String> expected) throws Exception {
        for (var its : values(topic, isolation).entrySet()) {
            Client.check(its.getValue().equals(expected), "%s: %s instead of %s", isolation, its, expected);
        }
    }

    private static void seesCommitted(String topic, String... expected) throws Exception {
        sees(topic, "read_committed", List.of(expected));
    }

    private static void seesAll(String topic, String... expected) throws Exception {
        sees(topic, "read_uncommitted", List.of(expected));
    }

    static Object transactions() throws Exception {
        String topic = Client.topic;
        plain(topic, onEach("plain", 1));
        List<String> kept = new ArrayList<>(List.of("plain0", "kept0", "kept1", "later0"));
        try (var producer = new Transactional(topic, 60)) {
            producer.open(topic, onEach("kept", 2));
            producer.commit();
            producer.open(topic, onEach("open", 3));
            plain(topic, onEach("later", 1));
            seesCommitted(topic, "plain0", "kept0", "kept1");
            seesAll(topic, "plain0", "kept0", "kept1", "open0", "open1", "open2", "later0");
            producer.abort();
            sees(topic, "read_committed", kept);
            seesAll(topic, "plain0", "kept0", "kept1", "open0", "open1", "open2", "later0");
            for (int n = 0; n < 20; n++) {
                producer.open(topic, onEach("row" + n + "-", 1));
                if (n % 3 == 1) {
                    producer.abort();
                } else {
                    producer.commit();
                    kept.add("row" + n + "-0");
                }
            }
        }
        sees(topic, "read_committed", kept);
        // 27 records, and a marker for each of 22 transactions.
        var ends = Client.offsets(topic, OffsetSpec.latest());
        Client.check(ends.values().stream().allMatch(end -> end == 49), "%s", ends);
        long epochs = epoch(topic);
        Client.check(epochs >= 20, "epoch %d after 22 transactions: not the second protocol (KIP-890)", epochs);
        return Map.of("epoch", epochs);
    }

    /** The producer's epoch: in the second protocol each transaction has one of its own. */
    private static long epoch(String id) throws Exception {
        return Client.admin.describeTransactions(List.of(id)).all().get().get(id).producerEpoch();
    }

    static Object fencing() throws Exception {
        String topic = Client.topic;
        plain(topic, onEach("plain", 1));
        var old = new Transactional(topic, 60);
        old.open(topic, onEach("lost", 1));
        try (var fresh = new Transactional(topic, 60)) {
            plain(topic, onEach("later", 1));
            seesCommitted(topic, "plain0", "later0");
            try {
                old.commit();
                Client.check(false, "a fenced producer has committed");
            } catch (ProducerFencedException expected) {
                // As it should be.
            }
            old.close();
            fresh.open(topic, onEach("new", 1));
            fresh.commit();
        }
        seesCommitted(topic, "plain0", "later0", "new0");
        seesAll(topic, "plain0", "lost0", "later0", "new0");
        return null;
    }

    static Object offsets() throws Exception {
        String source = Client.topic;
        String sink = source + "-sink";
        plain(source, onEach("in", 100));
        int total = 100 * Client.PARTITIONS;
        int rounds = 0;
        int counted = 0;
        try (var producer = new Transactional(source, 60)) {
            while (counted < total) {
                // Whoever joins goes on from what is committed. A member leaves when its transaction was aborted, and
                // once after a commit: what it has read and not counted comes again.
                try (var member = Client.consumer("group.id", source, "isolation.level", "read_committed",
                        "enable.auto.commit", "false", "max.poll.records", "30")) {
                    member.subscribe(List.of(source));
                    boolean left = false;
                    while (counted < total && !left) {
                        List<ConsumerRecord<byte[], byte[]>> some = new ArrayList<>();
                        Client.await("records", () -> {
                            member.poll(Duration.ofMillis(100)).forEach(some::add);
                            return !some.isEmpty();
                        });
                        producer.begin();
                        producer.send(sink, some.stream().map(
                            r -> new Rec(r.partition(), new String(r.value()))).toList());
                        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
                        some.forEach(r -> next.put(new TopicPartition(source, r.partition()),
                            new OffsetAndMetadata(r.offset() + 1)));
                        producer.producer.sendOffsetsToTransaction(next, member.groupMetadata());
                        rounds++;
                        left = List.of(1, 3, 4, 7).contains(rounds);
                        if (left && rounds != 3) {
                            producer.abort();
                        } else {
                            producer.commit();
                            counted += some.size();
                        }
                    }
                }
            }
        }
        var committed = Client.committed(source);
        Client.check(committed.equals(Map.of(0, 100L, 1, 100L, 2, 100L, 3, 100L)), "%s", committed);
        sees(sink, "read_committed", IntStream.range(0, 100).mapToObj(i -> "in" + i).toList());
        int all = values(sink, "read_uncommitted").values().stream().mapToInt(List::size).sum();
        Client.check(all > total, "nothing was aborted");
        return Map.of("transactions", rounds);
    }

    static Object timeout() throws Exception {
        String topic = Client.topic;
        plain(topic, onEach("plain", 1));
        var abandoned = new Transactional(topic, 2);
        abandoned.open(topic, onEach("lost", 1));
        plain(topic, onEach("later", 1));
        Client.await("readers go on", () ->
            values(topic, "read_committed").values().stream().allMatch(its -> its.size() > 1));
        seesCommitted(topic, "plain0", "later0");
        seesAll(topic, "plain0", "lost0", "later0");
        boolean refused = false;
        try {
            abandoned.commit();
        } catch (RuntimeException error) {
            System.err.println("the commit of a transaction that has timed out: " + error);
            refused = true;
        }
        Client.check(refused, "a transaction that had timed out was committed");
        seesCommitted(topic, "plain0", "later0");
        return null;
    }
}
