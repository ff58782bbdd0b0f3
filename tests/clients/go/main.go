// franz-go: the Go client.
//
//	client BOOTSTRAP SCENARIO RUN [ARGUMENT...]
//
// The last line printed is the result: {"result": "pass" | "fail" | "skip", "reason": ..., "data": ...}.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	bootstrap, topic string
	args             []string
	admin            *kadm.Client
	// Whether the scenario is run with the consumer protocol.
	consumerProtocol bool
)

// skip ends the scenario as one that can't be run.
type skip string

var scenarios = map[string]func() any{
	"produce-none":         produceWith(kgo.NoCompression()),
	"produce-gzip":         produceWith(kgo.GzipCompression()),
	"produce-snappy":       produceWith(kgo.SnappyCompression()),
	"produce-lz4":          produceWith(kgo.Lz4Compression()),
	"produce-zstd":         produceWith(kgo.ZstdCompression()),
	"acks-0":               produceAcks(kgo.NoAck()),
	"acks-1":               produceAcks(kgo.LeaderAck()),
	"acks-all":             produceAcks(kgo.AllISRAcks()),
	"idempotent":           idempotent,
	"keys":                 keys,
	"consume-start":        consumeFrom(start, 0),
	"consume-end":          consumeEnd,
	"consume-offset":       consumeFrom(kgo.NewOffset().At(42), 42),
	"consume-timestamp":    consumeTimestamp,
	"commit-manual":        commitManual,
	"commit-auto":          commitAuto,
	"group":                group,
	"static-members":       staticMembers,
	"topics":               topics,
	"partitions":           addPartitions,
	"configs":              configs,
	"groups":               groups,
	"delete-group":         deleteGroup,
	"list-offsets":         listOffsets,
	"delete-records":       deleteRecords,
	"transactions":         transactions,
	"transactions-fencing": transactionsFencing,
	"transactions-offsets": transactionsOffsets,
	"transactions-timeout": transactionsTimeout,
	"bad-credentials":      badCredentials,
	"token-renewal":        tokenRenewal,
	"token-expiry":         tokenExpiry,
	"read-others":          readOthers,
	"table-produce":        tableProduce,
	"tables-read":          tablesRead,
}

func init() {
	// It runs some of the others.
	scenarios["round-trip"] = roundTrip
}

func main() {
	scenario := os.Args[2]
	bootstrap, topic, args = os.Args[1], os.Args[3]+"-franz-go-"+scenario, os.Args[4:]
	fmt.Println(string(must(json.Marshal(attempt(scenario)))))
}

func attempt(scenario string) (result map[string]any) {
	if scenario == "version" {
		return map[string]any{"result": "pass", "data": version()}
	}
	consumerProtocol = strings.HasSuffix(scenario, "-consumer")
	run, known := scenarios[strings.TrimSuffix(scenario, "-consumer")]
	if !known {
		return map[string]any{"result": "skip", "reason": "not a scenario of this client"}
	}
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case fail:
			fmt.Fprintln(os.Stderr, string(debug.Stack()))
			result = map[string]any{"result": "fail", "reason": reason}
		case skip:
			result = map[string]any{"result": "skip", "reason": reason}
		default:
			panic(reason)
		}
	}()
	admin = kadm.NewClient(client())
	return map[string]any{"result": "pass", "data": run()}
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/twmb/franz-go" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "unknown"
}

// ---- produce

func produceWith(codec kgo.CompressionCodec) func() any {
	return func() any {
		records := load(args[0])
		produce(topic, records, kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(codec))
		equal(read(topic, 0, start, len(records), nil), records)
		return nil
	}
}

func produceAcks(acks kgo.Acks) func() any {
	return func() any {
		produce(topic, plain(1, 0)) // a topic that is just being created may lose what has acks=0
		produce(topic, plain(100, 0), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks))
		equal(read(topic, 0, kgo.NewOffset().At(1), 100, nil), plain(100, 0))
		return nil
	}
}

func idempotent() any {
	produce(topic, everywhere(500), kgo.RequiredAcks(kgo.AllISRAcks())) // idempotence is the default
	for p := range int32(partitions) {
		equal(read(topic, p, start, 500, nil), plain(500, p))
	}
	assert(maps.Equal(ends(topic), map[int32]int64{0: 500, 1: 500, 2: 500, 3: 500}), "%v", ends(topic))
	return nil
}

