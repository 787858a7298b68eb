import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Function;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Share groups (KIP-932) as Java's client uses them. */
public class ShareStories {
    static final String BROKER = System.getenv("KAFKA"), PREFIX = System.getenv("PREFIX");

    interface Story {
        void run(String name) throws Exception;
    }

    static final Map<String, Story> STORIES = Map.of(
        "records_are_shared", ShareStories::recordsAreShared,
        "release_and_reject", ShareStories::releaseAndReject,
        "delivery_count_is_limited", ShareStories::deliveryCountIsLimited,
        "closing_gives_back", ShareStories::closingGivesBack);

    public static void main(String[] names) {
        for (String name : names) {
            try {
                STORIES.get(name).run(PREFIX + "-" + name);
                System.out.println("ok " + name);
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.println("failed " + name + ": " + error);
            }
        }
        System.exit(0);
    }

    static KafkaShareConsumer<String, String> consumer(String name) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", BROKER);
        settings.put("group.id", name);
        settings.put("share.acknowledgement.mode", "explicit");
        settings.put("key.deserializer", StringDeserializer.class);
        settings.put("value.deserializer", StringDeserializer.class);
        KafkaShareConsumer<String, String> consumer = new KafkaShareConsumer<>(settings);
        consumer.subscribe(Set.of(name));
        return consumer;
    }

    static void create(String name) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", BROKER))) {
            admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all().get();
        }
    }

    static void produce(String name, int from, int to) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", BROKER);
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = from; number < to; number++) {
                producer.send(new ProducerRecord<>(name, "" + number));
            }
        }
    }

    /** Polls until the group has begun: it begins at the end of the log. */
    static void begin(String name, KafkaShareConsumer<String, String> consumer) throws Exception {
        for (int round = 0; round < 240; round++) {
            produce(name, -1, 0);
            List<ConsumerRecord<String, String>> records = poll(consumer, 500);
            for (ConsumerRecord<String, String> record : records) {
                consumer.acknowledge(record, AcknowledgeType.ACCEPT);
            }
            consumer.commitSync();
            if (!records.isEmpty()) {
                drain(consumer);
                return;
            }
        }
        throw new AssertionError("the group has not begun");
    }

    static void drain(KafkaShareConsumer<String, String> consumer) {
        List<ConsumerRecord<String, String>> records;
        do {
            records = poll(consumer, 600);
            records.forEach(record -> consumer.acknowledge(record, AcknowledgeType.ACCEPT));
            consumer.commitSync();
        } while (!records.isEmpty());
    }

    static List<ConsumerRecord<String, String>> poll(KafkaShareConsumer<String, String> consumer, int millis) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        consumer.poll(Duration.ofMillis(millis)).forEach(records::add);
        return records;
    }

    /** Polls until so many records have come; `fate` says what becomes of each. */
    static List<ConsumerRecord<String, String>> take(
            KafkaShareConsumer<String, String> consumer, int count,
            Function<ConsumerRecord<String, String>, AcknowledgeType> fate) {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        for (int round = 0; round < 240 && all.size() < count; round++) {
            for (ConsumerRecord<String, String> record : poll(consumer, 500)) {
                consumer.acknowledge(record, fate.apply(record));
                all.add(record);
            }
            consumer.commitSync();
        }
        check(all.size() >= count, all.size() + " of " + count + " records");
        return all;
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    static void recordsAreShared(String name) throws Exception {
        create(name);
        try (KafkaShareConsumer<String, String> one = consumer(name); KafkaShareConsumer<String, String> two = consumer(name)) {
            begin(name, one);
            poll(two, 1000);
            produce(name, 0, 200);
            Set<Integer> seen = new TreeSet<>();
            for (int round = 0; round < 300 && seen.size() < 200; round++) {
                for (KafkaShareConsumer<String, String> consumer : List.of(one, two)) {
                    for (ConsumerRecord<String, String> record : poll(consumer, 200)) {
                        check(seen.add(Integer.parseInt(record.value())), "twice: " + record.value());
                        consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                    }
                    consumer.commitSync();
                }
            }
            check(seen.size() == 200, seen.size() + " records");
        }
    }

    static void releaseAndReject(String name) throws Exception {
        create(name);
        try (KafkaShareConsumer<String, String> consumer = consumer(name)) {
            begin(name, consumer);
            produce(name, 0, 10);
            take(consumer, 10, record -> switch (Integer.parseInt(record.value()) % 3) {
                case 0 -> AcknowledgeType.ACCEPT;
                case 1 -> AcknowledgeType.RELEASE;
                default -> AcknowledgeType.REJECT;
            });
            List<ConsumerRecord<String, String>> again = take(consumer, 3, record -> AcknowledgeType.ACCEPT);
            List<String> values = again.stream().map(ConsumerRecord::value).toList();
            check(values.equals(List.of("1", "4", "7")), values.toString());
            check(again.stream().allMatch(record -> record.deliveryCount().get() == 2), "delivery counts");
            check(poll(consumer, 1000).isEmpty(), "rejected records came again");
        }
    }

    static void deliveryCountIsLimited(String name) throws Exception {
        create(name);
        try (KafkaShareConsumer<String, String> consumer = consumer(name)) {
            begin(name, consumer);
            produce(name, 0, 1);
            List<ConsumerRecord<String, String>> all = take(consumer, 5, record -> AcknowledgeType.RELEASE);
            check(all.size() == 5, all.size() + " deliveries");
            check(poll(consumer, 1500).isEmpty(), "delivered more than five times");
        }
    }

    static void closingGivesBack(String name) throws Exception {
        create(name);
        KafkaShareConsumer<String, String> first = consumer(name);
        begin(name, first);
        produce(name, 0, 5);
        List<ConsumerRecord<String, String>> held = new ArrayList<>();
        for (int round = 0; round < 240 && held.isEmpty(); round++) {
            held.addAll(poll(first, 500));
        }
        check(!held.isEmpty(), "nothing came");
        held.forEach(record -> first.acknowledge(record, AcknowledgeType.RELEASE));
        first.close();
        try (KafkaShareConsumer<String, String> second = consumer(name)) {
            take(second, 5, record -> AcknowledgeType.ACCEPT);
        }
    }
}
