package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var franzStories = map[string]func(){
	"codecs":              franzCodecs,
	"records":             franzRecords,
	"offsets_and_times":   franzOffsetsAndTimes,
	"classic_group":       func() { franzGroup("classic", kgo.Balancers(kgo.CooperativeStickyBalancer())) },
	"eager_group":         func() { franzGroup("eager", kgo.Balancers(kgo.RangeBalancer())) },
	"consumer_group":      func() { franzGroup("next", kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer()) },
	"transactions":        franzTransactions,
	"exactly_once":        func() { franzExactlyOnce("once") },
	"exactly_once_kip848": func() { franzExactlyOnce("once848", kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()) },
	"share_group":         franzShareGroup,
	"admin_topics":        franzAdminTopics,
	"admin_groups":        franzAdminGroups,
	"admin_cluster":       franzAdminCluster,
}

func franz(options ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(broker)}, options...)...))
}

func administered[T any](work func(context.Context, *kadm.Client) T) T {
	client := kadm.NewClient(franz())
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	return work(ctx, client)
}

func create(topic string, partitions int32) {
	administered(func(ctx context.Context, admin *kadm.Client) kadm.CreateTopicResponse {
		return must(admin.CreateTopic(ctx, partitions, -1, nil, topic))
	})
}

func produce(topic string, values []string, options ...kgo.Opt) {
	client := franz(append(options, kgo.DefaultProduceTopic(topic))...)
	defer client.Close()
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, kgo.StringRecord(value))
	}
	ctx, cancel := within()
	defer cancel()
	check(client.ProduceSync(ctx, records...).FirstErr())
}

// take polls until it has so many records, and there are no more of them.
func take(client *kgo.Client, count int) []*kgo.Record {
	ctx, cancel := within()
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		check(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	equal(len(records), count, "records")
	return records
}

func values(records []*kgo.Record) []string {
	var all []string
	for _, record := range records {
		all = append(all, string(record.Value))
	}
	return all
}

// read is what a topic has for readers of committed records.
func read(topic string, count int) []string {
	client := franz(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer client.Close()
	return values(take(client, count))
}

func franzCodecs() {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		topic := named("codec-" + name)
		create(topic, 1)
		produce(topic, numbers(0, 500), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(10*time.Millisecond))
		same(read(topic, 500), numbers(0, 500), name)
	}
}

func franzRecords() {
	topic := named("records")
	create(topic, 3)
	client := franz(kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic))
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	headers := []kgo.RecordHeader{{Key: "b", Value: []byte("2")}, {Key: "a", Value: []byte{0, 255}}, {Key: "b", Value: nil}}
	sent := must(client.ProduceSync(ctx, &kgo.Record{
		Key: []byte("key"), Value: []byte("value"), Headers: headers, Timestamp: time.UnixMilli(then),
	}).First())
	check(client.ProduceSync(ctx, &kgo.Record{Key: []byte("key"), Value: nil}).FirstErr())
	records := take(client, 2)
	got := records[0]
	equal(got.Partition, sent.Partition, "partition")
	equal(got.Timestamp.UnixMilli(), then, "time")
	equal(len(got.Headers), 3, "headers")
	for number, header := range got.Headers {
		equal(header.Key, headers[number].Key, "header")
		equal(string(header.Value), string(headers[number].Value), "header's value")
	}
	equal(records[1].Partition, sent.Partition, "the partition of the key")
	equal(records[1].Value == nil, true, "a tombstone")

	for _, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		produce(topic, []string{"x"}, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
	}
	take(client, 3)
}

func franzOffsetsAndTimes() {
	topic := named("times")
	create(topic, 1)
	producer := franz(kgo.DefaultProduceTopic(topic))
	defer producer.Close()
	ctx, cancel := within()
	defer cancel()
	for number, value := range numbers(0, 10) {
		record := kgo.StringRecord(value)
		record.Timestamp = time.UnixMilli(then + int64(number)*1000)
		check(producer.ProduceSync(ctx, record).FirstErr())
	}
	for offset, first := range map[kgo.Offset]string{
		kgo.NewOffset().At(4):                   "4",
		kgo.NewOffset().AtEnd().Relative(-2):    "8",
		kgo.NewOffset().AfterMilli(then + 6500): "7",
		kgo.NewOffset().AtStart().Relative(3):   "3",
		kgo.NewOffset().At(10_000):              "0", // out of range: begins anew
	} {
		client := franz(
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: offset}}),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		)
		fetches := client.PollRecords(ctx, 1)
		check(fetches.Err())
		equal(string(fetches.Records()[0].Value), first, "first")
		client.Close()
	}
}