func keys() any {
	var records []*kgo.Record
	for i := range 1000 {
		records = append(records, kgo.KeyStringRecord(fmt.Sprintf("key-%d", i%50), strconv.Itoa(i)))
	}
	produce(topic, records, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	owner, values, used := map[string]int32{}, map[string][]int{}, 0
	for p, count := range ends(topic) {
		if count == 0 {
			continue
		}
		used++
		for _, r := range read(topic, p, start, int(count), nil) {
			key := string(r.Key)
			before, known := owner[key]
			assert(!known || before == p, "%s in several partitions", key)
			owner[key] = p
			values[key] = append(values[key], must(strconv.Atoi(string(r.Value))))
		}
	}
	assert(used > 1 && len(values) == 50, "%d keys in %d partitions", len(values), used)
	for key, its := range values {
		assert(len(its) == 20 && slices.IsSorted(its), "%s: %v", key, its)
	}
	return nil
}

// ---- consume

func consumeFrom(from kgo.Offset, first int) func() any {
	return func() any {
		produce(topic, plain(100, 0))
		got := read(topic, 0, from, 100-first, nil)
		equal(got, plain(100, 0)[first:])
		assert(got[0].Offset == int64(first), "offset %d", got[0].Offset)
		return nil
	}
}

func consumeEnd() any {
	produce(topic, plain(100, 0))
	got := read(topic, 0, kgo.NewOffset().AtEnd(), 10, func() { produce(topic, plain(10, 0)) })
	equal(got, plain(10, 0))
	assert(got[0].Offset == 100, "offset %d", got[0].Offset)
	return nil
}

func consumeTimestamp() any {
	base := time.Now().Add(-200 * time.Second).Truncate(time.Millisecond)
	produce(topic, numbered(100, 0, base))
	from := kgo.NewOffset().AfterMilli(base.UnixMilli() + 41_500)
	equal(read(topic, 0, from, 58, nil), plain(100, 0)[42:])
	return nil
}

// ---- groups

func commitManual() any {
	produce(topic, plain(100, 0))
	first := join(topic, topic, newTally(), false, kgo.DisableAutoCommit())
	wait("100 records", func() bool { return first.records() >= 100 })
	offsets := map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: 60}}}
	var failed error
	first.cl.CommitOffsetsSync(patience(), offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
			failed = err
		})
	check(failed)
	first.leave()
	assert(committed(topic)[0] == 60, "%v committed", committed(topic))
	second := join(topic, topic, newTally(), false, kgo.DisableAutoCommit())
	wait("40 records", func() bool { return second.records() >= 40 })
	second.leave()
	assert(second.offsets[0] == 60 && len(second.offsets) == 40, "from %d", second.offsets[0])
	return nil
}

func commitAuto() any {
	produce(topic, plain(100, 0))
	often := kgo.AutoCommitInterval(200 * time.Millisecond)
	first := join(topic, topic, newTally(), false, often)
	wait("100 records", func() bool { return first.records() >= 100 })
	wait("the automatic commit", func() bool { return committed(topic)[0] == 100 })
	first.leave()
	produce(topic, plain(10, 0))
	second := join(topic, topic, newTally(), false, often)
	wait("10 records", func() bool { return second.records() >= 10 })
	second.leave()
	assert(second.offsets[0] == 100 && len(second.offsets) == 10, "from %d", second.offsets[0])
	return nil
}

func group() any {
	produce(topic, everywhere(1))
	seen := newTally()
	var loading atomic.Bool
	loading.Store(true)
	loaded := make(chan int)
	go func() {
		count := partitions
		for ; loading.Load(); time.Sleep(100 * time.Millisecond) {
			produce(topic, everywhere(25))
			count += 25 * partitions
		}
		loaded <- count
	}()
	member := func() *member { return join(topic, topic, seen, true) }
	a := member()
	wait("the first member has all partitions", shared(a))
	b := member()
	wait("two members share", shared(a, b))
	c := member()
	wait("three members share", shared(a, b, c))
	b.leave()
	wait("two members share after one left", shared(a, c))
	b = member()
	wait("three members share again", shared(a, b, c))

	loading.Store(false)
	count := <-loaded
	wait(fmt.Sprintf("all %d records seen", count), func() bool { return seen.records() >= count })
	assert(seen.records() == count, "%d records seen, %d produced", seen.records(), count)
	settled := func() bool { return maps.Equal(committed(topic), ends(topic)) && shared(a, b, c)() }
	wait("all committed", settled)
	twice := seen.sum() - count
	produce(topic, everywhere(250))
	wait("the next 1,000 records", func() bool { return seen.records() >= count+1000 })
	wait("the next 1,000 committed", settled)
	for _, m := range []interface{ leave() }{a, b, c} {
		m.leave()
	}
	assert(seen.sum() == count+1000+twice, "records seen twice after commits had settled")

	last := join(topic, topic, newTally(), true)
	wait("a new member has all partitions", shared(last))
	produce(topic, everywhere(1))
	wait("the new member sees the newest", func() bool { return last.records() >= partitions })
	last.leave()
	assert(last.records() == partitions, "a new member saw what was committed before")
	return map[string]int{"records": count + 1000 + partitions, "seen twice during rebalances": twice}
}

