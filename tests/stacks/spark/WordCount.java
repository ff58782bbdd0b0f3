import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.explode;
import static org.apache.spark.sql.functions.split;

import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.streaming.StreamingQuery;

/**
 * Counts words of the topic {@code lines} by structured streaming. What has changed goes to the topic {@code counts} with each batch.
 *
 * <p>usage: WordCount BOOTSTRAP CHECKPOINTS; goes on from the checkpoint that is there.
 */
public final class WordCount {
    public static void main(String[] arguments) throws Exception {
        SparkSession spark = SparkSession.builder()
                .appName("word count")
                .master("local[2]")
                .config("spark.ui.enabled", "false")
                .config("spark.sql.shuffle.partitions", "2")
                .config("spark.driver.bindAddress", "127.0.0.1")
                .config("spark.driver.host", "127.0.0.1")
                .getOrCreate();
        Dataset<Row> lines = spark.readStream()
                .format("kafka")
                .option("kafka.bootstrap.servers", arguments[0])
                .option("subscribe", "lines")
                .option("startingOffsets", "earliest")
                .load();
        Dataset<Row> counts = lines
                .select(explode(split(col("value").cast("string"), " ")).as("word"))
                .groupBy("word")
                .count();
        StreamingQuery query = counts
                .select(col("word").as("key"), col("count").cast("string").as("value"))
                .writeStream()
                .format("kafka")
                .option("kafka.bootstrap.servers", arguments[0])
                .option("topic", "counts")
                .option("checkpointLocation", arguments[1])
                .outputMode("update")
                .start();
        query.awaitTermination();
    }

    private WordCount() {}
}
