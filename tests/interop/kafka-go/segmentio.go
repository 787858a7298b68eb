package main

import (
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

var segmentioStories = map[string]func(){"write_and_read": segmentioWriteAndRead, "group": segmentioGroup, "admin": segmentioAdmin}

func segmentioCreate(topic string, partitions int) {
	connection := must(kafka.Dial("tcp", broker))
	defer connection.Close()
	check(connection.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}))
}

// segmentioWrite has a transport of its own: the shared one remembers for seconds which topics there are.
func segmentioWrite(topic string, values []string, codec kafka.Compression) {
	writer := &kafka.Writer{
		Addr: kafka.TCP(broker), Topic: topic, RequiredAcks: kafka.RequireAll, Compression: codec,
		BatchTimeout: 5 * time.Millisecond, Balancer: &kafka.RoundRobin{}, Transport: &kafka.Transport{},
	}
	defer writer.Close()
	var messages []kafka.Message
	for _, value := range values {
		messages = append(messages, kafka.Message{
			Key: []byte("key"), Value: []byte(value), Headers: []kafka.Header{{Key: "h", Value: []byte(value)}},
		})
	}
	ctx, cancel := within()
	defer cancel()
	check(writer.WriteMessages(ctx, messages...))
}

func segmentioWriteAndRead() {
	for _, codec := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		topic := named("kafka-go-" + codec.String())
		segmentioCreate(topic, 1)
		segmentioWrite(topic, numbers(0, 100), codec)
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker}, Topic: topic, MaxWait: 200 * time.Millisecond})
		ctx, cancel := within()
		for _, value := range numbers(0, 100) {
			message := must(reader.ReadMessage(ctx))
			equal(string(message.Value), value, codec.String())
			equal(string(message.Headers[0].Value), value, "header")
		}
		check(reader.SetOffset(97))
		equal(string(must(reader.ReadMessage(ctx)).Value), "97", "after a seek")
		cancel()
		check(reader.Close())
	}
}

func segmentioGroup() {
	topic, group := named("kafka-go-group"), named("kafka-go-members")
	segmentioCreate(topic, 2)
	segmentioWrite(topic, numbers(0, 20), 0)
	ctx, cancel := within()
	defer cancel()
	read := func(count int) []string {
		reader := kafka.NewReader(kafka.ReaderConfig{
			Brokers: []string{broker}, GroupID: group, Topic: topic, MaxWait: 200 * time.Millisecond, StartOffset: kafka.FirstOffset,
			HeartbeatInterval: 100 * time.Millisecond, SessionTimeout: 6 * time.Second, JoinGroupBackoff: 100 * time.Millisecond,
		})
		defer reader.Close()
		var values []string
		for range count {
			message := must(reader.FetchMessage(ctx))
			check(reader.CommitMessages(ctx, message))
			values = append(values, string(message.Value))
		}
		return values
	}
	all := append(read(12), read(8)...)
	slices.Sort(all)
	expected := numbers(0, 20)
	slices.Sort(expected)
	same(all, expected, "each once")
}

func segmentioAdmin() {
	topic := named("kafka-go-admin")
	segmentioCreate(topic, 2)
	client := &kafka.Client{Addr: kafka.TCP(broker), Transport: &kafka.Transport{}}
	ctx, cancel := within()
	defer cancel()
	metadata := must(client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}}))
	equal(len(metadata.Topics[0].Partitions), 2, "partitions")
	versions := must(client.ApiVersions(ctx, &kafka.ApiVersionsRequest{}))
	equal(len(versions.ApiKeys) > 40, true, "keys")
	configs := must(client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}},
	}))
	equal(len(configs.Resources[0].ConfigEntries) > 20, true, "configs")
	offsets := must(client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(0), kafka.FirstOffsetOf(1)}},
	}))
	equal(len(offsets.Topics[topic]), 2, "offsets")
	deleted := must(client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}}))
	check(deleted.Errors[topic])
}
