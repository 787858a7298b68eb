import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.BackOff;
import org.springframework.kafka.annotation.DltHandler;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.EnableKafkaRetryTopic;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.annotation.RetryableTopic;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.config.KafkaListenerEndpointRegistry;
import org.springframework.kafka.config.ShareKafkaListenerContainerFactory;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.DefaultShareConsumerFactory;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.core.ProducerFactory;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.ContainerProperties.AckMode;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.support.Acknowledgment;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.kafka.support.ShareAcknowledgment;
import org.springframework.kafka.transaction.KafkaTransactionManager;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.messaging.handler.annotation.SendTo;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.util.backoff.FixedBackOff;

/** Spring for Apache Kafka: templates, listeners, retries, replies and transactions, as applications with Spring Boot use them. */
public class SpringKafka {
    static final String BROKER = System.getenv("KAFKA"), PREFIX = System.getenv("PREFIX");
    static final long PATIENCE_SECONDS = 120;
    static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));
    /** What the listeners of a story tell of what they are given. */
    static final BlockingQueue<String> SEEN = new LinkedBlockingQueue<>();

    interface Story {
        void run(AnnotationConfigApplicationContext context, String topic) throws Exception;
    }

    record Told(Class<?> listeners, Story story) {
    }

    static final Map<String, Told> STORIES = Map.of(
        "retry_topics", new Told(RetryTopics.class, RetryTopics::tell),
        "dead_letters", new Told(DeadLetters.class, DeadLetters::tell),
        "request_and_reply", new Told(Replies.class, Replies::tell),
        "batches_acknowledged_in_part", new Told(Batches.class, Batches::tell),
        "exactly_once_over_a_restart", new Told(Copies.class, Copies::tell),
        "consumer_protocol", new Told(NewProtocol.class, NewProtocol::tell),
        "share_listener", new Told(Shares.class, Shares::tell));

    public static void main(String[] names) {
        for (String name : names) {
            Told told = STORIES.get(name);
            String topic = PREFIX + "-" + name;
            System.setProperty("topic", topic);
            SEEN.clear();
            try (var context = new AnnotationConfigApplicationContext(Application.class, told.listeners)) {
                told.story.run(context, topic);
                System.out.println("ok " + name);
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.println("failed " + name + ": " + error);
            }
        }
        System.exit(0);
    }

    /** What Spring Boot would set up. */
    @Configuration
    @EnableKafka
    static class Application {
        @Bean
        KafkaAdmin admin() {
            return new KafkaAdmin(Map.of("bootstrap.servers", BROKER));
        }

        @Bean
        ProducerFactory<String, String> producers() {
            return new DefaultKafkaProducerFactory<>(Map.of("bootstrap.servers", BROKER), new StringSerializer(), new StringSerializer());
        }

        @Bean
        KafkaTemplate<String, String> template(ProducerFactory<String, String> producers) {
            return new KafkaTemplate<>(producers);
        }

        @Bean
        ConsumerFactory<String, String> consumers() {
            return consumers(Map.of());
        }

        @Bean
        ConcurrentKafkaListenerContainerFactory<String, String> kafkaListenerContainerFactory(
                ConsumerFactory<String, String> consumers, KafkaTemplate<String, String> template) {
            var factory = containers(consumers);
            factory.setReplyTemplate(template);
            return factory;
        }

        static ConsumerFactory<String, String> consumers(Map<String, Object> more) {
            Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", BROKER, "auto.offset.reset", "earliest"));
            settings.putAll(more);
            return new DefaultKafkaConsumerFactory<>(settings, new StringDeserializer(), new StringDeserializer());
        }

        static ConcurrentKafkaListenerContainerFactory<String, String> containers(ConsumerFactory<String, String> consumers) {
            var factory = new ConcurrentKafkaListenerContainerFactory<String, String>();
            factory.setConsumerFactory(consumers);
            return factory;
        }
    }

    /** Retries over topics of their own, each later than the one before, and a dead-letter topic at their end. */
    @EnableKafkaRetryTopic
    static class RetryTopics {
        @Bean
        ThreadPoolTaskScheduler scheduler() {
            return new ThreadPoolTaskScheduler();
        }

        @RetryableTopic(attempts = "3", backOff = @BackOff(delay = 50, multiplier = 2), kafkaTemplate = "template", numPartitions = "2")
        @KafkaListener(id = "${topic}-retry", topics = "${topic}")
        void listen(String value, @Header(KafkaHeaders.RECEIVED_TOPIC) String topic) {
            SEEN.add(value + " in " + suffix(topic));
            if (value.equals("bad") || value.equals("shy") && suffix(topic).equals("its topic")) {
                throw new IllegalStateException("not this time");
            }
        }

        @DltHandler
        void dead(ConsumerRecord<String, String> record) {
            var original = new String(record.headers().lastHeader(KafkaHeaders.ORIGINAL_TOPIC).value(), StandardCharsets.UTF_8);
            SEEN.add(record.value() + " dead, from " + suffix(original));
        }

        static String suffix(String topic) {
            return topic.equals(System.getProperty("topic")) ? "its topic" : topic.substring(System.getProperty("topic").length());
        }

        static void tell(AnnotationConfigApplicationContext context, String topic) throws Exception {
            for (String value : List.of("good", "shy", "bad")) {
                template(context).send(topic, value, value).get();
            }
            equal(next(7), new TreeSet<>(Set.of("good in its topic", "shy in its topic", "shy in -retry-50", "bad in its topic",
                "bad in -retry-50", "bad in -retry-100", "bad dead, from its topic")), "what was seen where");
        }
    }

    /** Retries in place, and then a dead-letter topic, in the same partition and with the reason. */
    static class DeadLetters {
        @Bean
        ConcurrentKafkaListenerContainerFactory<String, String> strict(ConsumerFactory<String, String> consumers, KafkaTemplate<String, String> template) {
            var factory = Application.containers(consumers);
            factory.setCommonErrorHandler(new DefaultErrorHandler(new DeadLetterPublishingRecoverer(template), new FixedBackOff(0, 2)));
            return factory;
        }

        @Bean
        KafkaAdmin.NewTopics topics() {
            String topic = System.getProperty("topic");
            return new KafkaAdmin.NewTopics(TopicBuilder.name(topic).partitions(3).build(), TopicBuilder.name(topic + "-dlt").partitions(3).build());
        }

        @KafkaListener(id = "${topic}-strict", topics = "${topic}", containerFactory = "strict")
        void listen(String value) {
            SEEN.add(value);
            if (value.equals("bad")) {
                throw new IllegalStateException("never");
            }
        }

        @KafkaListener(id = "${topic}-dead", topics = "${topic}-dlt")
        void dead(ConsumerRecord<String, String> record) {
            SEEN.add(record.value() + " dead in " + record.partition());
        }

        static void tell(AnnotationConfigApplicationContext context, String topic) throws Exception {
            for (String value : List.of("bad", "good")) {
                template(context).send(topic, 2, "key", value).get();
            }
            equal(nextInOrder(5).stream().sorted().toList(), List.of("bad", "bad", "bad", "bad dead in 2", "good"), "what was seen");
        }
    }

    /** A template that waits for the answer of a listener. */
    static class Replies {
        @Bean
        ConcurrentMessageListenerContainer<String, String> answers(ConcurrentKafkaListenerContainerFactory<String, String> factory) {
            var container = factory.createContainer(System.getProperty("topic") + "-answers");
            container.getContainerProperties().setGroupId(System.getProperty("topic") + "-requester");
            return container;
        }

        @Bean
        ReplyingKafkaTemplate<String, String, String> requester(ProducerFactory<String, String> producers, ConcurrentMessageListenerContainer<String, String> answers) {
            return new ReplyingKafkaTemplate<>(producers, answers);
        }

        @KafkaListener(id = "${topic}-server", topics = "${topic}")
        @SendTo
        String serve(String question) {
            return question.toUpperCase();
        }

        static void tell(AnnotationConfigApplicationContext context, String topic) throws Exception {
            @SuppressWarnings("unchecked")
            ReplyingKafkaTemplate<String, String, String> requester = context.getBean("requester", ReplyingKafkaTemplate.class);
            requester.waitForAssignment(Duration.ofSeconds(PATIENCE_SECONDS));
            for (String question : List.of("one", "two", "three")) {
                var answer = requester.sendAndReceive(new ProducerRecord<>(topic, question), Duration.ofSeconds(PATIENCE_SECONDS));
                equal(answer.get(PATIENCE_SECONDS, TimeUnit.SECONDS).value(), question.toUpperCase(), "answer");
            }
        }
    }

    /** A listener of batches that says from where on it wants one again. */
    static class Batches {
        static final int COUNT = 50, TURNED_DOWN = 20;
        boolean turnedDown;

        @Bean
        ConcurrentKafkaListenerContainerFactory<String, String> batches(ConsumerFactory<String, String> consumers) {
            var factory = Application.containers(consumers);
            factory.setBatchListener(true);
            factory.getContainerProperties().setAckMode(AckMode.MANUAL_IMMEDIATE);
            return factory;
        }

        @KafkaListener(id = "${topic}-batches", topics = "${topic}", containerFactory = "batches", autoStartup = "false")
        void listen(List<String> values, Acknowledgment acknowledgment) {
            int wrong = turnedDown ? -1 : values.indexOf("" + TURNED_DOWN);
            turnedDown |= wrong >= 0;
            SEEN.addAll(wrong < 0 ? values : values.subList(0, wrong));
            if (wrong < 0) {
                acknowledgment.acknowledge();
            } else {
                acknowledgment.nack(wrong, Duration.ofMillis(10));
            }
        }

        static void tell(AnnotationConfigApplicationContext context, String topic) throws Exception {
            for (int number = 0; number < COUNT; number++) {
                template(context).send(topic, 0, null, "" + number).get();
            }
            start(context, topic + "-batches");
            equal(nextInOrder(COUNT), numbers(COUNT), "each once, in order");
        }
    }

    /** Records are copied by transactions that hold their offsets; the listener fails now and then, the broker once. */
    @Configuration
    static class Copies {
        static final int COUNT = 200;
        static final Set<String> FAILED = ConcurrentHashMap.newKeySet();

        @Bean
        ProducerFactory<String, String> transactional() {
            var factory = new DefaultKafkaProducerFactory<>(Map.of("bootstrap.servers", (Object) BROKER), new StringSerializer(), new StringSerializer());
            factory.setTransactionIdPrefix(System.getProperty("topic") + "-");
            return factory;
        }

        @Bean
        KafkaTemplate<String, String> copier() {
            return new KafkaTemplate<>(transactional());
        }

        @Bean
        ConcurrentKafkaListenerContainerFactory<String, String> copies() {
            var factory = Application.containers(Application.consumers(Map.of("isolation.level", "read_committed", "max.poll.records", 5)));
            factory.getContainerProperties().setKafkaAwareTransactionManager(new KafkaTransactionManager<>(transactional()));
            return factory;
        }

        @Bean
        ConcurrentKafkaListenerContainerFactory<String, String> committed() {
            return Application.containers(Application.consumers(Map.of("isolation.level", "read_committed")));
        }

        @KafkaListener(id = "${topic}-copies", topics = "${topic}", containerFactory = "copies", autoStartup = "false")
        void copy(String value) {
            copier().send(System.getProperty("topic") + "-copied", value);
            if (value.endsWith("7") && FAILED.add(value)) {
                throw new IllegalStateException("not this time");
            }
        }

        @Bean
        KafkaAdmin.NewTopics topics() {
            String topic = System.getProperty("topic");
            return new KafkaAdmin.NewTopics(TopicBuilder.name(topic).build(), TopicBuilder.name(topic + "-copied").build());
        }

        @KafkaListener(id = "${topic}-reader", topics = "${topic}-copied", containerFactory = "committed")
        void read(String value) {
            SEEN.add(value);
        }

        static void tell(AnnotationConfigApplicationContext context, String topic) throws Exception {
            for (int number = 0; number < COUNT; number++) {
                template(context).send(topic, "" + number).get();
            }
            start(context, topic + "-copies");
            List<String> copied = nextInOrder(COUNT / 4);
            System.out.println("restart");
            ANSWERS.readLine();
            copied.addAll(nextInOrder(COUNT - COUNT / 4));
            equal(Set.copyOf(copied), Set.copyOf(numbers(COUNT)), "what was copied");
            equal(copied.size(), COUNT, "copies");
            equal(SEEN.poll(1, TimeUnit.SECONDS), null, "a copy too many");
        }
    }

    /** Three consumers of one container in the consumer protocol (KIP-848). */
    static class NewProtocol {
        static final int COUNT = 60, PARTITIONS = 6;

        @Bean
        KafkaAdmin.NewTopics topics() {
            return new KafkaAdmin.NewTopics(TopicBuilder.name(System.getProperty("topic")).partitions(PARTITIONS).build());
        }

        @Bean
        ConcurrentKafkaListenerContainerFactory<String, String> members() {
            var factory = Application.containers(Application.consumers(Map.of("group.protocol", "consumer")));
            factory.setConcurrency(3);
            // A member takes and gives up partitions between two polls only.
            factory.getContainerProperties().setPollTimeout(100);
            return factory;
        }

        @KafkaListener(id = "${topic}-members", topics = "${topic}", containerFactory = "members")
        void listen(String value) {
            SEEN.add(value);
        }

        static void tell(AnnotationConfigApplicationContext context, String topic) throws Exception {
            var registry = context.getBean(KafkaListenerEndpointRegistry.class);
            var container = (ConcurrentMessageListenerContainer<?, ?>) registry.getListenerContainer(topic + "-members");
            eventually(() -> container.getContainers().stream().allMatch(it -> it.getAssignedPartitions() != null && it.getAssignedPartitions().size() == 2),
                "two partitions for each of three members");
            Set<TopicPartition> assigned = Set.copyOf(container.getAssignedPartitions());
            equal(assigned.size(), PARTITIONS, "partitions in all");
            for (int number = 0; number < COUNT; number++) {
                template(context).send(topic, number % PARTITIONS, null, "" + number).get();
            }
            equal(next(COUNT), new TreeSet<>(numbers(COUNT)), "what was seen");
        }
    }

    /** A listener of a share group that acknowledges, releases and rejects record by record. */
    static class Shares {
        static final Set<String> RELEASED = ConcurrentHashMap.newKeySet();

        @Bean
        KafkaAdmin.NewTopics topics() {
            return new KafkaAdmin.NewTopics(TopicBuilder.name(System.getProperty("topic")).build());
        }

        @Bean
        ShareKafkaListenerContainerFactory<String, String> shares() {
            Map<String, Object> settings = Map.of("bootstrap.servers", BROKER, "share.acknowledgement.mode", "explicit");
            var factory = new ShareKafkaListenerContainerFactory<String, String>(
                new DefaultShareConsumerFactory<>(settings, StringDeserializer::new, StringDeserializer::new));
            factory.getContainerProperties().setExplicitShareAcknowledgment(true);
            return factory;
        }

        @KafkaListener(id = "${topic}-shares", topics = "${topic}", containerFactory = "shares")
        void listen(ConsumerRecord<String, String> record, ShareAcknowledgment acknowledgment) {
            SEEN.add(record.value() + " " + record.deliveryCount().orElseThrow());
            if (record.value().equals("rejected")) {
                acknowledgment.reject();
            } else if (record.value().equals("released") && RELEASED.add(record.value())) {
                acknowledgment.release();
            } else {
                acknowledgment.acknowledge();
            }
        }

        static void tell(AnnotationConfigApplicationContext context, String topic) throws Exception {
            // A share group begins at the end of the topic, when its first member has come.
            Set<String> seen = new TreeSet<>();
            eventually(() -> {
                template(context).send(topic, "first").get();
                String first = SEEN.poll(500, TimeUnit.MILLISECONDS);
                return first != null;
            }, "the first record");
            for (String value : List.of("accepted", "released", "rejected")) {
                template(context).send(topic, value).get();
            }
            while (!seen.contains("released 2") || !seen.contains("rejected 1")) {
                seen.addAll(next(1));
            }
            template(context).send(topic, "last").get();
            while (!seen.contains("last 1")) {
                seen.addAll(next(1));
            }
            seen.remove("first 1");
            equal(seen, new TreeSet<>(Set.of("accepted 1", "released 1", "released 2", "rejected 1", "last 1")), "deliveries");
        }
    }

    @SuppressWarnings("unchecked")
    static KafkaTemplate<String, String> template(AnnotationConfigApplicationContext context) {
        return context.getBean("template", KafkaTemplate.class);
    }

    static void start(AnnotationConfigApplicationContext context, String listener) {
        context.getBean(KafkaListenerEndpointRegistry.class).getListenerContainer(listener).start();
    }

    static List<String> numbers(int count) {
        return IntStream.range(0, count).mapToObj(it -> "" + it).collect(Collectors.toList());
    }

    /** The next things that listeners tell, in the order in which they told them. */
    static List<String> nextInOrder(int count) throws InterruptedException {
        List<String> found = new ArrayList<>();
        while (found.size() < count) {
            String one = SEEN.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (one == null) {
                throw new AssertionError(count + " expected, but only " + found);
            }
            found.add(one);
        }
        return found;
    }

    static Set<String> next(int count) throws InterruptedException {
        return new TreeSet<>(nextInOrder(count));
    }

    interface Check {
        boolean holds() throws Exception;
    }

    static void eventually(Check check, String what) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
        while (!check.holds()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError(what + ": never");
            }
            Thread.sleep(20);
        }
    }

    static void equal(Object actual, Object expected, String what) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(what + ": " + actual + " instead of " + expected);
        }
    }
}
