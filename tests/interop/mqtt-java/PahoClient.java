// Paho for Java, its clients of 3.1.1 and of 5. Topics begin with PREFIX.

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.eclipse.paho.client.mqttv3.MqttClient;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

public class PahoClient {
    static final String URL = System.getenv("MQTT_URL");
    static final String PREFIX = System.getenv("PREFIX");

    public static void main(String[] stories) {
        for (String story : stories) {
            try {
                switch (story) {
                    case "every_qos" -> everyQos();
                    case "session" -> session();
                    default -> version5();
                }
                System.out.println("ok " + story);
            } catch (Throwable error) {
                System.out.println("failed " + story + ": " + error);
            }
        }
        System.exit(0);
    }

    static void expect(boolean fact, Object what) {
        if (!fact) throw new AssertionError(what);
    }

    static MqttMessage next(BlockingQueue<MqttMessage> messages) throws Exception {
        MqttMessage message = messages.poll(15, TimeUnit.SECONDS);
        expect(message != null, "nothing came");
        return message;
    }

    static void everyQos() throws Exception {
        MqttClient client = new MqttClient(URL, PREFIX + "-java", new MemoryPersistence());
        client.connect();
        BlockingQueue<MqttMessage> messages = new LinkedBlockingQueue<>();
        client.subscribe(PREFIX + "/q", 2, (topic, message) -> messages.add(message));
        for (int qos = 0; qos <= 2; qos++) {
            client.publish(PREFIX + "/q", ("qos " + qos).getBytes(), qos, false);
            MqttMessage message = next(messages);
            expect(message.getQos() == qos && message.toString().equals("qos " + qos), message);
        }
        client.disconnect();
    }

    static void session() throws Exception {
        MqttConnectOptions durable = new MqttConnectOptions();
        durable.setCleanSession(false);
        MqttClient first = new MqttClient(URL, PREFIX + "-session", new MemoryPersistence());
        first.connect(durable);
        first.subscribe(PREFIX + "/s", 1);
        first.disconnect();
        MqttClient other = new MqttClient(URL, PREFIX + "-other", new MemoryPersistence());
        other.connect();
        other.publish(PREFIX + "/s", "while away".getBytes(), 1, false);
        other.disconnect();
        BlockingQueue<MqttMessage> messages = new LinkedBlockingQueue<>();
        MqttClient second = new MqttClient(URL, PREFIX + "-session", new MemoryPersistence());
        second.setCallback(new org.eclipse.paho.client.mqttv3.MqttCallback() {
            public void connectionLost(Throwable cause) {}
            public void messageArrived(String topic, MqttMessage message) { messages.add(message); }
            public void deliveryComplete(org.eclipse.paho.client.mqttv3.IMqttDeliveryToken token) {}
        });
        second.connect(durable);
        expect(next(messages).toString().equals("while away"), "another message");
        second.disconnect();
    }

    static void version5() throws Exception {
        var persistence = new org.eclipse.paho.mqttv5.client.persist.MemoryPersistence();
        var client = new org.eclipse.paho.mqttv5.client.MqttClient(URL, PREFIX + "-five", persistence);
        BlockingQueue<org.eclipse.paho.mqttv5.common.MqttMessage> messages = new LinkedBlockingQueue<>();
        client.setCallback(new org.eclipse.paho.mqttv5.client.MqttCallback() {
            public void disconnected(org.eclipse.paho.mqttv5.client.MqttDisconnectResponse response) {}
            public void mqttErrorOccurred(org.eclipse.paho.mqttv5.common.MqttException error) {}
            public void messageArrived(String topic, org.eclipse.paho.mqttv5.common.MqttMessage message) { messages.add(message); }
            public void deliveryComplete(org.eclipse.paho.mqttv5.client.IMqttToken token) {}
            public void connectComplete(boolean reconnect, String uri) {}
            public void authPacketArrived(int reason, org.eclipse.paho.mqttv5.common.packet.MqttProperties properties) {}
        });
        client.connect();
        client.subscribe(PREFIX + "/five", 2);
        var message = new org.eclipse.paho.mqttv5.common.MqttMessage("x".getBytes());
        message.setQos(2);
        var properties = new org.eclipse.paho.mqttv5.common.packet.MqttProperties();
        properties.setContentType("text/plain");
        message.setProperties(properties);
        client.publish(PREFIX + "/five", message);
        var got = messages.poll(15, TimeUnit.SECONDS);
        expect(got != null && got.getQos() == 2, got);
        expect("text/plain".equals(got.getProperties().getContentType()), got.getProperties());
        client.disconnect();
    }
}
