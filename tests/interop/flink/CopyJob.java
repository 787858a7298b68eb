import java.util.concurrent.atomic.AtomicInteger;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** Copies one topic to another, each record exactly once; fails once by itself, at the record of a given number. */
public class CopyJob {
    private static final AtomicInteger SEEN = new AtomicInteger();

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0], from = arguments[1], to = arguments[2], state = arguments[3];
        int failsAt = Integer.parseInt(arguments[4]);
        Configuration configuration = new Configuration();
        configuration.setString("restart-strategy.type", "fixed-delay");
        configuration.setString("restart-strategy.fixed-delay.attempts", "100");
        configuration.setString("restart-strategy.fixed-delay.delay", "500 ms");
        configuration.setString("execution.checkpointing.dir", "file://" + state);
        StreamExecutionEnvironment job = StreamExecutionEnvironment.createLocalEnvironment(2, configuration);
        job.enableCheckpointing(500);
        KafkaSource<String> source = KafkaSource.<String>builder()
            .setBootstrapServers(servers)
            .setTopics(from)
            .setGroupId(to)
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setValueOnlyDeserializer(new SimpleStringSchema())
            .build();
        KafkaSink<String> sink = KafkaSink.<String>builder()
            .setBootstrapServers(servers)
            .setRecordSerializer(KafkaRecordSerializationSchema.builder()
                .setTopic(to)
                .setValueSerializationSchema(new SimpleStringSchema())
                .build())
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix(to)
            .setProperty("transaction.timeout.ms", "60000")
            .build();
        job.fromSource(source, WatermarkStrategy.noWatermarks(), from)
            .map(value -> {
                if (SEEN.incrementAndGet() == failsAt) {
                    throw new IllegalStateException("as planned");
                }
                return value;
            })
            .returns(String.class)
            .sinkTo(sink);
        job.execute(to);
    }
}
