// Sends the golden records with the Java client, and writes what only brokers make: batches under
// append time, transaction markers, a leader change.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.LeaderChangeMessage;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Peer {
    static byte[] bytes(String word) {
        if (word.equals("-")) return null;
        if (word.startsWith("'"))
            return word.substring(1, word.length() - 1).getBytes(StandardCharsets.UTF_8);
        String[] parts = word.split("\\*0\\.\\.");
        byte[] out = new byte[Integer.parseInt(parts[0])];
        for (int i = 0; i < out.length; i++) out[i] = (byte) (i % Integer.parseInt(parts[1]));
        return out;
    }

    static List<ProducerRecord<byte[], byte[]>> records(Path tables, String codec)
            throws Exception {
        List<String> lines = new ArrayList<>(Files.readAllLines(tables.resolve("records.txt")));
        if (!codec.equals("none")) lines.addAll(Files.readAllLines(tables.resolve("large.txt")));
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (String line : lines) {
            if (line.startsWith("#")) continue;
            String[] words = line.split(" ");
            var record = new ProducerRecord<>("java-" + codec, 0, Long.valueOf(words[0]),
                    bytes(words[1]), bytes(words[2]));
            for (int i = 3; i < words.length; i++) {
                String[] header = words[i].split("=", 2);
                record.headers().add(new RecordHeader(header[0], bytes(header[1])));
            }
            records.add(record);
        }
        return records;
    }

    static void write(Path out, String name, MemoryRecords records) throws Exception {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        Files.write(out.resolve(name), bytes);
    }

    public static void main(String[] args) throws Exception {
        Path tables = Path.of(args[0]), out = Path.of(args[1]);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            Map<String, Object> config = Map.of("bootstrap.servers", System.getenv("BOOTSTRAP"),
                    "compression.type", codec, "linger.ms", 1000, "batch.size", 1 << 20);
            var bytes = new ByteArraySerializer();
            try (var producer = new KafkaProducer<>(config, bytes, bytes)) {
                records(tables, codec).forEach(producer::send);
            }
        }
        SimpleRecord[] plain = records(tables, "none").stream()
                .map(r -> new SimpleRecord(r.timestamp(), r.key(), r.value(), r.headers().toArray()))
                .toArray(SimpleRecord[]::new);
        write(out, "kafka-append-time.bin", MemoryRecords.withRecords((byte) 2, 5_000L,
                Compression.NONE, TimestampType.LOG_APPEND_TIME, plain));
        write(out, "kafka-transactional.bin", MemoryRecords.withRecords((byte) 2, 7_000L,
                Compression.NONE, TimestampType.CREATE_TIME, 4_000L, (short) 3, 2147483645, 9, true,
                plain));
        write(out, "kafka-commit.bin", MemoryRecords.withEndTransactionMarker(8_000L,
                1_700_000_000_000L, 9, 4_000L, (short) 3,
                new EndTransactionMarker(ControlRecordType.COMMIT, 11)));
        write(out, "kafka-abort.bin", MemoryRecords.withEndTransactionMarker(8_001L,
                1_700_000_000_001L, 9, 4_001L, (short) 3,
                new EndTransactionMarker(ControlRecordType.ABORT, 12)));
        var leaders = new LeaderChangeMessage().setVersion((short) 1).setLeaderId(77).setVoters(
                List.of(new LeaderChangeMessage.Voter().setVoterId(77)));
        write(out, "kafka-leader-change.bin", MemoryRecords.withLeaderChangeMessage(9_000L,
                1_700_000_000_002L, 9, ByteBuffer.allocate(1024), leaders));
    }
}
