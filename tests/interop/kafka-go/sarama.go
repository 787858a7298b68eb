package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var saramaStories = map[string]func(){
	"sync_producer":  saramaSyncProducer,
	"async_producer": saramaAsyncProducer,
	"old_and_new":    saramaOldAndNew,
	"consumer_group": saramaConsumerGroup,
	"offsets":        saramaOffsets,
	"transactions":   saramaTransactions,
	"exactly_once":   saramaExactlyOnce,
	"admin":          saramaAdmin,
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "sarama"
	config.Version = sarama.V4_3_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	return config
}

func saramaAdministered(work func(sarama.ClusterAdmin)) {
	admin := must(sarama.NewClusterAdmin([]string{broker}, saramaConfig()))
	defer admin.Close()
	work(admin)
}

func saramaCreate(topic string, partitions int32) {
	saramaAdministered(func(admin sarama.ClusterAdmin) {
		check(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	})
}

func saramaProduce(topic string, values []string, config *sarama.Config) {
	producer := must(sarama.NewSyncProducer([]string{broker}, config))
	defer producer.Close()
	check(producer.SendMessages(saramaMessages(topic, values)))
}

func saramaMessages(topic string, values []string) []*sarama.ProducerMessage {
	var messages []*sarama.ProducerMessage
	for _, value := range values {
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	}
	return messages
}

// saramaRead is what a partition has from its beginning on, for readers of committed records.
func saramaRead(topic string, count int, config *sarama.Config) []*sarama.ConsumerMessage {
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	consumer := must(sarama.NewConsumer([]string{broker}, config))
	defer consumer.Close()
	partition := must(consumer.ConsumePartition(topic, 0, sarama.OffsetOldest))
	defer partition.Close()
	var messages []*sarama.ConsumerMessage
	late := time.After(patience)
	for len(messages) < count {
		select {
		case message := <-partition.Messages():
			messages = append(messages, message)
		case <-late:
			panic(errors.New("records that did not come"))
		}
	}
	return messages
}

func saramaValues(messages []*sarama.ConsumerMessage) []string {
	var all []string
	for _, message := range messages {
		all = append(all, string(message.Value))
	}
	return all
}

func saramaSyncProducer() {
	topic := named("sync")
	saramaCreate(topic, 1)
	config := saramaConfig()
	config.Producer.Compression = sarama.CompressionGZIP
	producer := must(sarama.NewSyncProducer([]string{broker}, config))
	defer producer.Close()
	headers := []sarama.RecordHeader{{Key: []byte("b"), Value: []byte("2")}, {Key: []byte("b"), Value: []byte{0, 255}}}
	_, offset, err := producer.SendMessage(&sarama.ProducerMessage{
		Topic: topic, Key: sarama.StringEncoder("key"), Value: sarama.StringEncoder("value"), Headers: headers,
		Timestamp: time.UnixMilli(then),
	})
	check(err)
	equal(offset, 0, "offset")
	check(producer.SendMessages(saramaMessages(topic, numbers(0, 100))))
	messages := saramaRead(topic, 101, saramaConfig())
	first := messages[0]
	equal(string(first.Key), "key", "key")
	equal(first.Timestamp.UnixMilli(), then, "time")
	equal(len(first.Headers), 2, "headers")
	same(first.Headers[1].Value, []byte{0, 255}, "header")
	same(saramaValues(messages[1:]), numbers(0, 100), "values")
}

func saramaAsyncProducer() {
	topic := named("async")
	saramaCreate(topic, 1)
	for _, codec := range []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	} {
		config := saramaConfig()
		config.Producer.Compression = codec
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
		config.Producer.Flush.Frequency = 5 * time.Millisecond
		producer := must(sarama.NewAsyncProducer([]string{broker}, config))
		var acknowledged sync.WaitGroup
		acknowledged.Add(1)
		go func() {
			defer acknowledged.Done()
			for range 200 {
				<-producer.Successes()
			}
		}()
		for _, message := range saramaMessages(topic, numbers(0, 200)) {
			producer.Input() <- message
		}
		acknowledged.Wait()
		check(producer.Close())
	}
	values := saramaValues(saramaRead(topic, 1000, saramaConfig()))
	for round := range 5 {
		same(values[200*round:200*(round+1)], numbers(0, 200), "values")
	}
}

