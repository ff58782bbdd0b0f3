// Makes golden batches: a fake cluster keeps what each client sends it.
//
//	go run . OUT_DIR COMMAND...
//
// Sends with franz-go and sarama itself, then runs each COMMAND with BOOTSTRAP set to the cluster's
// address. A batch sent to topic T becomes OUT_DIR/T.bin, exactly as it came in the request.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

type header struct {
	key   string
	value []byte
}

type record struct {
	timestamp  time.Time
	key, value []byte
	headers    []header
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func parseBytes(word string) []byte {
	if word == "-" {
		return nil
	}
	if strings.HasPrefix(word, "'") {
		return append([]byte{}, strings.Trim(word, "'")...)
	}
	var count, end int
	_, err := fmt.Sscanf(word, "%d*0..%d", &count, &end)
	must(err)
	out := make([]byte, count)
	for i := range out {
		out[i] = byte(i % end)
	}
	return out
}

func parse(path string) (records []record) {
	file, err := os.Open(path)
	must(err)
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if words[0] == "#" {
			continue
		}
		millis, err := strconv.ParseInt(words[0], 10, 64)
		must(err)
		r := record{time.UnixMilli(millis), parseBytes(words[1]), parseBytes(words[2]), nil}
		for _, word := range words[3:] {
			key, value, _ := strings.Cut(word, "=")
			r.headers = append(r.headers, header{key, parseBytes(value)})
		}
		records = append(records, r)
	}
	return records
}

func recordsFor(codec string) []record {
	records := parse("../records.txt")
	if codec != "none" {
		records = append(records, parse("../large.txt")...)
	}
	return records
}

func franz(bootstrap, codec string) {
	codecOf := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ManualFlushing(),
		kgo.ProducerBatchCompression(codecOf[codec]))
	must(err)
	defer client.Close()
	for _, r := range recordsFor(codec) {
		out := &kgo.Record{Topic: "franz-go-" + codec, Timestamp: r.timestamp, Key: r.key, Value: r.value}
		for _, h := range r.headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.key, Value: h.value})
		}
		client.Produce(context.Background(), out, func(_ *kgo.Record, err error) { must(err) })
	}
	must(client.Flush(context.Background()))
}

func bytesOrNull(b []byte) sarama.Encoder {
	if b == nil {
		return nil
	}
	return sarama.ByteEncoder(b)
}

func saramas(bootstrap, codec string) {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.Return.Successes = true
	must(config.Producer.Compression.UnmarshalText([]byte(codec)))
	records := recordsFor(codec)
	config.Producer.Flush.Messages = len(records)
	config.Producer.Flush.Frequency = 10 * time.Second
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	must(err)
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for _, r := range records {
		out := &sarama.ProducerMessage{Topic: "sarama-" + codec, Timestamp: r.timestamp,
			Key: bytesOrNull(r.key), Value: bytesOrNull(r.value)}
		for _, h := range r.headers {
			out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(h.key), Value: h.value})
		}
		messages = append(messages, out)
	}
	must(producer.SendMessages(messages))
}

func main() {
	dir := os.Args[1]
	var topics []string
	for _, client := range []string{"franz-go", "sarama", "java", "kafka-python", "aiokafka", "librdkafka", "kafkajs"} {
		for _, codec := range codecs {
			topics = append(topics, client+"-"+codec)
		}
	}
	// Produce 13 names topics by id only: stay below.
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...),
		kfake.MaxVersions(kversion.V3_9_0()))
	must(err)
	defer cluster.Close()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			path := filepath.Join(dir, topic.Topic+".bin")
			if _, err := os.Stat(path); err == nil {
				fmt.Println("more than one batch:", topic.Topic)
			}
			must(os.WriteFile(path, topic.Partitions[0].Records, 0o644))
		}
		return nil, nil, false
	})
	bootstrap := cluster.ListenAddrs()[0]
	for _, codec := range codecs {
		franz(bootstrap, codec)
		saramas(bootstrap, codec)
	}
	for _, command := range os.Args[2:] {
		run := exec.Command("sh", "-c", command)
		run.Env = append(os.Environ(), "BOOTSTRAP="+bootstrap)
		run.Stdout, run.Stderr = os.Stdout, os.Stderr
		must(run.Run())
	}
}
