import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.CancelCallback;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.ConfirmListener;
import com.rabbitmq.client.DeliverCallback;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.RpcServer;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** RabbitMQ's own Java client. */
public final class JavaClient {
    private static final CancelCallback IGNORED = tag -> { };

    private JavaClient() {
    }

    private static Connection connect() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(Stories.URL);
        factory.setNetworkRecoveryInterval(200);
        return factory.newConnection();
    }

    private static byte[] bytes(Object value) {
        return value.toString().getBytes();
    }

    private static String text(byte[] body) {
        return new String(body);
    }

    /** Persistent jobs in confirmed batches; two workers share them, one job is given back. */
    static void workQueue() throws Exception {
        String queue = Stories.named("java-work");
        try (Connection connection = connect()) {
            Channel publisher = connection.createChannel();
            publisher.queueDeclare(queue, true, false, false, null);
            publisher.confirmSelect();
            TreeSet<Integer> done = new TreeSet<>();
            Map<Integer, Integer> shares = Collections.synchronizedMap(new HashMap<>());
            CountDownLatch all = new CountDownLatch(30);
            boolean[] given = {false};
            for (int worker = 0; worker < 2; worker++) {
                int number = worker;
                Channel channel = connection.createChannel();
                channel.basicQos(2);
                channel.basicConsume(queue, false, (tag, delivery) -> {
                    int job = Integer.parseInt(text(delivery.getBody()));
                    long deliveryTag = delivery.getEnvelope().getDeliveryTag();
                    synchronized (done) {
                        if (job == 7 && !given[0]) {
                            given[0] = true;
                            channel.basicNack(deliveryTag, false, true);
                            return;
                        }
                        if (job != 7 || delivery.getEnvelope().isRedeliver()) {
                            done.add(job);
                        }
                    }
                    shares.merge(number, 1, Integer::sum);
                    channel.basicAck(deliveryTag, false);
                    all.countDown();
                }, IGNORED);
            }
            for (int job = 0; job < 30; job++) {
                publisher.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes(job));
            }
            publisher.waitForConfirmsOrDie(15_000);
            Stories.equal(all.await(15, TimeUnit.SECONDS), true, "all jobs");
            Stories.equal(done.size(), 30, "each job, the one given back as redelivered");
            Stories.equal(shares.size(), 2, "workers");
            publisher.queueDelete(queue);
        }
    }

    static void topicExchange() throws Exception {
        String exchange = Stories.named("java-topics");
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.exchangeDeclare(exchange, "topic", false, true, null);
            Map<String, List<String>> wanted = new LinkedHashMap<>();
            wanted.put("kern.*", List.of("kern.critical"));
            wanted.put("*.critical", List.of("kern.critical", "cron.critical"));
            wanted.put("#", List.of("kern.critical", "cron.critical", "cron.info.daily"));
            Map<String, String> queues = new HashMap<>();
            for (String pattern : wanted.keySet()) {
                String queue = channel.queueDeclare().getQueue();
                channel.queueBind(queue, exchange, pattern);
                queues.put(pattern, queue);
            }
            for (String key : List.of("kern.critical", "cron.critical", "cron.info.daily")) {
                channel.basicPublish(exchange, key, null, bytes(key));
            }
            for (String pattern : wanted.keySet()) {
                for (String key : wanted.get(pattern)) {
                    GetResponse[] got = {null};
                    Stories.eventually(() -> (got[0] = channel.basicGet(queues.get(pattern), true)) != null, key);
                    Stories.equal(got[0].getEnvelope().getRoutingKey(), key, pattern);
                }
                Stories.equal(channel.basicGet(queues.get(pattern), true), null, "nothing else");
            }
        }
    }

    /** The client's RpcServer and RpcClient: over a reply queue of its own, and over direct reply-to. */
    static void rpc() throws Exception {
        String queue = Stories.named("java-rpc");
        try (Connection connection = connect()) {
            Channel serving = connection.createChannel();
            serving.queueDeclare(queue, false, false, true, null);
            RpcServer server = new RpcServer(serving, queue) {
                @Override
                public byte[] handleCall(Delivery request, AMQP.BasicProperties reply) {
                    return bytes(text(request.getBody()).toUpperCase());
                }
            };
            Thread loop = new Thread(() -> {
                try {
                    server.mainloop();
                } catch (IOException | ShutdownSignalException ended) {
                    // The connection was closed.
                }
            });
            loop.start();
            for (String replyTo : new String[] {"amq.rabbitmq.reply-to", null}) {
                Channel asking = connection.createChannel();
                RpcClientParams parameters = new RpcClientParams().channel(asking).exchange("").routingKey(queue).timeout(60_000);
                if (replyTo == null) {
                    parameters.replyTo(asking.queueDeclare().getQueue());
                }
                RpcClient client = new RpcClient(parameters);
                for (String question : List.of("a", "bc", "def")) {
                    Stories.equal(client.stringCall(question), question.toUpperCase(), "answer");
                }
                client.close();
            }
            server.terminateMainloop();
        }
    }

    @SuppressWarnings("unchecked")
    static void retry() throws Exception {
        String work = Stories.named("java-retry");
        String wait = Stories.named("java-retry-wait");
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.queueDeclare(work, true, false, false, Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", wait));
            channel.queueDeclare(wait, true, false, false,
                    Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", work, "x-message-ttl", 40));
            BlockingQueue<Long> attempts = new LinkedBlockingQueue<>();
            channel.basicConsume(work, false, (tag, delivery) -> {
                Map<String, Object> headers = delivery.getProperties().getHeaders();
                long count = 0;
                if (headers != null && headers.get("x-death") != null) {
                    for (Map<String, Object> death : (List<Map<String, Object>>) headers.get("x-death")) {
                        if (death.get("reason").toString().equals("rejected")) {
                            count = (Long) death.get("count");
                        }
                    }
                }
                attempts.add(count);
                long deliveryTag = delivery.getEnvelope().getDeliveryTag();
                if (count < 2) {
                    channel.basicReject(deliveryTag, false);
                } else {
                    channel.basicAck(deliveryTag, false);
                }
            }, IGNORED);
            channel.basicPublish("", work, null, bytes("fails"));
            for (long attempt = 0; attempt < 3; attempt++) {
                Stories.equal(Stories.next(attempts, "attempt"), attempt, "count of the death");
            }
            channel.queueDelete(work);
            channel.queueDelete(wait);
        }
    }

    static void priorities() throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            String queue = Stories.named("java-priorities");
            channel.queueDeclare(queue, false, true, false, Map.of("x-max-priority", 10));
            for (int priority : new int[] {1, 9, 5, 1, 9}) {
                channel.basicPublish("", queue, new AMQP.BasicProperties.Builder().priority(priority).build(), bytes(priority));
            }
            channel.waitForConfirmsOrDie(10_000);
            List<String> order = new ArrayList<>();
            for (GetResponse got; (got = channel.basicGet(queue, true)) != null;) {
                order.add(text(got.getBody()));
            }
            Stories.equal(order, List.of("9", "9", "5", "1", "1"), "order");
        }
    }

    /** Asynchronous confirms: a returned message is told before its ack, a refused one is nacked. */
    static void returnsAndConfirms() throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            BlockingQueue<String> events = new LinkedBlockingQueue<>();
            channel.confirmSelect();
            channel.addReturnListener(returned -> events.add("return " + returned.getReplyCode() + " " + returned.getReplyText()));
            channel.addConfirmListener(new ConfirmListener() {
                @Override
                public void handleAck(long tag, boolean multiple) {
                    events.add("ack " + tag);
                }

                @Override
                public void handleNack(long tag, boolean multiple) {
                    events.add("nack " + tag);
                }
            });
            channel.basicPublish("", Stories.named("java-nowhere"), true, null, bytes("lost"));
            Stories.equal(Stories.next(events, "return"), "return 312 NO_ROUTE", "first");
            Stories.equal(Stories.next(events, "ack"), "ack 1", "then");
            String full = Stories.named("java-full");
            channel.queueDeclare(full, false, true, false, Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
            channel.basicPublish("", full, null, bytes("fits"));
            Stories.equal(Stories.next(events, "ack"), "ack 2", "fits");
            channel.basicPublish("", full, null, bytes("too many"));
            Stories.equal(Stories.next(events, "nack"), "nack 3", "too many");
        }
    }

    static void transactions() throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            String queue = Stories.named("java-tx");
            channel.queueDeclare(queue, false, true, false, null);
            channel.txSelect();
            channel.basicPublish("", queue, null, bytes("rolled back"));
            channel.txRollback();
            channel.basicPublish("", queue, null, bytes("committed"));
            channel.txCommit();
            GetResponse got = channel.basicGet(queue, false);
            Stories.equal(text(got.getBody()), "committed", "message");
            channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
            channel.txRollback();
            channel.basicRecover(true);
            channel.txCommit();
            GetResponse[] again = {null};
            Stories.eventually(() -> (again[0] = channel.basicGet(queue, true)) != null, "the acknowledgement was rolled back");
            Stories.equal(again[0].getEnvelope().isRedeliver(), true, "redelivered");
        }
    }

    /** Header values of every Java type come back as they went. */
    static void headerTypes() throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            String queue = Stories.named("java-headers");
            channel.queueDeclare(queue, false, true, false, null);
            Map<String, Object> headers = new TreeMap<>();
            headers.put("boolean", true);
            headers.put("byte", (byte) -7);
            headers.put("short", (short) 300);
            headers.put("int", -70_000);
            headers.put("long", 1L << 40);
            headers.put("float", 1.5f);
            headers.put("double", 2.25);
            headers.put("decimal", new java.math.BigDecimal("3.14"));
            headers.put("date", new java.util.Date(1_600_000_000_000L));
            headers.put("list", List.of(1, 2L, true));
            headers.put("map", Map.of("inner", 5));
            channel.basicPublish("", queue, new AMQP.BasicProperties.Builder().headers(headers).build(), bytes("m"));
            GetResponse[] got = {null};
            Stories.eventually(() -> (got[0] = channel.basicGet(queue, true)) != null, "message");
            Stories.equal(new TreeMap<>(got[0].getProps().getHeaders()), headers, "headers");
        }
    }

    static void errors() throws Exception {
        try (Connection connection = connect()) {
            Channel channel = connection.createChannel();
            String queue = Stories.named("java-errors");
            channel.queueDeclare(queue, false, true, false, null);
            try {
                channel.queueDeclare(queue, false, true, false, Map.of("x-message-ttl", 5));
                throw new AssertionError("declared again with another argument");
            } catch (IOException refused) {
                ShutdownSignalException cause = (ShutdownSignalException) refused.getCause();
                AMQP.Channel.Close close = (AMQP.Channel.Close) cause.getReason();
                Stories.equal(close.getReplyCode(), 406, "code");
                Stories.equal(close.getReplyText(), "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '" + queue
                        + "' in vhost '/': received the value '5' of type 'signedint' but current is none", "text");
            }
            Channel other = connection.createChannel();
            CountDownLatch cancelled = new CountDownLatch(1);
            other.basicConsume(queue, true, (DeliverCallback) (tag, delivery) -> { }, tag -> cancelled.countDown());
            connection.createChannel().queueDelete(queue);
            Stories.equal(cancelled.await(15, TimeUnit.SECONDS), true, "the consumer is told");
        }
    }

    /** The client's recovery: connection, channels, exclusive queues, bindings and consumers are there again. */
    static void recovery() throws Exception {
        String queue = Stories.named("java-recovered");
        String exchange = Stories.named("java-recovered-x");
        try (Connection connection = connect()) {
            Channel channel = connection.createChannel();
            channel.confirmSelect();
            channel.queueDeclare(queue, true, false, false, null);
            channel.exchangeDeclare(exchange, "fanout", false, true, null);
            String mine = channel.queueDeclare().getQueue();
            channel.queueBind(mine, exchange, "");
            BlockingQueue<String> seen = new LinkedBlockingQueue<>();
            channel.basicConsume(mine, true, (tag, delivery) -> seen.add(text(delivery.getBody())), IGNORED);
            channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, bytes("kept"));
            channel.waitForConfirmsOrDie(10_000);
            CountDownLatch recovered = new CountDownLatch(1);
            ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
                @Override
                public void handleRecovery(Recoverable it) {
                    recovered.countDown();
                }

                @Override
                public void handleRecoveryStarted(Recoverable it) {
                }
            });
            Stories.restartBroker();
            Stories.equal(recovered.await(60, TimeUnit.SECONDS), true, "recovered");
            Stories.eventually(() -> {
                try {
                    channel.basicPublish(exchange, "", null, bytes("again"));
                    return true;
                } catch (AlreadyClosedException notYet) {
                    return false;
                }
            }, "publishing");
            Stories.equal(Stories.next(seen, "the consumer of the exclusive queue"), "again", "message");
            Stories.equal(text(channel.basicGet(queue, true).getBody()), "kept", "the persistent message");
        }
    }

    public static void main(String[] names) {
        Map<String, Stories.Story> stories = new HashMap<>();
        stories.put("work_queue", JavaClient::workQueue);
        stories.put("topic_exchange", JavaClient::topicExchange);
        stories.put("rpc", JavaClient::rpc);
        stories.put("retry", JavaClient::retry);
        stories.put("priorities", JavaClient::priorities);
        stories.put("returns_and_confirms", JavaClient::returnsAndConfirms);
        stories.put("transactions", JavaClient::transactions);
        stories.put("header_types", JavaClient::headerTypes);
        stories.put("errors", JavaClient::errors);
        stories.put("recovery", JavaClient::recovery);
        Stories.tell(names, stories);
    }
}
