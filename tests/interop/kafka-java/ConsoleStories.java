import java.time.Duration;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeConsumerGroupsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The requests that kafbat's console, AKHQ and others like them make with Java's Admin client to fill their pages. */
public class ConsoleStories {
    static final String BROKER = System.getenv("KAFKA"), PREFIX = System.getenv("PREFIX");
    static final Map<String, Object> SETTINGS = Map.of("bootstrap.servers", BROKER, "request.timeout.ms", 60000, "default.api.timeout.ms", 60000);

    interface Story {
        void run(Admin admin, String name) throws Exception;
    }

    static final Map<String, Story> STORIES = Map.of(
        "brokers_page", ConsoleStories::brokersPage,
        "topics_page", ConsoleStories::topicsPage,
        "messages_page", ConsoleStories::messagesPage,
        "groups_page", ConsoleStories::groupsPage);

    public static void main(String[] names) {
        for (String name : names) {
            try (Admin admin = Admin.create(SETTINGS)) {
                STORIES.get(name).run(admin, PREFIX + "-" + name);
                System.out.println("ok " + name);
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.println("failed " + name + ": " + error);
            }
        }
        System.exit(0);
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    static void fill(Admin admin, String name, int records) throws Exception {
        admin.createTopics(List.of(new NewTopic(name, 2, (short) 1))).all().get();
        try (var producer = new KafkaProducer<>(SETTINGS, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < records; number++) {
                producer.send(new ProducerRecord<>(name, number % 2, "key" + number, "" + number)).get();
            }
        }
    }

    static void brokersPage(Admin admin, String name) throws Exception {
        var cluster = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
        int id = cluster.controller().get().id();
        check(cluster.nodes().get().size() == 1 && cluster.nodes().get().iterator().next().id() == id, "nodes");
        check(!cluster.clusterId().get().isEmpty(), "the cluster's id");
        var features = admin.describeFeatures().featureMetadata().get();
        check(features.finalizedFeatures().containsKey("metadata.version"), "the version that is shown");
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "" + id);
        Config config = admin.describeConfigs(List.of(broker), new DescribeConfigsOptions().includeSynonyms(true)
            .includeDocumentation(true)).all().get().get(broker);
        // AKHQ and kafbat look these up by name.
        for (String key : List.of("node.id", "num.partitions", "auto.create.topics.enable", "delete.topic.enable",
                "default.replication.factor", "message.max.bytes", "log.dirs", "listeners", "offsets.retention.minutes")) {
            check(config.get(key) != null && config.get(key).value() != null, key);
        }
        Map<String, LogDirDescription> directories = admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id);
        check(directories.values().stream().allMatch(it -> it.error() == null), "log directories");
        check(admin.describeMetadataQuorum().quorumInfo().get().leaderId() == id, "the quorum");
        check(admin.listPartitionReassignments().reassignments().get().isEmpty(), "reassignments");
        admin.listTransactions().all().get();
        admin.listConfigResources().all().get();
    }

    static void topicsPage(Admin admin, String name) throws Exception {
        fill(admin, name, 10);
        check(admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().contains(name), "listed");
        TopicDescription described = admin.describeTopics(List.of(name), new DescribeTopicsOptions()
            .includeAuthorizedOperations(true)).allTopicNames().get().get(name);
        check(described.partitions().size() == 2 && !described.isInternal(), "described");
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, name);
        Config config = admin.describeConfigs(List.of(topic)).all().get().get(topic);
        check(config.entries().size() > 30 && config.get("cleanup.policy").isDefault(), "the form of settings");
        Collection<TopicPartition> partitions = described.partitions().stream()
            .map(it -> new TopicPartition(name, it.partition())).toList();
        for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp())) {
            admin.listOffsets(partitions.stream().collect(Collectors.toMap(it -> it, it -> spec))).all().get();
        }
        long size = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).values().stream()
            .flatMap(it -> it.replicaInfos().entrySet().stream()).filter(it -> it.getKey().topic().equals(name))
            .mapToLong(it -> it.getValue().size()).sum();
        check(size > 0, "the topic's size");
        admin.describeProducers(partitions).all().get();
        var retention = new AlterConfigOp(new ConfigEntry("retention.ms", "1000000"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(topic, List.of(retention))).all().get();
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all().get();
        admin.deleteRecords(Map.of(new TopicPartition(name, 0), RecordsToDelete.beforeOffset(-1))).all().get();
        admin.deleteTopics(List.of(name)).all().get();
        check(!admin.listTopics().names().get().contains(name), "deleted");
    }

    /** Newest first, oldest first, from a time on: reading without a group. */
    static void messagesPage(Admin admin, String name) throws Exception {
        long before = System.currentTimeMillis();
        fill(admin, name, 10);
        try (var consumer = new KafkaConsumer<>(SETTINGS, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = List.of(new TopicPartition(name, 0), new TopicPartition(name, 1));
            check(consumer.partitionsFor(name).size() == 2, "partitions");
            consumer.assign(partitions);
            check(consumer.beginningOffsets(partitions).values().stream().allMatch(it -> it == 0), "begin");
            check(consumer.endOffsets(partitions).values().stream().allMatch(it -> it == 5), "end");
            var times = new LinkedHashMap<TopicPartition, Long>();
            partitions.forEach(it -> times.put(it, before - 60000));
            check(consumer.offsetsForTimes(times).values().stream().allMatch(it -> it.offset() == 0), "by time");
            partitions.forEach(it -> consumer.seek(it, 3));
            int count = 0;
            for (int round = 0; round < 240 && count < 4; round++) {
                count += consumer.poll(Duration.ofMillis(500)).count();
            }
            check(count == 4, count + " of the newest records");
        }
    }

    static void groupsPage(Admin admin, String name) throws Exception {
        fill(admin, name, 10);
        var settings = new LinkedHashMap<>(SETTINGS);
        settings.putAll(Map.of("group.id", name, "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(Set.of(name));
            int count = 0;
            for (int round = 0; round < 240 && count < 10; round++) {
                count += consumer.poll(Duration.ofMillis(500)).count();
            }
            consumer.commitSync();
            ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(name),
                new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all().get().get(name);
            check(described.members().size() == 1, "members");
            check(described.members().iterator().next().assignment().topicPartitions().size() == 2, "what it has");
            check(described.groupState().toString().equals("Stable"), "state");
        }
        check(admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get().stream()
            .anyMatch(it -> it.groupId().equals(name)), "listed");
        Map<TopicPartition, OffsetAndMetadata> offsets = admin.listConsumerGroupOffsets(
            Map.of(name, new ListConsumerGroupOffsetsSpec())).all().get().get(name);
        check(offsets.values().stream().allMatch(it -> it.offset() == 5), "committed");
        TopicPartition first = new TopicPartition(name, 0);
        admin.alterConsumerGroupOffsets(name, Map.of(first, new OffsetAndMetadata(2))).all().get();
        admin.deleteConsumerGroupOffsets(name, Set.of(new TopicPartition(name, 1))).all().get();
        offsets = admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get();
        check(offsets.size() == 1 && offsets.get(first).offset() == 2, "altered");
        admin.deleteConsumerGroups(List.of(name)).all().get();
    }
}