func staticMembers() any {
	produce(topic, everywhere(1))
	one := join(topic, topic, newTally(), true, kgo.InstanceID("one"))
	two := join(topic, topic, newTally(), true, kgo.InstanceID("two"))
	wait("two members share", shared(one, two))
	had, kept, rebalances := one.assigned(), two.assigned(), two.rebalances
	one.leave()
	one = join(topic, topic, newTally(), true, kgo.InstanceID("one"))
	wait("the restarted member has its partitions again", func() bool { return slices.Equal(one.assigned(), had) })
	before := two.records()
	produce(topic, everywhere(5))
	wait("both go on", func() bool { return one.records() >= 5 && two.records() >= before+5 })
	undisturbed := slices.Equal(two.assigned(), kept) && two.rebalances == rebalances
	assert(undisturbed, "the other member was disturbed")
	one.leave()
	two.leave()
	return nil
}

// ---- admin

func text(value string) *string { return &value }

func topicListed() bool {
	return must(admin.ListTopics(patience())).Has(topic)
}

// createTopic creates the topic and waits until the server shows it.
func createTopic(partitions int32, configs map[string]*string) error {
	_, err := admin.CreateTopic(patience(), partitions, 1, configs, topic)
	if err == nil {
		wait("the topic is listed", topicListed)
	}
	return err
}

func describeTopic() kadm.TopicDetail {
	return must(admin.ListTopics(patience(), topic))[topic]
}

func topics() any {
	check(createTopic(3, map[string]*string{"retention.ms": text("3600000")}))
	refused(kerr.TopicAlreadyExists, createTopic(3, nil))
	found := describeTopic().Partitions
	assert(slices.Equal(found.Numbers(), []int32{0, 1, 2}), "%v", found)
	for _, p := range found {
		assert(p.Leader >= 0, "partition %d has no leader", p.Partition)
	}
	must(admin.DeleteTopic(patience(), topic))
	wait("the topic is gone", func() bool { return !topicListed() })
	return nil
}

func addPartitions() any {
	check(createTopic(1, nil))
	check(must(admin.UpdatePartitions(patience(), 5, topic)).Error())
	wait("five partitions", func() bool { return len(describeTopic().Partitions) == 5 })
	refused(kerr.InvalidPartitions, must(admin.UpdatePartitions(patience(), 2, topic)).Error())
	produce(topic, plain(10, 4))
	equal(read(topic, 4, start, 10, nil), plain(10, 4))
	return nil
}

func describeConfigs() map[string]string {
	found := must(must(admin.DescribeTopicConfigs(patience(), topic)).On(topic, nil))
	check(found.Err)
	values := map[string]string{}
	for _, c := range found.Configs {
		values[c.Key] = c.MaybeValue()
	}
	return values
}

func alterConfigs(changes ...kadm.AlterConfig) {
	found := must(admin.AlterTopicConfigs(patience(), changes, topic))
	check(must(found.On(topic, nil)).Err)
}

func configs() any {
	check(createTopic(1, map[string]*string{"retention.ms": text("3600000")}))
	before := describeConfigs()
	assert(before["retention.ms"] == "3600000", "%v", before)
	assert(len(before) > 20, "a topic has more configs than %d", len(before))
	alterConfigs(
		kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: text("2000000")},
		kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: text("compact")},
	)
	wait("two configs set", func() bool { return describeConfigs()["max.message.bytes"] == "2000000" })
	after := describeConfigs()
	assert(after["cleanup.policy"] == "delete,compact" && after["retention.ms"] == "3600000", "%v", after)
	alterConfigs(
		kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "max.message.bytes"},
		kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: text("delete")},
	)
	usual := before["max.message.bytes"]
	wait("one config unset", func() bool { return describeConfigs()["max.message.bytes"] == usual })
	assert(describeConfigs()["cleanup.policy"] == "compact", "%v", describeConfigs())
	return nil
}