// franzMember is one of a group; it knows what it has.
type franzMember struct {
	client *kgo.Client
	mutex  sync.Mutex
	owned  map[int32]bool
	got    []string
	cancel context.CancelFunc
	done   chan struct{}
}

func join(group, topic string, options ...kgo.Opt) *franzMember {
	member := &franzMember{owned: map[int32]bool{}, done: make(chan struct{})}
	change := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			member.mutex.Lock()
			defer member.mutex.Unlock()
			for _, partition := range partitions[topic] {
				if owns {
					member.owned[partition] = true
				} else {
					delete(member.owned, partition)
				}
			}
		}
	}
	member.client = franz(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(100 * time.Millisecond), kgo.SessionTimeout(6 * time.Second),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
	}, options...)...)
	ctx, cancel := context.WithCancel(context.Background())
	member.cancel = cancel
	go func() {
		defer close(member.done)
		for ctx.Err() == nil {
			records := member.client.PollFetches(ctx).Records()
			member.mutex.Lock()
			member.got = append(member.got, values(records)...)
			member.mutex.Unlock()
		}
	}()
	return member
}

func (member *franzMember) owns() int {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return len(member.owned)
}

func (member *franzMember) has(count int) {
	until("records", func() bool {
		member.mutex.Lock()
		defer member.mutex.Unlock()
		return len(member.got) >= count
	})
}

func (member *franzMember) leave() {
	member.cancel()
	<-member.done
	member.client.Close()
}

func franzGroup(kind string, options ...kgo.Opt) {
	topic, group := named(kind), named(kind+"-group")
	create(topic, 4)
	first := join(group, topic, options...)
	until("the first has all", func() bool { return first.owns() == 4 })
	second := join(group, topic, options...)
	until("each has two", func() bool { return first.owns() == 2 && second.owns() == 2 })
	produce(topic, numbers(0, 40), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	first.has(20)
	second.has(20)
	ctx, cancel := within()
	defer cancel()
	check(first.client.CommitUncommittedOffsets(ctx))
	check(second.client.CommitUncommittedOffsets(ctx))
	second.leave()
	until("the first has all again", func() bool { return first.owns() == 4 })
	produce(topic, numbers(40, 48), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	first.has(28)
	first.leave()
	third := join(group, topic, options...)
	third.has(8)
	third.leave()
	slices.Sort(third.got)
	same(third.got, numbers(40, 48), "from what was committed")
}

func franzTransactions() {
	topic := named("transactions")
	create(topic, 2)
	client := franz(kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic))
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	for _, it := range []struct {
		value string
		end   kgo.TransactionEndTry
	}{{"kept 1", kgo.TryCommit}, {"dropped", kgo.TryAbort}, {"kept 2", kgo.TryCommit}} {
		check(client.BeginTransaction())
		check(client.ProduceSync(ctx, kgo.StringRecord(it.value)).FirstErr())
		check(client.EndTransaction(ctx, it.end))
	}
	got := read(topic, 2)
	slices.Sort(got)
	same(got, []string{"kept 1", "kept 2"}, "committed")

	fenced := franz(kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic))
	defer fenced.Close()
	check(fenced.BeginTransaction())
	check(fenced.ProduceSync(ctx, kgo.StringRecord("by the new one")).FirstErr())
	check(client.BeginTransaction())
	err := client.ProduceSync(ctx, kgo.StringRecord("too late")).FirstErr()
	is := errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.ProducerFenced)
	equal(is, true, "the old producer is fenced: "+errorText(err))
	check(fenced.EndTransaction(ctx, kgo.TryCommit))
}

