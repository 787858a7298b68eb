// Kafka's Go clients as applications use them: franz-go, sarama and kafka-go. The first argument is the client, the
// others are its stories; the broker is in KAFKA, names begin with PREFIX.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const patience = 60 * time.Second

var broker = os.Getenv("KAFKA")

// then is a minute ago, in ms: what is much older is removed by retention, sooner or later.
var then = time.Now().Add(-time.Minute).UnixMilli()

func named(suffix string) string { return os.Getenv("PREFIX") + "-" + suffix }

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal[T comparable](actual, expected T, what string) {
	if actual != expected {
		panic(fmt.Errorf("%s: %v instead of %v", what, actual, expected))
	}
}

func same[T comparable](actual, expected []T, what string) {
	if !slices.Equal(actual, expected) {
		panic(fmt.Errorf("%s: %v instead of %v", what, actual, expected))
	}
}

// until asks again and again.
func until(what string, holds func() bool) {
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			panic(fmt.Errorf("%s: not within %s", what, patience))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// numbers are the texts of from, from+1, ... up to but without to.
func numbers(from, to int) []string {
	var all []string
	for number := from; number < to; number++ {
		all = append(all, strconv.Itoa(number))
	}
	return all
}

func tell(name string, story func()) {
	defer func() {
		if why := recover(); why != nil {
			fmt.Printf("failed %s: %s\n", name, strings.ReplaceAll(fmt.Sprint(why), "\n", " | "))
		}
	}()
	story()
	fmt.Println("ok", name)
}

func main() {
	stories := map[string]map[string]func(){"franz": franzStories, "sarama": saramaStories, "segmentio": segmentioStories}
	for _, name := range os.Args[2:] {
		tell(name, stories[os.Args[1]][name])
	}
}
