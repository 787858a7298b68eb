// The Go client that RabbitMQ's makers maintain, as applications use it.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const patience = 60 * time.Second

func named(suffix string) string { return os.Getenv("PREFIX") + "-go-" + suffix }

func equal[T comparable](actual, expected T, what string) {
	if actual != expected {
		panic(fmt.Errorf("%s: %v instead of %v", what, actual, expected))
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// next is the next item of a channel, within the time.
func next[T any](from <-chan T, what string) T {
	select {
	case item, open := <-from:
		if !open {
			panic(fmt.Errorf("%s: the channel was closed", what))
		}
		return item
	case <-time.After(patience):
		panic(fmt.Errorf("%s: not within %s", what, patience))
	}
}

func connected(work func(*amqp.Connection)) {
	connection := must(amqp.Dial(os.Getenv("AMQP_URL")))
	defer connection.Close()
	work(connection)
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) *amqp.DeferredConfirmation {
	return must(channel.PublishWithDeferredConfirmWithContext(context.Background(), exchange, key, true, false, message))
}

func declare(channel *amqp.Channel, queue string, arguments amqp.Table) {
	must(channel.QueueDeclare(queue, false, true, false, false, arguments))
}

// Persistent jobs with deferred confirms; two workers share them and one job is given back.
func workQueue() {
	connected(func(connection *amqp.Connection) {
		publisher := must(connection.Channel())
		queue := named("work")
		must(publisher.QueueDeclare(queue, true, false, false, false, nil))
		check(publisher.Confirm(false))
		done, given := make(chan int, 100), make(chan bool, 1)
		given <- true
		for range 2 {
			channel := must(connection.Channel())
			check(channel.Qos(3, 0, false))
			deliveries := must(channel.Consume(queue, "", false, false, false, false, nil))
			go func() {
				for delivery := range deliveries {
					job, _ := strconv.Atoi(string(delivery.Body))
					if job == 7 {
						select {
						case <-given:
							_ = delivery.Nack(false, true)
							continue
						default:
							if !delivery.Redelivered {
								continue
							}
						}
					}
					_ = delivery.Ack(false)
					done <- job
				}
			}()
		}
		var confirmations []*amqp.DeferredConfirmation
		for job := range 20 {
			confirmations = append(confirmations, publish(publisher, "", queue, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(strconv.Itoa(job))}))
		}
		for _, confirmation := range confirmations {
			equal(confirmation.Wait(), true, "confirmed")
		}
		var jobs []int
		for range 20 {
			jobs = append(jobs, next(done, "a job"))
		}
		sort.Ints(jobs)
		for job := range 20 {
			equal(jobs[job], job, "each job once")
		}
		must(publisher.QueueDelete(queue, false, false, false))
	})
}

func topicExchange() {
	connected(func(connection *amqp.Connection) {
		channel := must(connection.Channel())
		exchange := named("topics")
		check(channel.ExchangeDeclare(exchange, "topic", false, true, false, false, nil))
		wanted := map[string][]string{"kern.*": {"kern.critical"}, "*.critical": {"kern.critical", "cron.critical"}, "#": {"kern.critical", "cron.critical", "cron.info"}}
		deliveries := map[string]<-chan amqp.Delivery{}
		for pattern := range wanted {
			queue := must(channel.QueueDeclare("", false, false, true, false, nil))
			check(channel.QueueBind(queue.Name, pattern, exchange, false, nil))
			deliveries[pattern] = must(channel.Consume(queue.Name, "", true, true, false, false, nil))
		}
		for _, key := range []string{"kern.critical", "cron.critical", "cron.info"} {
			publish(channel, exchange, key, amqp.Publishing{Body: []byte(key)})
		}
		for pattern, keys := range wanted {
			for _, key := range keys {
				equal(next(deliveries[pattern], key).RoutingKey, key, pattern)
			}
		}
	})
}

func rpc() {
	connected(func(connection *amqp.Connection) {
		server, client := must(connection.Channel()), must(connection.Channel())
		queue := named("rpc")
		declare(server, queue, nil)
		requests := must(server.Consume(queue, "", true, false, false, false, nil))
		go func() {
			for request := range requests {
				n, _ := strconv.Atoi(string(request.Body))
				publish(server, "", request.ReplyTo, amqp.Publishing{CorrelationId: request.CorrelationId, Body: []byte(strconv.Itoa(n * n))})
			}
		}()
		answers := must(client.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil))
		for n := range 10 {
			publish(client, "", queue, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: strconv.Itoa(n), Body: []byte(strconv.Itoa(n))})
		}
		for n := range 10 {
			answer := next(answers, "an answer")
			equal(answer.CorrelationId, strconv.Itoa(n), "correlation")
			equal(string(answer.Body), strconv.Itoa(n*n), "answer")
		}
	})
}

