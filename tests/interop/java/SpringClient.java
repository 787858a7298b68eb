import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.Binding;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.DirectExchange;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageListener;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.config.RetryInterceptorBuilder;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.adapter.MessageListenerAdapter;
import org.springframework.amqp.rabbit.retry.RejectAndDontRequeueRecoverer;
import org.springframework.amqp.rabbit.transaction.RabbitTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;

/** Spring AMQP: template, admin and listener containers, as Spring Boot applications use them. */
public final class SpringClient {
    private SpringClient() {
    }

    private static CachingConnectionFactory connections() {
        CachingConnectionFactory factory = new CachingConnectionFactory(Stories.URL);
        factory.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.CORRELATED);
        factory.setPublisherReturns(true);
        return factory;
    }

    private static String body(Message message) {
        return new String(message.getBody());
    }

    /** Correlated confirms and returns, and a message that a full queue refuses. */
    static void confirmsAndReturns() throws Exception {
        CachingConnectionFactory factory = connections();
        try {
            RabbitTemplate template = new RabbitTemplate(factory);
            template.setMandatory(true);
            RabbitAdmin admin = new RabbitAdmin(factory);
            Queue full = QueueBuilder.durable(Stories.named("spring-full")).maxLength(1L).overflow(QueueBuilder.Overflow.rejectPublish).build();
            admin.declareQueue(full);
            CorrelationData stored = new CorrelationData("stored");
            template.convertAndSend("", full.getName(), "fits", stored);
            Stories.equal(stored.getFuture().get(10, TimeUnit.SECONDS).isAck(), true, "stored");
            CorrelationData refused = new CorrelationData("refused");
            template.convertAndSend("", full.getName(), "too many", refused);
            Stories.equal(refused.getFuture().get(10, TimeUnit.SECONDS).isAck(), false, "refused");
            CorrelationData lost = new CorrelationData("lost");
            template.convertAndSend("", Stories.named("spring-nowhere"), "lost", lost);
            Stories.equal(lost.getFuture().get(10, TimeUnit.SECONDS).isAck(), true, "confirmed although returned");
            Stories.equal(lost.getReturned().getReplyText(), "NO_ROUTE", "and returned before");
            Stories.equal(admin.getQueueInfo(full.getName()).getMessageCount(), 1, "messages");
            admin.deleteQueue(full.getName());
        } finally {
            factory.destroy();
        }
    }

    /** A simple container with two consumers over a topic exchange that the admin declared. */
    static void simpleListener() throws Exception {
        CachingConnectionFactory factory = connections();
        RabbitAdmin admin = new RabbitAdmin(factory);
        TopicExchange exchange = new TopicExchange(Stories.named("spring-topics"), false, true);
        Queue queue = QueueBuilder.nonDurable(Stories.named("spring-orders")).autoDelete().build();
        admin.declareExchange(exchange);
        admin.declareQueue(queue);
        admin.declareBinding(BindingBuilder.bind(queue).to(exchange).with("orders.#"));
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames(queue.getName());
        container.setConcurrentConsumers(2);
        container.setPrefetchCount(5);
        container.setMessageListener((MessageListener) message -> seen.add(body(message)));
        container.start();
        try {
            RabbitTemplate template = new RabbitTemplate(factory);
            for (int order = 0; order < 20; order++) {
                template.convertAndSend(exchange.getName(), "orders.new", "order " + order);
            }
            template.convertAndSend(exchange.getName(), "invoices.new", "not for us");
            for (int order = 0; order < 20; order++) {
                Stories.equal(Stories.next(seen, "order").startsWith("order "), true, "order");
            }
        } finally {
            container.stop();
            factory.destroy();
        }
    }

    /** Three attempts in the listener, then to the dead-letter queue with its headers. */
    static void deadLetterAfterRetries() throws Exception {
        CachingConnectionFactory factory = connections();
        RabbitAdmin admin = new RabbitAdmin(factory);
        DirectExchange exchange = new DirectExchange(Stories.named("spring-dlx"), false, true);
        Queue dead = QueueBuilder.nonDurable(Stories.named("spring-dead")).build();
        Queue queue = QueueBuilder.nonDurable(Stories.named("spring-work")).deadLetterExchange(exchange.getName()).deadLetterRoutingKey("dead").build();
        admin.declareExchange(exchange);
        admin.declareQueue(dead);
        admin.declareQueue(queue);
        admin.declareBinding(new Binding(dead.getName(), Binding.DestinationType.QUEUE, exchange.getName(), "dead", null));
        BlockingQueue<String> attempts = new LinkedBlockingQueue<>();
        DirectMessageListenerContainer container = new DirectMessageListenerContainer(factory);
        container.setQueueNames(queue.getName());
        container.setAdviceChain(RetryInterceptorBuilder.stateless().maxAttempts(3).backOffOptions(10, 1.0, 10)
                .recoverer(new RejectAndDontRequeueRecoverer()).build());
        container.setMessageListener((MessageListener) message -> {
            attempts.add(body(message));
            throw new IllegalStateException("always fails");
        });
        container.start();
        try {
            RabbitTemplate template = new RabbitTemplate(factory);
            template.convertAndSend("", queue.getName(), "job");
            for (int attempt = 0; attempt < 3; attempt++) {
                Stories.equal(Stories.next(attempts, "attempt"), "job", "attempt");
            }
            Message message = template.receive(dead.getName(), 10_000);
            List<Map<String, ?>> deaths = message.getMessageProperties().getXDeathHeader();
            Stories.equal(deaths.get(0).get("reason"), "rejected", "reason");
            Stories.equal(deaths.get(0).get("queue"), queue.getName(), "queue");
            Stories.equal(deaths.get(0).get("count"), 1L, "count");
        } finally {
            container.stop();
            admin.deleteQueue(queue.getName());
            admin.deleteQueue(dead.getName());
            factory.destroy();
        }
    }

    static String answer(String question) {
        return question.toUpperCase();
    }

    /** Request and reply: over direct reply-to, and over a temporary queue for each request. */
    static void rpc() throws Exception {
        CachingConnectionFactory factory = connections();
        RabbitAdmin admin = new RabbitAdmin(factory);
        Queue queue = QueueBuilder.nonDurable(Stories.named("spring-rpc")).autoDelete().build();
        admin.declareQueue(queue);
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames(queue.getName());
        container.setMessageListener(new MessageListenerAdapter(new Object() {
            public String handleMessage(String question) {
                return answer(question);
            }
        }));
        container.start();
        try {
            for (boolean temporary : new boolean[] {false, true}) {
                RabbitTemplate template = new RabbitTemplate(factory);
                template.setReplyTimeout(10_000);
                template.setUseTemporaryReplyQueues(temporary);
                for (String question : List.of("a", "bc", "def")) {
                    Stories.equal(template.convertSendAndReceive("", queue.getName(), question), question.toUpperCase(), "answer");
                }
                template.stop();
            }
        } finally {
            container.stop();
            factory.destroy();
        }
    }

    /** A transaction of the template is all or nothing. */
    static void transactions() throws Exception {
        CachingConnectionFactory factory = new CachingConnectionFactory(Stories.URL);
        RabbitAdmin admin = new RabbitAdmin(factory);
        Queue queue = QueueBuilder.nonDurable(Stories.named("spring-tx")).build();
        admin.declareQueue(queue);
        try {
            RabbitTemplate template = new RabbitTemplate(factory);
            template.setChannelTransacted(true);
            TransactionTemplate transaction = new TransactionTemplate(new RabbitTransactionManager(factory));
            try {
                transaction.execute(status -> {
                    template.convertAndSend("", queue.getName(), "rolled back");
                    throw new IllegalStateException("rolls back");
                });
            } catch (IllegalStateException expected) {
                // What a failed unit of work looks like.
            }
            transaction.execute(status -> {
                template.convertAndSend("", queue.getName(), "one");
                template.convertAndSend("", queue.getName(), "two");
                return null;
            });
            Stories.equal(template.receiveAndConvert(queue.getName(), 10_000), "one", "first");
            Stories.equal(template.receiveAndConvert(queue.getName(), 10_000), "two", "second");
            Stories.equal(template.receiveAndConvert(queue.getName()), null, "nothing else");
        } finally {
            admin.deleteQueue(queue.getName());
            factory.destroy();
        }
    }

    /** Listeners go on after the broker was away; the admin declares again what they need. */
    static void recovery() throws Exception {
        CachingConnectionFactory factory = connections();
        RabbitAdmin admin = new RabbitAdmin(factory);
        Queue queue = QueueBuilder.durable(Stories.named("spring-recovered")).build();
        admin.declareQueue(queue);
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames(queue.getName());
        container.setAcknowledgeMode(AcknowledgeMode.AUTO);
        container.setRecoveryInterval(200);
        container.setMessageListener((MessageListener) message -> seen.add(body(message)));
        container.start();
        try {
            RabbitTemplate template = new RabbitTemplate(factory);
            template.convertAndSend("", queue.getName(), "before");
            Stories.equal(Stories.next(seen, "before"), "before", "message");
            Stories.restartBroker();
            Stories.eventually(() -> {
                try {
                    CorrelationData data = new CorrelationData("after");
                    template.convertAndSend("", queue.getName(), "after", data);
                    return data.getFuture().get(5, TimeUnit.SECONDS).isAck();
                } catch (Exception notYet) {
                    return false;
                }
            }, "publishing again");
            String next = Stories.next(seen, "after");
            while (next.equals("before")) {
                // Its acknowledgement was still on the way when the broker went.
                next = Stories.next(seen, "after");
            }
            Stories.equal(next, "after", "message");
        } finally {
            container.stop();
            admin.deleteQueue(queue.getName());
            factory.destroy();
        }
    }

    public static void main(String[] names) {
        Map<String, Stories.Story> stories = new HashMap<>();
        stories.put("confirms_and_returns", SpringClient::confirmsAndReturns);
        stories.put("simple_listener", SpringClient::simpleListener);
        stories.put("dead_letter_after_retries", SpringClient::deadLetterAfterRetries);
        stories.put("rpc", SpringClient::rpc);
        stories.put("transactions", SpringClient::transactions);
        stories.put("recovery", SpringClient::recovery);
        Stories.tell(names, stories);
    }
}
