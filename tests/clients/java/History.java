import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.FileOutputStream;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The Java clients of a recorded history: what {@code kill/history_worker.py} is for librdkafka, several in one process.
 *
 * <pre>java -cp ... Client --name java --number 7 --bootstrap 127.0.0.1:9092 --seed 1 --log java.jsonl</pre>
 *
 * It ends on SIGTERM when what its clients are doing is done. It may be killed or stopped at any moment. The lines that
 * it writes are described in {@code crates/testkit/src/history/recorded.rs}.
 */
final class History {
    private static final List<String> TOPICS = List.of("alpha", "beta", "gamma");
    private static final int PARTITIONS = 4;
    private static final Duration PATIENCE = Duration.ofSeconds(120);
    private static final ObjectMapper JSON = new ObjectMapper();

    private static final Map<String, String> options = new HashMap<>();
    private static final AtomicLong values = new AtomicLong();
    private static FileOutputStream file;
    private static volatile boolean stopping;

    private History() { }

    static void record(String[] words) throws IOException {
        for (int i = 0; i < words.length; i += 2) {
            options.put(words[i].substring(2), words[i + 1]);
        }
        file = new FileOutputStream(options.get("log"), true);
        List<Worker> workers = List.of(new Transact(0), new Transact(1), new Member("read-consumer", "consumer"),
            new Member("read-classic", "classic"), new Plain(), new Read());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping = true;
            for (var worker : workers) {
                try {
                    worker.join(2 * PATIENCE.toMillis());
                } catch (InterruptedException error) {
                    return;
                }
            }
        }));
        workers.forEach(Thread::start);
    }

    private static Properties properties(Object... pairs) {
        Properties all = new Properties();
        all.put("bootstrap.servers", options.get("bootstrap"));
        all.put("reconnect.backoff.max.ms", "500");
        all.put("request.timeout.ms", "10000");
        for (int i = 0; i < pairs.length; i += 2) {
            all.put((String) pairs[i], "" + pairs[i + 1]);
        }
        return all;
    }

    /** Something that a client does, from beginning to end. */
    private static final class Operation {
        private final String client;
        private final long number;

        Operation(String client, long number, Object... kind) {
            this.client = client;
            this.number = number;
            note("begin", kind);
        }

        void note(String event, Object... fields) {
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("at", System.nanoTime());
            line.put("client", client);
            line.put("op", number);
            line.put("event", event);
            for (int i = 0; i < fields.length; i += 2) {
                line.put((String) fields[i], fields[i + 1]);
            }
            try {
                // One call writes a whole line, so that a kill leaves no half of one behind.
                file.write((JSON.writeValueAsString(line) + "\n").getBytes());
            } catch (IOException error) {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        }

        void end(String outcome, Object why) {
            note("end", "outcome", outcome, "why", why == null ? "" : "" + why);
        }
    }

    private static List<Object> place(TopicPartition place, Object... more) {
        List<Object> all = new ArrayList<>(List.of(place.topic(), place.partition()));
        all.addAll(List.of(more));
        return all;
    }

    /** A thread whose clients follow each other. */
    private abstract static class Worker extends Thread {
        final Random dice;
        private final String label;
        private int clients;
        private long operations;
        String client;

        Worker(String label) {
            this.label = label;
            dice = new Random((options.get("seed") + options.get("number") + label).hashCode());
        }

        abstract void session() throws Exception;

        @Override
        public void run() {
            while (!stopping) {
                client = options.get("name") + "-" + label + "." + options.get("number") + "." + ++clients;
                try {
                    session();
                } catch (InvalidOffsetException error) {
                    System.out.println("LOST: a position that was reached is not there any more: " + error);
                    Runtime.getRuntime().halt(1);
                } catch (KafkaException error) {
                    System.out.println(System.nanoTime() + " " + client + ": " + error);
                } catch (Throwable error) {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(1);
                }
            }
        }

        Operation begin(Object... kind) {
            return new Operation(client, ++operations, kind);
        }

        Operation plain() {
            return begin("kind", "plain");
        }

        TopicPartition somewhere() {
            return new TopicPartition(TOPICS.get(dice.nextInt(TOPICS.size())), dice.nextInt(PARTITIONS));
        }

        KafkaProducer<String, String> producer(Object... pairs) {
            Properties properties = properties(pairs);
            properties.put("linger.ms", "5");
            properties.put("max.block.ms", "" + PATIENCE.toMillis());
            return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        }

        /** Sends a new value to some partition, as part of an operation, which ends with it or not. */
        void send(KafkaProducer<String, String> producer, Operation operation, boolean ends) {
            TopicPartition to = somewhere();
            long value = Long.parseLong(options.get("number")) * 1_000_000_000L + values.incrementAndGet();
            operation.note("send", "to", place(to), "value", value);
            String padding = ".".repeat(List.of(0, 20, 200, 2_000).get(dice.nextInt(4)));
            var record = new ProducerRecord<String, String>(to.topic(), to.partition(), null, value + " " + padding);
            producer.send(record, (metadata, error) -> {
                if (error == null && metadata.hasOffset()) {
                    operation.note("sent", "value", value, "offset", metadata.offset());
                }
                if (ends) {
                    operation.end(error == null ? "ok" : "unknown", error);
                }
            });
        }
    }

    /** A consumer that writes down what it polls. */
    private static final class Poller implements ConsumerRebalanceListener, AutoCloseable {
        final KafkaConsumer<String, String> consumer;
        final Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        private final Worker worker;
        private final String group;
        private final boolean committed;
        private Operation operation;

        Poller(Worker worker, String group, String protocol, boolean committed) {
            this.worker = worker;
            this.group = group;
            this.committed = committed;
            Properties properties = properties("group.id", group, "group.protocol", protocol, "enable.auto.commit", false,
                "isolation.level", committed ? "read_committed" : "read_uncommitted", "max.poll.records", 100,
                "auto.offset.reset", group.equals("none") ? "none" : "earliest", "fetch.max.wait.ms", 200,
                "default.api.timeout.ms", 30_000);
            if (protocol.equals("classic")) {
                properties.put("session.timeout.ms", "6000");
                properties.put("heartbeat.interval.ms", "500");
            }
            consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
        }

        void moved() {
            Operation its = operation == null ? worker.plain() : operation;
            its.note("assign");
            if (its != operation) {
                its.end("ok", null);
            }
            next.clear();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> places) {
            moved();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> places) {
            moved();
        }

        void poll(Operation its, int millis) {
            operation = its;
            try {
                var records = consumer.poll(Duration.ofMillis(millis));
                List<Object> polled = new ArrayList<>();
                for (var record : records) {
                    var at = new TopicPartition(record.topic(), record.partition());
                    polled.add(place(at, record.offset(), Long.parseLong(record.value().split(" ", 2)[0])));
                    next.put(at, new OffsetAndMetadata(record.offset() + 1));
                }
                if (!polled.isEmpty()) {
                    its.note("polled", "committed", committed, "records", polled);
                }
            } finally {
                operation = null;
            }
        }

        /** Writes down which partitions it has in which epoch of its group. */
        void hold() {
            int epoch = consumer.groupMetadata().generationId();
            List<Object> places = new ArrayList<>();
            consumer.assignment().forEach(at -> places.add(place(at)));
            if (epoch > 0 && !places.isEmpty() && epoch == consumer.groupMetadata().generationId()) {
                Operation its = worker.plain();
                its.note("holds", "group", group, "epoch", epoch, "partitions", places);
                its.end("ok", null);
            }
        }

        void noteCommit(Operation its) {
            List<Object> offsets = new ArrayList<>();
            next.forEach((at, offset) -> offsets.add(place(at, offset.offset())));
            its.note("commit", "group", group, "offsets", offsets);
        }

        @Override
        public void close() {
            consumer.close(CloseOptions.timeout(Duration.ofSeconds(10)));
        }
    }

    /** Sends idempotently, many at a time. */
    private static final class Plain extends Worker {
        Plain() {
            super("plain");
        }

        @Override
        void session() throws Exception {
            int patience = dice.nextBoolean() ? 15_000 : 120_000;
            try (var producer = producer("delivery.timeout.ms", patience)) {
                for (int i = dice.nextInt(20, 400); i > 0 && !stopping; i--) {
                    for (int count = dice.nextInt(1, 6); count > 0; count--) {
                        send(producer, plain(), true);
                    }
                    Thread.sleep(dice.nextInt(40));
                }
            }
        }
    }

    /** Polls, sends and commits offsets in transactions of the second protocol. */
    private static final class Transact extends Worker {
        private final int number;

        Transact(int number) {
            super("transact-" + number);
            this.number = number;
        }

        @Override
        void session() {
            String id = options.get("name") + "-id-" + number;
            try (var producer = producer("transactional.id", id, "transaction.timeout.ms", 20_000);
                    var poller = new Poller(this, "work-consumer", "consumer", true)) {
                producer.initTransactions();
                poller.consumer.subscribe(TOPICS, poller);
                for (int i = dice.nextInt(5, 80); i > 0 && !stopping && transaction(producer, poller); i--) { }
            }
        }

        /** Whether to go on with the same clients. */
        private boolean transaction(KafkaProducer<String, String> producer, Poller poller) {
            Operation operation = begin("kind", "transaction", "protocol", 2);
            boolean asked = false;
            try {
                producer.beginTransaction();
                poller.next.clear();
                for (int i = dice.nextInt(1, 4); i > 0; i--) {
                    poller.poll(operation, dice.nextInt(300));
                    for (int count = dice.nextInt(5); count > 0; count--) {
                        send(producer, operation, false);
                    }
                }
                if (!poller.next.isEmpty() && dice.nextInt(10) > 0) {
                    poller.noteCommit(operation);
                    producer.sendOffsetsToTransaction(poller.next, poller.consumer.groupMetadata());
                }
                int how = dice.nextInt(100);
                if (how < 4) {
                    operation.end("failed", "left open");
                    return false;
                }
                if (how < 14) {
                    producer.abortTransaction();
                    operation.end("failed", "aborted");
                    return dice.nextBoolean();
                }
                operation.note("committing");
                asked = true;
                commit(producer);
                operation.end("ok", null);
                return true;
            } catch (KafkaException error) {
                operation.end(asked ? "unknown" : "failed", error);
                System.out.println(System.nanoTime() + " " + client + ": " + error);
                return false;
            }
        }

        /** Commits; what was not answered in time may be asked again. */
        private void commit(KafkaProducer<String, String> producer) {
            for (int tries = 2;; tries--) {
                try {
                    producer.commitTransaction();
                    return;
                } catch (TimeoutException | InterruptException error) {
                    if (tries == 0) {
                        throw error;
                    }
                }
            }
        }
    }

    /** Reads as a member of a group, commits, and leaves now and then. */
    private static final class Member extends Worker {
        private final String group;
        private final String protocol;

        Member(String group, String protocol) {
            super("member-" + protocol);
            this.group = group;
            this.protocol = protocol;
        }

        @Override
        void session() throws Exception {
            try (var poller = new Poller(this, group, protocol, true)) {
                poller.consumer.subscribe(TOPICS, poller);
                for (int i = dice.nextInt(10, 200); i > 0 && !stopping; i--) {
                    Operation operation = plain();
                    poller.poll(operation, 200);
                    operation.end("ok", null);
                    poller.hold();
                    if (dice.nextInt(10) == 0) {
                        // Work that takes its time: the group waits for partitions to be given up.
                        Thread.sleep(dice.nextInt(3_000));
                    }
                    if (!poller.next.isEmpty() && dice.nextBoolean()) {
                        commit(poller);
                    }
                }
            }
        }

        private void commit(Poller poller) {
            Operation operation = plain();
            poller.noteCommit(operation);
            try {
                poller.consumer.commitSync(new HashMap<>(poller.next));
                operation.end("ok", null);
            } catch (KafkaException error) {
                // One that was retried may be refused the second time: whether it counts, nobody can tell.
                operation.end("unknown", error);
            }
            poller.next.clear();
        }
    }

    /** Reads partitions that it chooses itself, from places that it chooses itself. */
    private static final class Read extends Worker {
        Read() {
            super("read");
        }

        @Override
        void session() {
            Map<TopicPartition, Long> reached = new HashMap<>();
            try (var poller = new Poller(this, "none", "classic", dice.nextBoolean())) {
                for (int times = dice.nextInt(3, 10); times > 0 && !stopping; times--) {
                    List<TopicPartition> places = new ArrayList<>();
                    for (int i = dice.nextInt(1, 8); i > 0; i--) {
                        places.add(somewhere());
                    }
                    poller.moved();
                    poller.consumer.assign(places.stream().distinct().toList());
                    places.forEach(at -> seek(poller, at, reached));
                    for (int i = dice.nextInt(2, 30); i > 0 && !stopping; i--) {
                        Operation operation = plain();
                        poller.poll(operation, 200);
                        operation.end("ok", null);
                        poller.next.forEach((at, offset) -> reached.merge(at, offset.offset(), Math::max));
                        if (dice.nextInt(10) == 0) {
                            poller.moved();
                            seek(poller, places.get(dice.nextInt(places.size())), reached);
                        }
                    }
                }
            }
        }

        private void seek(Poller poller, TopicPartition at, Map<TopicPartition, Long> reached) {
            long most = reached.getOrDefault(at, 0L);
            poller.consumer.seek(at, dice.nextBoolean() ? most : dice.nextLong(most + 1));
        }
    }
}