func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// Two sessions copy a topic; one of them is gone in the middle of a transaction. Each record is copied once.
func franzExactlyOnce(kind string, options ...kgo.Opt) {
	input, output, group := named(kind+"-in"), named(kind+"-out"), named(kind+"-group")
	create(input, 4)
	create(output, 4)
	const total = 400
	produce(input, numbers(0, total), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	session := func(number string) *kgo.GroupTransactSession {
		return must(kgo.NewGroupTransactSession(append([]kgo.Opt{
			kgo.SeedBrokers(broker), kgo.TransactionalID(group + number), kgo.ConsumerGroup(group), kgo.ConsumeTopics(input),
			kgo.DefaultProduceTopic(output), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
			kgo.HeartbeatInterval(100 * time.Millisecond), kgo.SessionTimeout(6 * time.Second),
			kgo.FetchMaxWait(200 * time.Millisecond),
		}, options...)...))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var copied sync.WaitGroup
	stop := make(chan struct{})
	work := func(session *kgo.GroupTransactSession, rounds int) {
		defer copied.Done()
		defer session.Close()
		for round := 1; rounds == 0 || round <= rounds; round++ {
			select {
			case <-stop:
				return
			default:
			}
			poll, done := context.WithTimeout(ctx, time.Second)
			records := session.PollRecords(poll, 30).Records()
			done()
			check(session.Begin())
			for _, record := range records {
				session.Produce(ctx, kgo.StringRecord(string(record.Value)), nil)
			}
			end := kgo.TryCommit
			if round%3 == 0 {
				end = kgo.TryAbort
			}
			if _, err := session.End(ctx, end); err != nil {
				panic(err)
			}
		}
	}
	copied.Add(2)
	failed := make(chan any, 2)
	for number, rounds := range map[string]int{"one": 4, "two": 0} {
		go func() {
			defer func() {
				if why := recover(); why != nil {
					failed <- why
				}
			}()
			work(session(number), rounds)
		}()
	}
	got := read(output, total)
	close(stop)
	copied.Wait()
	select {
	case why := <-failed:
		panic(why)
	default:
	}
	slices.Sort(got)
	expected := numbers(0, total)
	slices.Sort(expected)
	same(got, expected, "copied")
}

func franzShareGroup() {
	topic, group := named("share"), named("share-group")
	create(topic, 1)
	client := franz(kgo.ShareGroup(group), kgo.ConsumeTopics(topic), kgo.ShareMaxRecords(50))
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	// The group begins at the end, whenever that is.
	for began := false; !began; {
		produce(topic, []string{"begin"})
		poll, done := context.WithTimeout(ctx, 500*time.Millisecond)
		began = len(client.PollFetches(poll).Records()) > 0
		done()
		check(ctx.Err())
	}
	produce(topic, numbers(0, 9))
	fates := []kgo.AckStatus{kgo.AckAccept, kgo.AckRelease, kgo.AckReject}
	var again []string
	for seen := 0; seen < 12; {
		for _, record := range client.PollFetches(ctx).Records() {
			value := string(record.Value)
			if value == "begin" {
				record.Ack(kgo.AckAccept)
				continue
			}
			seen++
			if record.DeliveryCount() > 1 {
				again = append(again, value)
				record.Ack(kgo.AckAccept)
				continue
			}
			record.Ack(fates[int(value[0]-'0')%3])
		}
		check(client.FlushAcks(ctx))
		check(ctx.Err())
	}
	slices.Sort(again)
	same(again, []string{"1", "4", "7"}, "delivered again")
}

func franzAdminTopics() {
	topic := named("admin")
	administered(func(ctx context.Context, admin *kadm.Client) any {
		value := "60000"
		made := must(admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &value}, topic))
		equal(made.NumPartitions, 2, "partitions")
		_, err := admin.CreateTopic(ctx, 2, 1, nil, topic)
		equal(errors.Is(err, kerr.TopicAlreadyExists), true, "it is there")
		listed := must(admin.ListTopics(ctx, topic))
		equal(listed[topic].ID, made.ID, "the id")
		check(must(admin.UpdatePartitions(ctx, 3, topic))[topic].Err)
		equal(len(must(admin.ListTopics(ctx, topic))[topic].Partitions), 3, "partitions")
		changed := must(admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
			{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("70000")},
			{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kadm.StringPtr("compact")},
		}, topic))
		check(changed[0].Err)
		configs := map[string]string{}
		for _, config := range must(must(admin.DescribeTopicConfigs(ctx, topic)).On(topic, nil)).Configs {
			configs[config.Key] = config.MaybeValue()
		}
		equal(configs["retention.ms"], "70000", "retention.ms")
		equal(configs["cleanup.policy"], "delete,compact", "cleanup.policy")
		check(must(admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "cleanup.policy"}}, topic))[0].Err)

		produce(topic, numbers(0, 30), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		ends := must(admin.ListEndOffsets(ctx, topic))
		ends.Each(func(end kadm.ListedOffset) { equal(end.Offset, 10, "end") })
		before := kadm.Offsets{}
		before.AddOffset(topic, 1, 4, -1)
		check(must(admin.DeleteRecords(ctx, before))[topic][1].Err)
		starts := must(admin.ListStartOffsets(ctx, topic))
		equal(starts[topic][1].Offset, 4, "start")
		newest := must(admin.ListMaxTimestampOffsets(ctx, topic))
		equal(newest[topic][0].Err, nil, "newest")
		must(admin.DeleteTopic(ctx, topic))
		equal(must(admin.ListTopics(ctx)).Has(topic), false, "deleted")
		return nil
	})
}