// Releases that applications say their broker has, which fixes the versions of requests.
func saramaOldAndNew() {
	for _, version := range []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V1_1_1_0, sarama.V2_1_0_0, sarama.V2_8_0_0, sarama.MaxVersion} {
		topic := named("version-" + version.String())
		saramaCreate(topic, 1)
		config := saramaConfig()
		config.Version = version
		saramaProduce(topic, numbers(0, 10), config)
		same(saramaValues(saramaRead(topic, 10, config)), numbers(0, 10), version.String())
	}
}

// saramaMember is one of a group; it knows what it has, and marks what it gets.
type saramaMember struct {
	group  sarama.ConsumerGroup
	mutex  sync.Mutex
	owned  int
	got    []string
	cancel context.CancelFunc
	done   chan struct{}
}

func (member *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	for _, partitions := range session.Claims() {
		member.owned = len(partitions)
	}
	return nil
}

func (member *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (member *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			member.mutex.Lock()
			member.got = append(member.got, string(message.Value))
			member.mutex.Unlock()
			session.MarkMessage(message, "")
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaJoin(group, topic string) *saramaMember {
	config := saramaConfig()
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRoundRobin()}
	member := &saramaMember{group: must(sarama.NewConsumerGroup([]string{broker}, group, config)), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	member.cancel = cancel
	go func() {
		defer close(member.done)
		for ctx.Err() == nil {
			if err := member.group.Consume(ctx, []string{topic}, member); err != nil {
				return
			}
		}
	}()
	return member
}

func (member *saramaMember) is(what string, holds func() bool) {
	until(what, func() bool {
		member.mutex.Lock()
		defer member.mutex.Unlock()
		return holds()
	})
}

func (member *saramaMember) leave() {
	member.cancel()
	<-member.done
	check(member.group.Close())
}

func saramaConsumerGroup() {
	topic, group := named("group"), named("group-group")
	saramaCreate(topic, 4)
	first := saramaJoin(group, topic)
	first.is("the first has all", func() bool { return first.owned == 4 })
	second := saramaJoin(group, topic)
	first.is("the first has two", func() bool { return first.owned == 2 })
	second.is("the second has two", func() bool { return second.owned == 2 })
	config := saramaConfig()
	config.Producer.Partitioner = sarama.NewRoundRobinPartitioner
	saramaProduce(topic, numbers(0, 40), config)
	first.is("half of the records", func() bool { return len(first.got) == 20 })
	second.is("the other half", func() bool { return len(second.got) == 20 })
	second.leave()
	first.is("the first has all again", func() bool { return first.owned == 4 })
	first.leave()
	saramaProduce(topic, numbers(40, 44), config)
	third := saramaJoin(group, topic)
	third.is("what came since", func() bool { return len(third.got) == 4 })
	third.leave()
	slices.Sort(third.got)
	same(third.got, numbers(40, 44), "from what was committed")
}

func saramaOffsets() {
	topic, group := named("offsets"), named("offsets-group")
	saramaCreate(topic, 1)
	var messages []*sarama.ProducerMessage
	for number, message := range saramaMessages(topic, numbers(0, 10)) {
		message.Timestamp = time.UnixMilli(then + int64(number)*1000)
		messages = append(messages, message)
	}
	producer := must(sarama.NewSyncProducer([]string{broker}, saramaConfig()))
	defer producer.Close()
	for _, message := range messages {
		_, _, err := producer.SendMessage(message)
		check(err)
	}
	client := must(sarama.NewClient([]string{broker}, saramaConfig()))
	defer client.Close()
	equal(must(client.GetOffset(topic, 0, sarama.OffsetNewest)), 10, "newest")
	equal(must(client.GetOffset(topic, 0, sarama.OffsetOldest)), 0, "oldest")
	equal(must(client.GetOffset(topic, 0, then+3500)), 4, "by time")
	manager := must(sarama.NewOffsetManagerFromClient(group, client))
	partition := must(manager.ManagePartition(topic, 0))
	partition.MarkOffset(6, "a note")
	manager.Commit()
	check(partition.Close())
	check(manager.Close())
	again := must(sarama.NewOffsetManagerFromClient(group, client))
	defer again.Close()
	partition = must(again.ManagePartition(topic, 0))
	offset, note := partition.NextOffset()
	equal(offset, 6, "committed")
	equal(note, "a note", "note")
	check(partition.Close())
}

func saramaTransactional(id string) *sarama.Config {
	config := saramaConfig()
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = id
	config.Net.MaxOpenRequests = 1
	return config
}

func saramaTransactions() {
	topic := named("transactions")
	saramaCreate(topic, 1)
	producer := must(sarama.NewSyncProducer([]string{broker}, saramaTransactional(topic)))
	defer producer.Close()
	for _, it := range []struct {
		value string
		end   func() error
	}{{"kept 1", producer.CommitTxn}, {"dropped", producer.AbortTxn}, {"kept 2", producer.CommitTxn}} {
		check(producer.BeginTxn())
		check(producer.SendMessages(saramaMessages(topic, []string{it.value, it.value})))
		check(it.end())
	}
	values := saramaValues(saramaRead(topic, 4, saramaConfig()))
	same(values, []string{"kept 1", "kept 1", "kept 2", "kept 2"}, "committed")
}

func saramaExactlyOnce() {
	input, output, group := named("once-in"), named("once-out"), named("once-group")
	saramaCreate(input, 1)
	saramaCreate(output, 1)
	saramaProduce(input, numbers(0, 20), saramaConfig())
	messages := saramaRead(input, 20, saramaConfig())
	producer := must(sarama.NewSyncProducer([]string{broker}, saramaTransactional(group)))
	defer producer.Close()
	committed := func() int64 {
		var offset int64
		saramaAdministered(func(admin sarama.ClusterAdmin) {
			found := must(admin.ListConsumerGroupOffsets(group, map[string][]int32{input: {0}}))
			offset = found.GetBlock(input, 0).Offset
		})
		return offset
	}
	for _, end := range []func() error{producer.AbortTxn, producer.CommitTxn} {
		check(producer.BeginTxn())
		for _, message := range messages[:12] {
			check(producer.SendMessages(saramaMessages(output, []string{string(message.Value)})))
			check(producer.AddMessageToTxn(message, group, nil))
		}
		equal(committed(), -1, "before the end")
		check(end())
	}
	equal(committed(), 12, "committed")
	same(saramaValues(saramaRead(output, 12, saramaConfig())), numbers(0, 12), "copied")
}

func saramaAdmin() {
	topic, group := named("admin"), named("admin-group")
	saramaAdministered(func(admin sarama.ClusterAdmin) {
		value := "60000"
		detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &value}}
		check(admin.CreateTopic(topic, detail, false))
		equal(errors.Is(admin.CreateTopic(topic, detail, false), sarama.ErrTopicAlreadyExists), true, "it is there")
		check(admin.CreatePartitions(topic, 3, nil, false))
		listed := must(admin.ListTopics())
		equal(listed[topic].NumPartitions, 3, "partitions")
		equal(*listed[topic].ConfigEntries["retention.ms"], "60000", "listed config")
		changed := "70000"
		check(admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
			"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &changed},
		}, false))
		entries := must(admin.DescribeConfig(sarama.ConfigResource{
			Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"},
		}))
		equal(len(entries), 1, "configs asked for")
		equal(entries[0].Value, "70000", "config")
		check(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &value}, false))

		brokers, controller, err := admin.DescribeCluster()
		check(err)
		equal(len(brokers), 1, "brokers")
		equal(brokers[0].ID(), controller, "controller")
		dirs := must(admin.DescribeLogDirs([]int32{controller}))
		equal(len(dirs[controller]), 1, "log directories")

		config := saramaConfig()
		config.Producer.Partitioner = sarama.NewManualPartitioner
		saramaProduce(topic, numbers(0, 10), config)
		check(admin.DeleteRecords(topic, map[int32]int64{0: 4}))
		found := must(admin.ListOffsets(map[string]map[int32]int64{topic: {0: sarama.OffsetOldest}}, nil))
		equal(found[topic][0].Offset, 4, "deleted before")

		member := saramaJoin(group, topic)
		member.is("the rest", func() bool { return len(member.got) == 6 })
		described := must(admin.DescribeConsumerGroups([]string{group}))
		equal(described[0].State, "Stable", "state")
		equal(must(admin.ListConsumerGroups())[group], "consumer", "listed")
		member.leave()
		_, err = admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 5}}}, nil)
		check(err)
		offsets := must(admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}}))
		equal(offsets.GetBlock(topic, 0).Offset, 5, "altered")
		check(admin.DeleteConsumerGroupOffset(group, topic, 0))
		check(admin.DeleteConsumerGroup(group))
		check(admin.DeleteTopic(topic))
	})
}
