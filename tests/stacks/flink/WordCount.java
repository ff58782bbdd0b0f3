import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Counts words of the topic {@code lines}. Every count that a word reaches goes to the topic {@code counts}, in the transactions
 * of the checkpoints.
 *
 * <p>usage: WordCount BOOTSTRAP CHECKPOINTS GUARANTEE NAMING; goes on from the newest checkpoint that is there.
 */
public final class WordCount {
    public static void main(String[] arguments) throws Exception {
        Path checkpoints = Path.of(arguments[1]);
        Configuration settings = new Configuration();
        settings.setString("execution.checkpointing.interval", "500 ms");
        settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        settings.setString("execution.checkpointing.storage", "filesystem");
        settings.setString("execution.checkpointing.dir", checkpoints.toUri().toString());
        settings.setString("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
        settings.setString("restart-strategy.type", "fixed-delay");
        settings.setString("restart-strategy.fixed-delay.attempts", "100");
        settings.setString("restart-strategy.fixed-delay.delay", "500 ms");
        newest(checkpoints).ifPresent(path ->
                settings.setString("execution.state-recovery.path", path.toUri().toString()));
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        environment.setParallelism(2);

        KafkaSource<String> lines = KafkaSource.<String>builder()
                .setBootstrapServers(arguments[0])
                .setTopics("lines")
                .setGroupId("word-count")
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setValueOnlyDeserializer(new SimpleStringSchema())
                .build();
        KafkaSink<Tuple2<String, Long>> counts = KafkaSink.<Tuple2<String, Long>>builder()
                .setBootstrapServers(arguments[0])
                .setDeliveryGuarantee(DeliveryGuarantee.valueOf(arguments[2].toUpperCase(Locale.ROOT)))
                .setTransactionalIdPrefix("word-count")
                .setTransactionNamingStrategy(TransactionNamingStrategy.valueOf(arguments[3].toUpperCase(Locale.ROOT)))
                // The sink's own default is longer than a server allows.
                .setProperty("transaction.timeout.ms", "120000")
                .setRecordSerializer(KafkaRecordSerializationSchema.<Tuple2<String, Long>>builder()
                        .setTopic("counts")
                        .setKeySerializationSchema(new Field(0))
                        .setValueSerializationSchema(new Field(1))
                        .build())
                .build();
        environment.fromSource(lines, WatermarkStrategy.noWatermarks(), "lines").uid("lines")
                .flatMap((String line, Collector<String> words) -> {
                    for (String one : line.split(" ")) {
                        words.collect(one);
                    }
                }).returns(Types.STRING).uid("words")
                .keyBy(one -> one)
                .process(new Count()).returns(Types.TUPLE(Types.STRING, Types.LONG)).uid("count")
                .sinkTo(counts).uid("counts");
        environment.execute("word count");
    }

    /** The newest checkpoint that is complete. */
    private static Optional<Path> newest(Path folder) throws IOException {
        Files.createDirectories(folder);
        try (Stream<Path> all = Files.walk(folder)) {
            return all.filter(path -> path.endsWith("_metadata"))
                    .max(Comparator.comparing(path -> path.toFile().lastModified()))
                    .map(Path::getParent);
        }
    }

    private static final class Count extends KeyedProcessFunction<String, String, Tuple2<String, Long>> {
        private transient ValueState<Long> count;

        @Override
        public void open(OpenContext context) {
            count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Long.class));
        }

        @Override
        public void processElement(String word, Context context, Collector<Tuple2<String, Long>> counts)
                throws Exception {
            long now = (count.value() == null ? 0 : count.value()) + 1;
            count.update(now);
            counts.collect(Tuple2.of(word, now));
        }
    }

    /** A field of a count, as text. */
    private static final class Field implements SerializationSchema<Tuple2<String, Long>> {
        private final int at;

        Field(int at) {
            this.at = at;
        }

        @Override
        public byte[] serialize(Tuple2<String, Long> count) {
            return count.getField(at).toString().getBytes(StandardCharsets.UTF_8);
        }
    }

    private WordCount() {}
}
