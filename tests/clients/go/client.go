package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	partitions = 4 // of a topic that is created by being used
	limit      = 30 * time.Second
)

// fail ends the scenario; main turns it into the result.
type fail string

func check(err error) {
	if err != nil {
		panic(fail(err.Error()))
	}
}

func assert(holds bool, format string, args ...any) {
	if !holds {
		panic(fail(fmt.Sprintf(format, args...)))
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func refused(expected *kerr.Error, err error) {
	assert(errors.Is(err, expected), "%v instead of %v", err, expected)
}

// wait polls until the condition holds.
func wait(what string, condition func() bool) {
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(20 * time.Millisecond) {
		assert(time.Now().Before(deadline), "waited %v in vain: %s", limit, what)
	}
}

func patience() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	time.AfterFunc(limit, cancel)
	return ctx
}

func client(options ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append(append(options, login()...),
		kgo.SeedBrokers(bootstrap),
		kgo.AllowAutoTopicCreation(),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond),
	)...))
}

// ---- records

// numbered makes records that are easy to tell apart; with a base, one second of record time after another.
func numbered(count int, partition int32, base time.Time) []*kgo.Record {
	var records []*kgo.Record
	for i := range count {
		r := &kgo.Record{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i), Partition: partition}
		if !base.IsZero() {
			r.Timestamp = base.Add(time.Duration(i) * time.Second)
		}
		records = append(records, r)
	}
	return records
}

func plain(count int, partition int32) []*kgo.Record {
	return numbered(count, partition, time.Time{})
}

func everywhere(count int) (records []*kgo.Record) {
	for p := range int32(partitions) {
		records = append(records, plain(count, p)...)
	}
	return records
}

func unhex(text *string) []byte {
	if text == nil {
		return nil
	}
	return must(hex.DecodeString(*text))
}

// load reads records as the runner writes them: JSON with all bytes in hex.
func load(path string) (records []*kgo.Record) {
	var found []struct {
		Key, Value *string
		Headers    [][]*string
		Timestamp  *int64
	}
	check(json.Unmarshal(must(os.ReadFile(path)), &found))
	for _, f := range found {
		r := &kgo.Record{Key: unhex(f.Key), Value: unhex(f.Value)}
		for _, h := range f.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: *h[0], Value: unhex(h[1])})
		}
		if f.Timestamp != nil {
			r.Timestamp = time.UnixMilli(*f.Timestamp)
		}
		records = append(records, r)
	}
	return records
}

// same tells null from empty.
func same(a, b []byte) bool {
	return bytes.Equal(a, b) && (a == nil) == (b == nil)
}

func equal(got, expected []*kgo.Record) {
	assert(len(got) == len(expected), "%d records instead of %d", len(got), len(expected))
	for i, e := range expected {
		g := got[i]
		assert(same(g.Key, e.Key), "record %d: key %.40q instead of %.40q", i, g.Key, e.Key)
		assert(same(g.Value, e.Value), "record %d: value %.40q instead of %.40q", i, g.Value, e.Value)
		assert(e.Timestamp.IsZero() || g.Timestamp.Equal(e.Timestamp), "record %d: timestamp %v", i, g.Timestamp)
		headers := slices.EqualFunc(g.Headers, e.Headers, func(a, b kgo.RecordHeader) bool {
			return a.Key == b.Key && same(a.Value, b.Value)
		})
		assert(headers, "record %d: headers %.80v instead of %.80v", i, g.Headers, e.Headers)
	}
}

// produce sends records to the partitions that they name, without idempotence unless asked for.
func produce(topic string, records []*kgo.Record, options ...kgo.Opt) {
	if options == nil {
		options = []kgo.Opt{kgo.DisableIdempotentWrite()}
	}
	options = append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)
	cl := client(append(options, kgo.DefaultProduceTopic(topic))...)
	defer cl.Close()
	check(cl.ProduceSync(patience(), records...).FirstErr())
}

// listed tells when the response of a ListOffsets request has come.
type listed struct{ once func() }

func (l listed) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, _ kgo.BrokerE2E) {
	if key == int16(kmsg.ListOffsets) {
		l.once()
	}
}