func describeGroup() string {
	if consumerProtocol {
		found := must(admin.DescribeConsumerGroups(patience(), topic))[topic]
		return fmt.Sprint(found.State, " ", len(found.Members))
	}
	found := must(must(admin.DescribeGroups(patience(), topic)).On(topic, nil))
	return fmt.Sprint(found.State, " ", len(found.Members))
}

func groupListed() bool {
	_, listed := must(admin.ListGroups(patience()))[topic]
	return listed
}

func groups() any {
	produce(topic, everywhere(1))
	m := join(topic, topic, newTally(), true)
	wait("all seen", func() bool { return m.records() == partitions })
	assert(groupListed(), "the group is not listed")
	assert(describeGroup() == "Stable 1", "%s", describeGroup())
	m.leave()
	wait("the group is empty", func() bool { return describeGroup() == "Empty 0" })
	return nil
}

func deleteGroup() any {
	produce(topic, everywhere(1))
	m := join(topic, topic, newTally(), true)
	wait("the member has all partitions", shared(m))
	_, err := admin.DeleteGroup(patience(), topic)
	refused(kerr.NonEmptyGroup, err)
	m.leave()
	must(admin.DeleteGroup(patience(), topic))
	wait("the group is gone", func() bool { return !groupListed() })
	return nil
}

func offsetOf(listed kadm.ListedOffsets, err error) int64 {
	check(err)
	found, _ := listed.Lookup(topic, 0)
	check(found.Err)
	return found.Offset
}

func listOffsets() any {
	base := time.Now().Add(-200 * time.Second)
	produce(topic, numbered(100, 0, base))
	assert(offsetOf(admin.ListStartOffsets(patience(), topic)) == 0, "start")
	assert(offsetOf(admin.ListEndOffsets(patience(), topic)) == 100, "end")
	for asked, expected := range map[int64]int64{0: 0, 41_500: 42, 99_000: 99} {
		got := offsetOf(admin.ListOffsetsAfterMilli(patience(), base.UnixMilli()+asked, topic))
		assert(got == expected, "after %d ms: %d instead of %d", asked, got, expected)
	}
	return nil
}

func deleteRecords() any {
	produce(topic, plain(100, 0))
	before := kadm.Offsets{}
	before.AddOffset(topic, 0, 40, -1)
	deleted := must(admin.DeleteRecords(patience(), before))
	check(deleted.Error())
	low, _ := deleted.Lookup(topic, 0)
	assert(low.LowWatermark == 40, "starts at %d", low.LowWatermark)
	wait("the start has moved", func() bool {
		return offsetOf(admin.ListStartOffsets(patience(), topic)) == 40
	})
	assert(read(topic, 0, start, 60, nil)[0].Offset == 40, "reading begins elsewhere")
	return nil
}

// ---- all clients together

func readOthers() any {
	if len(args) == 0 {
		panic(skip("no other client has produced in this run"))
	}
	for _, pair := range args {
		other, file, _ := strings.Cut(pair, "=")
		fmt.Fprintln(os.Stderr, other)
		expected := load(file)
		equal(read(other, 0, start, len(expected), nil), expected)
	}
	return map[string]int{"topics": len(args)}
}

func tableProduce() any {
	cl := client(kgo.DefaultProduceTopic(args[0]), kgo.ProducerLinger(5*time.Millisecond))
	defer cl.Close()
	var records []*kgo.Record
	for line := range bytes.Lines(must(os.ReadFile(args[1]))) {
		key, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
		record := &kgo.Record{Key: key, Value: value}
		records = append(records, record)
		cl.Produce(context.Background(), record, nil)
	}
	check(cl.Flush(patience()))
	found := digests{}
	for _, r := range records {
		found.add(r.Partition, r.Key, r.Value)
	}
	return map[string]any{args[0]: found.summary()}
}

func tablesRead() any {
	if len(args) == 0 {
		panic(skip("no table has been produced in this run"))
	}
	tables := map[string]any{}
	for _, topic := range args {
		found := digests{}
		for p, count := range ends(topic) {
			if count > 0 {
				for _, r := range read(topic, p, start, int(count), nil) {
					found.add(p, r.Key, r.Value)
				}
			}
		}
		tables[topic] = found.summary()
	}
	return tables
}