func franzAdminGroups() {
	topic, group := named("lag"), named("lag-group")
	create(topic, 1)
	produce(topic, numbers(0, 10))
	member := join(group, topic)
	member.has(10)
	administered(func(ctx context.Context, admin *kadm.Client) any {
		described := must(admin.DescribeGroups(ctx, group))[group]
		equal(described.State, "Stable", "state")
		equal(len(described.Members), 1, "members")
		_, err := admin.DeleteGroup(ctx, group)
		equal(errors.Is(err, kerr.NonEmptyGroup), true, "not empty")
		member.leave()
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, 7, -1)
		check(admin.CommitAllOffsets(ctx, group, offsets))
		equal(must(admin.FetchOffsets(ctx, group))[topic][0].At, 7, "committed")
		lags := must(admin.Lag(ctx, group))
		lag := lags[group]
		check(lag.Error())
		equal(lag.Lag.Total(), 3, "lag")
		listed := must(admin.ListGroups(ctx))
		equal(listed[group].State, "Empty", "listed")
		check(must(admin.DeleteOffsets(ctx, group, kadm.Offsets{topic: {0: {}}}.TopicsSet()))[topic][0])
		must(admin.DeleteGroup(ctx, group))
		return nil
	})
}

func franzAdminCluster() {
	topic := named("cluster")
	create(topic, 1)
	produce(topic, []string{"x"})
	administered(func(ctx context.Context, admin *kadm.Client) any {
		metadata := must(admin.BrokerMetadata(ctx))
		equal(len(metadata.Brokers), 1, "brokers")
		equal(metadata.Controller, metadata.Brokers[0].NodeID, "controller")
		versions := must(admin.ApiVersions(ctx))[metadata.Controller]
		check(versions.Err)
		fetch, _ := versions.KeyMaxVersion(1)
		equal(fetch, 18, "the newest Fetch")
		// By the APIs and their versions: for 4.x it looks for those between brokers and of streams groups, too.
		equal(versions.VersionGuess(), "at least v3.9", "the release that it takes the broker for")
		sizes := must(admin.DescribeAllLogDirs(ctx, nil))
		partition, found := sizes[metadata.Controller].LookupPartition(topic, 0)
		equal(found && partition.Size > 0, true, "size of the partition")
		must(admin.DescribeBrokerConfigs(ctx, metadata.Controller))
		elected := must(admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{topic: {0: {}}}))
		equal(errors.Is(elected[topic][0].Err, kerr.ElectionNotNeeded), true, "election")
		equal(len(must(admin.ListPartitionReassignments(ctx, nil))), 0, "reassignments")

		client := franz(kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic))
		defer client.Close()
		check(client.BeginTransaction())
		check(client.ProduceSync(ctx, kgo.StringRecord("open")).FirstErr())
		described := must(admin.DescribeTransactions(ctx, topic))[topic]
		check(described.Err)
		equal(described.State, "Ongoing", "transaction")
		equal(must(admin.ListTransactions(ctx, []int64{described.ProducerID}, nil))[topic].State, "Ongoing", "listed")
		producers := must(admin.DescribeProducers(ctx, kadm.TopicsSet{topic: {0: {}}}))
		var ids []int64
		producers.EachProducer(func(producer kadm.DescribedProducer) { ids = append(ids, producer.ProducerID) })
		equal(slices.Contains(ids, described.ProducerID), true, "producers")
		check(client.EndTransaction(ctx, kgo.TryAbort))
		return nil
	})
}
