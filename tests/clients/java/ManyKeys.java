import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.BitSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A long history of many keys, written by one client while another reads it from the beginning again and again.
 *
 * <p>usage: {@code java -cp 'lib/*' ManyKeys.java BOOTSTRAP KEYS FACTOR}. A line with "written" says that all is
 * acknowledged. What is on standard input then, one line each, has the topic read once more and compared with
 * what was written; the answer is a line: the number of records, or what is wrong.
 *
 * <p>Record {@code n} has a key and is a tombstone or not by {@code n} alone, and its value is {@code n}: whoever
 * reads a record knows whether it is one that was written. By one producer without transactions into one
 * partition, its offset is {@code n}, too.
 */
public final class ManyKeys {
    private static final String TOPIC = "history";
    private static final TopicPartition ALL = new TopicPartition(TOPIC, 0);

    private final String bootstrap;
    private final int keys;
    private final long records;
    /** By key: the last record that was sent with it. */
    private final long[] newest;
    private final AtomicReference<String> wrong = new AtomicReference<>();
    private final AtomicLong acknowledged = new AtomicLong();

    private ManyKeys(String bootstrap, int keys, long factor) {
        this.bootstrap = bootstrap;
        this.keys = keys;
        this.records = keys * factor;
        this.newest = new long[keys];
    }

    public static void main(String[] args) throws Exception {
        var history = new ManyKeys(args[0], Integer.parseInt(args[1]), Long.parseLong(args[2]));
        try (var admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            var topic = new NewTopic(TOPIC, 1, (short) 1).configs(Map.of("cleanup.policy", "compact",
                "min.cleanable.dirty.ratio", "0.3", "delete.retention.ms", "1000"));
            admin.createTopics(List.of(topic)).all().get();
        }
        var reader = new Thread(history::readAgainAndAgain);
        reader.setDaemon(true);
        reader.start();
        history.write();
        reader.interrupt();
        reader.join();
        history.say("written " + history.records + " records, read " + history.rounds + " times meanwhile");
        for (var line : (Iterable<String>) new java.io.BufferedReader(new java.io.InputStreamReader(System.in)).lines()::iterator) {
            history.say(history.compare());
        }
    }

    private void say(String line) {
        System.out.println(wrong.get() == null ? line : "wrong: " + wrong.get());
    }

    /** SplitMix64's mixing: any will do. */
    private static long mix(long n) {
        n += 0x9E3779B97F4A7C15L;
        n = (n ^ (n >>> 30)) * 0xBF58476D1CE4E5B9L;
        n = (n ^ (n >>> 27)) * 0x94D049BB133111EBL;
        return n ^ (n >>> 31);
    }

    /** All keys come first in turn, then at random. */
    private int key(long n) {
        return n < keys ? (int) n : (int) Long.remainderUnsigned(mix(n), keys);
    }

    private static boolean isTombstone(long n) {
        return Long.remainderUnsigned(mix(~n), 50) == 0;
    }

    private void write() throws Exception {
        var properties = new Properties();
        properties.putAll(Map.of("bootstrap.servers", bootstrap, "acks", "all", "linger.ms", "5",
            "batch.size", "65536", "buffer.memory", "16777216"));
        var bytes = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(properties, bytes, bytes)) {
            for (long n = 0; n < records && wrong.get() == null; n++) {
                byte[] value = isTombstone(n) ? null : ByteBuffer.allocate(8).putLong(n).array();
                int key = key(n);
                newest[key] = n;
                long expected = n;
                producer.send(new ProducerRecord<>(TOPIC, 0, ByteBuffer.allocate(4).putInt(key).array(), value),
                    (metadata, failure) -> {
                        if (failure != null) {
                            fail("record " + expected + ": " + failure);
                        } else if (metadata.offset() != expected) {
                            fail("record " + expected + " is at " + metadata.offset());
                        } else {
                            acknowledged.setPlain(expected + 1);
                        }
                    });
            }
        }
        if (acknowledged.get() != records) {
            fail("only " + acknowledged.get() + " of " + records + " records were acknowledged");
        }
    }

    private void fail(String what) {
        wrong.compareAndSet(null, what);
    }

    private volatile long rounds;

    private void readAgainAndAgain() {
        try {
            while (!Thread.interrupted()) {
                read(null);
                rounds++;
            }
        } catch (org.apache.kafka.common.errors.InterruptException over) {
            // All is written.
        } catch (RuntimeException failure) {
            fail("reading: " + failure);
        }
    }

    /** Reads from the beginning to where the end is at first; how many records there are. */
    private long read(BitSet found) {
        var properties = Map.<String, Object>of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false", "max.poll.records", "20000");
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(properties, bytes, bytes)) {
            consumer.assign(List.of(ALL));
            consumer.seekToBeginning(List.of(ALL));
            long end = consumer.endOffsets(List.of(ALL)).get(ALL);
            long next = 0;
            long count = 0;
            while (consumer.position(ALL) < end) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    if (record.offset() < next) {
                        fail("offset " + record.offset() + " comes after " + (next - 1));
                    }
                    next = record.offset() + 1;
                    count++;
                    check(record, found);
                }
                if (wrong.get() != null) {
                    break;
                }
            }
            return count;
        }
    }

    private void check(ConsumerRecord<byte[], byte[]> record, BitSet found) {
        long n = record.offset();
        int key = ByteBuffer.wrap(record.key()).getInt();
        boolean isSame = record.value() == null ? isTombstone(n)
            : !isTombstone(n) && ByteBuffer.wrap(record.value()).getLong() == n;
        if (key != key(n) || !isSame) {
            fail("offset " + n + " is another record: key " + key);
        }
        if (found != null && newest[key] == n) {
            found.set(key);
        }
    }

    /** Whether of each key the newest record is there; only a tombstone may be gone. */
    private String compare() {
        var found = new BitSet(keys);
        long count = read(found);
        for (int key = 0; key < keys; key++) {
            if (!found.get(key) && !isTombstone(newest[key])) {
                fail("key " + key + " has lost its newest record, " + newest[key]);
            }
        }
        return "found " + count;
    }
}