// read reads count records of a partition; ready is called when the offset to start from is known.
func read(topic string, partition int32, from kgo.Offset, count int, ready func()) (got []*kgo.Record) {
	known := make(chan struct{})
	cl := client(
		kgo.WithHooks(listed{sync.OnceFunc(func() { close(known) })}),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: from}}),
	)
	defer cl.Close()
	if ready != nil {
		<-known
		ready()
	}
	ctx := patience()
	for len(got) < count {
		fetches := cl.PollRecords(ctx, count-len(got))
		assert(ctx.Err() == nil, "only %d of %d records came", len(got), count)
		for _, e := range fetches.Errors() {
			check(e.Err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

var start = kgo.NewOffset().AtStart()

// digest is the number of records and SHA-256 over key and value of each, in order.
type digest struct {
	count int
	hash  hash.Hash
}

type digests map[int32]*digest

func (d digests) add(partition int32, key, value []byte) {
	if d[partition] == nil {
		d[partition] = &digest{hash: sha256.New()}
	}
	d[partition].count++
	for _, part := range [][]byte{key, {'\n'}, value, {'\n'}} {
		d[partition].hash.Write(part)
	}
}

func (d digests) summary() map[string]any {
	found := map[string]any{}
	for p, d := range d {
		found[fmt.Sprint(p)] = []any{d.count, hex.EncodeToString(d.hash.Sum(nil))}
	}
	return found
}

// ---- groups

type place struct {
	partition int32
	offset    int64
}

// tally counts how often each record was seen.
type tally struct {
	sync.Mutex
	seen map[place]int
}

func newTally() *tally {
	return &tally{seen: map[place]int{}}
}

func (t *tally) records() int {
	t.Lock()
	defer t.Unlock()
	return len(t.seen)
}

func (t *tally) sum() (sum int) {
	t.Lock()
	defer t.Unlock()
	for _, n := range t.seen {
		sum += n
	}
	return sum
}

// member polls in a goroutine of its own, and commits after each poll unless told otherwise.
type member struct {
	*tally
	cl   *kgo.Client
	stop context.CancelFunc
	done chan struct{}

	mu         sync.Mutex
	owned      map[int32]bool
	rebalances int
	offsets    []int64
}

func join(group, topic string, seen *tally, commit bool, options ...kgo.Opt) *member {
	m := &member{tally: seen, done: make(chan struct{}), owned: map[int32]bool{}}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, p := range changed[topic] {
				m.owned[p] = owned
			}
			if len(changed[topic]) > 0 {
				m.rebalances++
			}
		}
	}
	if commit {
		options = append(options, kgo.DisableAutoCommit())
	}
	if consumerProtocol {
		options = append(options, kgo.ServerSideBalancer())
	}
	m.cl = client(append(options,
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(start),
		kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.SessionTimeout(10*time.Second),
		kgo.OnPartitionsAssigned(change(true)),
		kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)),
	)...)
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go m.run(ctx, commit)
	return m
}

func (m *member) run(ctx context.Context, commit bool) {
	defer close(m.done)
	for ctx.Err() == nil {
		fetches := m.cl.PollRecords(ctx, 500)
		m.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			m.seen[place{r.Partition, r.Offset}]++
			m.offsets = append(m.offsets, r.Offset)
		})
		m.Unlock()
		if commit && !fetches.Empty() {
			// While the group is rebalancing a commit may be refused: the records come again then.
			_ = m.cl.CommitRecords(patience(), fetches.Records()...)
		}
	}
}

func (m *member) leave() {
	m.stop()
	<-m.done
	m.cl.Close()
}

func (m *member) assigned() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.owned, func(_ int32, owned bool) bool { return !owned })
	return slices.Sorted(maps.Keys(m.owned))
}

// shared: each member has partitions, no partition has two owners, and none is without.
func shared(members ...*member) func() bool {
	return func() bool {
		var owned []int32
		for _, m := range members {
			its := m.assigned()
			if len(its) == 0 {
				return false
			}
			owned = append(owned, its...)
		}
		slices.Sort(owned)
		return slices.Equal(owned, []int32{0, 1, 2, 3})
	}
}

func committed(group string) map[int32]int64 {
	found := map[int32]int64{}
	offsets := must(admin.FetchOffsets(patience(), group))
	offsets.Each(func(o kadm.OffsetResponse) { found[o.Partition] = o.At })
	return found
}

func ends(topic string) map[int32]int64 {
	found := map[int32]int64{}
	offsets := must(admin.ListEndOffsets(patience(), topic))
	offsets.Each(func(o kadm.ListedOffset) { found[o.Partition] = o.Offset })
	return found
}
