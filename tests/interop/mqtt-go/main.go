// Paho for Go, which speaks 3.1.1. Topics begin with PREFIX.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const patience = 60 * time.Second

var prefix = os.Getenv("PREFIX")

func connect(id string, change func(*mqtt.ClientOptions)) (mqtt.Client, chan mqtt.Message, error) {
	messages := make(chan mqtt.Message, 100)
	options := mqtt.NewClientOptions().AddBroker(os.Getenv("MQTT_URL")).SetClientID(prefix + id)
	options.SetDefaultPublishHandler(func(_ mqtt.Client, message mqtt.Message) { messages <- message })
	options.SetAutoReconnect(false).SetConnectTimeout(patience)
	change(options)
	client := mqtt.NewClient(options)
	return client, messages, done(client.Connect())
}

func done(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("no answer")
	}
	return token.Error()
}

func next(messages chan mqtt.Message, payload string) (mqtt.Message, error) {
	select {
	case message := <-messages:
		if string(message.Payload()) != payload {
			return nil, fmt.Errorf("got %q", message.Payload())
		}
		return message, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("%q did not come", payload)
	}
}

func everyQos() error {
	client, messages, err := connect("go", func(*mqtt.ClientOptions) {})
	if err != nil {
		return err
	}
	defer client.Disconnect(100)
	if err := done(client.Subscribe(prefix+"/q", 2, nil)); err != nil {
		return err
	}
	for qos := byte(0); qos <= 2; qos++ {
		payload := fmt.Sprint("qos ", qos)
		if err := done(client.Publish(prefix+"/q", qos, false, payload)); err != nil {
			return err
		}
		message, err := next(messages, payload)
		if err != nil {
			return err
		}
		if message.Qos() != qos {
			return fmt.Errorf("delivered at %d", message.Qos())
		}
	}
	return nil
}

func session() error {
	durable := func(options *mqtt.ClientOptions) { options.SetCleanSession(false) }
	first, _, err := connect("go-session", durable)
	if err != nil {
		return err
	}
	if err := done(first.Subscribe(prefix+"/s", 1, nil)); err != nil {
		return err
	}
	first.Disconnect(100)
	other, _, err := connect("go-other", func(*mqtt.ClientOptions) {})
	if err != nil {
		return err
	}
	defer other.Disconnect(100)
	if err := done(other.Publish(prefix+"/s", 1, false, "while away")); err != nil {
		return err
	}
	second, messages, err := connect("go-session", durable)
	if err != nil {
		return err
	}
	defer second.Disconnect(100)
	_, err = next(messages, "while away")
	return err
}

func main() {
	stories := map[string]func() error{"every_qos": everyQos, "session": session}
	for _, story := range os.Args[1:] {
		if err := stories[story](); err != nil {
			fmt.Printf("failed %s: %v\n", story, err)
		} else {
			fmt.Printf("ok %s\n", story)
		}
	}
}