// Rejected into a waiting queue, back after its TTL, counted by x-death, given up after three attempts.
func retry() {
	connected(func(connection *amqp.Connection) {
		channel := must(connection.Channel())
		work, wait := named("retry"), named("retry-wait")
		must(channel.QueueDeclare(work, true, false, false, false, amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait}))
		must(channel.QueueDeclare(wait, true, false, false, false, amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work, "x-message-ttl": 40}))
		deliveries := must(channel.Consume(work, "", false, false, false, false, nil))
		publish(channel, "", work, amqp.Publishing{Body: []byte("fails")})
		for attempt := range int64(3) {
			delivery := next(deliveries, "an attempt")
			count := int64(0)
			if deaths, found := delivery.Headers["x-death"].([]any); found {
				for _, death := range deaths {
					if table := death.(amqp.Table); table["reason"] == "rejected" {
						count = table["count"].(int64)
					}
				}
			}
			equal(count, attempt, "count of the death")
			if attempt < 2 {
				check(delivery.Reject(false))
			} else {
				check(delivery.Ack(false))
			}
		}
		must(channel.QueueDelete(work, false, false, false))
		must(channel.QueueDelete(wait, false, false, false))
	})
}

func returnsAndNacks() {
	connected(func(connection *amqp.Connection) {
		channel := must(connection.Channel())
		check(channel.Confirm(false))
		returns := channel.NotifyReturn(make(chan amqp.Return, 1))
		equal(publish(channel, "", named("nowhere"), amqp.Publishing{Body: []byte("lost")}).Wait(), true, "confirmed")
		equal(next(returns, "the return").ReplyText, "NO_ROUTE", "returned")
		full := named("full")
		declare(channel, full, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
		equal(publish(channel, "", full, amqp.Publishing{Body: []byte("fits")}).Wait(), true, "fits")
		equal(publish(channel, "", full, amqp.Publishing{Body: []byte("too many")}).Wait(), false, "too many")
	})
}

func priorities() {
	connected(func(connection *amqp.Connection) {
		channel := must(connection.Channel())
		check(channel.Confirm(false))
		queue := named("priorities")
		declare(channel, queue, amqp.Table{"x-max-priority": 10})
		for _, priority := range []uint8{1, 9, 5, 1, 9} {
			publish(channel, "", queue, amqp.Publishing{Priority: priority, Body: []byte{'0' + priority}}).Wait()
		}
		order := ""
		for {
			delivery, found, err := channel.Get(queue, true)
			check(err)
			if !found {
				break
			}
			order += string(delivery.Body)
		}
		equal(order, "99511", "order")
	})
}

func transactions() {
	connected(func(connection *amqp.Connection) {
		channel := must(connection.Channel())
		queue := named("tx")
		declare(channel, queue, nil)
		check(channel.Tx())
		publish(channel, "", queue, amqp.Publishing{Body: []byte("rolled back")})
		check(channel.TxRollback())
		publish(channel, "", queue, amqp.Publishing{Body: []byte("committed")})
		check(channel.TxCommit())
		delivery, found, err := channel.Get(queue, true)
		check(err)
		equal(found, true, "found")
		equal(string(delivery.Body), "committed", "message")
	})
}

// Errors close the channel with RabbitMQ's words, and consumers hear of a deleted queue.
func errorsAndCancellation() {
	connected(func(connection *amqp.Connection) {
		channel := must(connection.Channel())
		queue := named("errors")
		declare(channel, queue, nil)
		cancelled := channel.NotifyCancel(make(chan string, 1))
		must(channel.Consume(queue, "tag", true, false, false, false, nil))
		other := must(connection.Channel())
		must(other.QueueDelete(queue, false, false, false))
		equal(next(cancelled, "the cancellation"), "tag", "cancelled")
		_, err := other.QueueDeclarePassive(queue, false, false, false, false, nil)
		var refused *amqp.Error
		equal(errors.As(err, &refused), true, "an error")
		equal(refused.Code, 404, "code")
		equal(refused.Reason, fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", queue), "reason")
	})
}

// The client does not recover by itself: the application dials again when it is told of the end.
func recovery() {
	connection := must(amqp.Dial(os.Getenv("AMQP_URL")))
	ended := connection.NotifyClose(make(chan *amqp.Error, 1))
	channel := must(connection.Channel())
	queue := named("recovered")
	must(channel.QueueDeclare(queue, true, false, false, false, nil))
	check(channel.Confirm(false))
	equal(publish(channel, "", queue, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte("kept")}).Wait(), true, "confirmed")
	fmt.Println("restart")
	must(bufio.NewReader(os.Stdin).ReadString('\n'))
	told := next(ended, "the end of the connection")
	equal(told.Code, 320, "code")
	connected(func(again *amqp.Connection) {
		delivery, found, err := must(again.Channel()).Get(queue, true)
		check(err)
		equal(found, true, "found")
		equal(string(delivery.Body), "kept", "message")
	})
}

func tell(name string, story func()) {
	defer func() {
		if why := recover(); why != nil {
			fmt.Printf("failed %s: %v\n", name, why)
		}
	}()
	story()
	fmt.Println("ok", name)
}

func main() {
	stories := map[string]func(){
		"work_queue": workQueue, "topic_exchange": topicExchange, "rpc": rpc, "retry": retry, "returns_and_nacks": returnsAndNacks,
		"priorities": priorities, "transactions": transactions, "errors_and_cancellation": errorsAndCancellation, "recovery": recovery,
	}
	for _, name := range os.Args[1:] {
		tell(name, stories[name])
	}
}
