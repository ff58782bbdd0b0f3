package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// transactional makes a producer that has taken the id: what was open with it has been aborted.
func transactional(timeout time.Duration) *kgo.Client {
	cl := client(
		kgo.TransactionalID(topic),
		kgo.TransactionTimeout(timeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	_, _, err := cl.ProducerID(patience())
	check(err)
	return cl
}

// onEach makes records for every partition; the word and a number are their values.
func onEach(topic, word string, count int) (records []*kgo.Record) {
	for i := range count {
		for p := range int32(partitions) {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: fmt.Appendf(nil, "%s%d", word, i)})
		}
	}
	return records
}

// open begins a transaction and sends records.
func open(cl *kgo.Client, records []*kgo.Record) {
	check(cl.BeginTransaction())
	check(cl.ProduceSync(patience(), records...).FirstErr())
}

func end(cl *kgo.Client, how kgo.TransactionEndTry) {
	check(cl.EndTransaction(patience(), how))
}

// values reads each partition to the end that the isolation level shows.
func values(topic string, level kgo.IsolationLevel) map[int32][]string {
	list := admin.ListEndOffsets
	if level == kgo.ReadCommitted() {
		list = admin.ListCommittedOffsets
	}
	ends, at, from := map[int32]int64{}, map[int32]int64{}, map[int32]kgo.Offset{}
	for p, o := range must(list(patience(), topic))[topic] {
		ends[p], at[p], from[p] = o.Offset, 0, start
	}
	cl := client(
		kgo.FetchIsolationLevel(level),
		// Markers are not values, but without them nothing tells that the end has come.
		kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
	)
	defer cl.Close()
	found := map[int32][]string{}
	for ctx := patience(); !maps.EqualFunc(at, ends, func(at, end int64) bool { return at >= end }); {
		fetches := cl.PollFetches(ctx)
		assert(ctx.Err() == nil, "read up to %v instead of %v", at, ends)
		fetches.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				found[r.Partition] = append(found[r.Partition], string(r.Value))
			}
		})
	}
	return found
}

// sees: each partition shows these values and no others.
func sees(topic string, level kgo.IsolationLevel, expected ...string) {
	found := values(topic, level)
	for p := range int32(partitions) {
		assert(slices.Equal(found[p], expected), "partition %d: %v instead of %v", p, found[p], expected)
	}
}

func seesCommitted(expected ...string) {
	sees(topic, kgo.ReadCommitted(), expected...)
}

func seesAll(expected ...string) {
	sees(topic, kgo.ReadUncommitted(), expected...)
}

func transactions() any {
	produce(topic, onEach(topic, "plain", 1))
	cl := transactional(time.Minute)
	defer cl.Close()
	open(cl, onEach(topic, "kept", 2))
	end(cl, kgo.TryCommit)
	open(cl, onEach(topic, "open", 3))
	produce(topic, onEach(topic, "later", 1))
	seesCommitted("plain0", "kept0", "kept1")
	seesAll("plain0", "kept0", "kept1", "open0", "open1", "open2", "later0")
	end(cl, kgo.TryAbort)
	kept := []string{"plain0", "kept0", "kept1", "later0"}
	seesCommitted(kept...)
	seesAll("plain0", "kept0", "kept1", "open0", "open1", "open2", "later0")
	for n := range 20 {
		open(cl, onEach(topic, fmt.Sprintf("row%d-", n), 1))
		end(cl, n%3 != 1)
		if n%3 != 1 {
			kept = append(kept, fmt.Sprintf("row%d-0", n))
		}
	}
	seesCommitted(kept...)
	// 27 records, and a marker for each of 22 transactions.
	assert(maps.Equal(ends(topic), map[int32]int64{0: 49, 1: 49, 2: 49, 3: 49}), "%v", ends(topic))
	_, epoch, err := cl.ProducerID(patience())
	check(err)
	return map[string]any{"epoch": epoch}
}

func transactionsFencing() any {
	produce(topic, onEach(topic, "plain", 1))
	old := transactional(time.Minute)
	open(old, onEach(topic, "lost", 1))
	fresh := transactional(time.Minute)
	defer fresh.Close()
	produce(topic, onEach(topic, "later", 1))
	seesCommitted("plain0", "later0")
	err := old.EndTransaction(patience(), kgo.TryCommit)
	fenced := errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
	assert(fenced, "%v instead of a producer that is fenced", err)
	old.Close()
	open(fresh, onEach(topic, "new", 1))
	end(fresh, kgo.TryCommit)
	seesCommitted("plain0", "later0", "new0")
	seesAll("plain0", "lost0", "later0", "new0")
	return nil
}

func session() *kgo.GroupTransactSession {
	return must(kgo.NewGroupTransactSession(append(login(),
		kgo.SeedBrokers(bootstrap),
		kgo.AllowAutoTopicCreation(),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond),
		kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.SessionTimeout(10*time.Second),
		kgo.TransactionalID(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumerGroup(topic),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(start),
	)...))
}

func transactionsOffsets() any {
	sink, total := topic+"-sink", 100*partitions
	produce(topic, onEach(topic, "in", 100))
	rounds, counted := 0, 0
	s := session()
	defer func() { s.Close() }()
	for ctx := patience(); counted < total; {
		some := s.PollRecords(ctx, 30).Records()
		assert(ctx.Err() == nil, "only %d records counted", counted)
		if len(some) == 0 {
			continue
		}
		check(s.Begin())
		var out []*kgo.Record
		for _, r := range some {
			out = append(out, &kgo.Record{Topic: sink, Partition: r.Partition, Value: r.Value})
		}
		check(s.ProduceSync(ctx, out...).FirstErr())
		rounds++
		aborts := slices.Contains([]int{1, 4, 7}, rounds)
		committed, err := s.End(ctx, kgo.TransactionEndTry(!aborts))
		check(err)
		assert(!(aborts && committed), "committed instead of aborted")
		if committed {
			counted += len(some)
		}
		if rounds == 3 {
			// Whoever joins goes on from what is committed.
			s.Close()
			s = session()
		}
	}
	got := committed(topic)
	assert(maps.Equal(got, map[int32]int64{0: 100, 1: 100, 2: 100, 3: 100}), "%v", got)
	var expected []string
	for i := range 100 {
		expected = append(expected, fmt.Sprintf("in%d", i))
	}
	sees(sink, kgo.ReadCommitted(), expected...)
	all := 0
	for _, its := range values(sink, kgo.ReadUncommitted()) {
		all += len(its)
	}
	assert(all > total, "nothing was aborted")
	return map[string]any{"transactions": rounds}
}

func transactionsTimeout() any {
	produce(topic, onEach(topic, "plain", 1))
	abandoned := transactional(2 * time.Second)
	open(abandoned, onEach(topic, "lost", 1))
	produce(topic, onEach(topic, "later", 1))
	wait("readers go on", func() bool {
		for _, its := range values(topic, kgo.ReadCommitted()) {
			if len(its) < 2 {
				return false
			}
		}
		return true
	})
	seesCommitted("plain0", "later0")
	seesAll("plain0", "lost0", "later0")
	err := abandoned.EndTransaction(patience(), kgo.TryCommit)
	assert(err != nil, "a transaction that had timed out was committed")
	fmt.Println("the commit of a transaction that has timed out:", err)
	seesCommitted("plain0", "later0")
	return nil
}
