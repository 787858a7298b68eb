//! Publishers of what may be dropped, and clients that read slower than they publish.

mod support;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use support::{
    Client, advance, options, queues,
    sessions::{consume, publish},
    stop_the_clocks,
};
use trivium_core::{Broker, Message, Options, store::memory::MemoryStore};

/// A session may hold 16 MiB of these, and its publishers wait from the half of it on.
fn large() -> Message {
    publish("t", &"x".repeat(100 << 10), 0)
}

/// As many as a publisher sends in one turn. A window holds one more.
const AT_ONCE: usize = 10;
/// A session with so many has more than a quarter and less than half of what it may hold.
const MUCH: usize = 60;
/// A client that takes nothing for so long does not count as reading.
const PATIENCE: Duration = Duration::from_secs(1);
/// Less than that.
const IN_TIME: Duration = Duration::from_millis(700);

async fn broker() -> Broker {
    broker_with(16 << 20).await
}

async fn broker_with(queue_memory: usize) -> Broker {
    stop_the_clocks();
    let options = Options {
        shards: 1,
        queue_memory,
        ..options()
    };
    Broker::open(Arc::new(MemoryStore::new()), options)
        .await
        .expect("the store is sound")
}

async fn subscriber(broker: &Broker, name: &str) -> Client {
    let mut client = Client::named(broker, name);
    client.session(name, None).await;
    client.subscribe(name, "#", 1, 0, false).await;
    client.consume(1, name, consume()).await;
    client
}

async fn dropped(broker: &Broker) -> u64 {
    let samples = broker.samples().await;
    let dropped = samples
        .iter()
        .find(|it| it.name == "trivium_messages_dropped_total");
    dropped.expect("it is counted").value
}

/// Takes what is on its way to it.
async fn read(client: &mut Client) -> usize {
    let count = client.deliveries().await.len();
    client.flushed().await;
    count
}

async fn read_all(client: &mut Client) -> usize {
    let mut all = 0;
    loop {
        match read(client).await {
            0 => return all,
            some => all += some,
        }
    }
}

/// In one turn. When this is over, the session has them and the publisher has heard what it is to hear.
async fn send(publisher: &mut Client, count: usize) {
    let token = publisher.token();
    let one = large();
    let turn = (1..=count).map(|at| queues::publish((at == count).then_some(token), one.clone()));
    publisher.submit_all(turn.collect()).await;
    publisher
        .confirmed(token)
        .await
        .expect("nothing refuses it");
}

/// Sends until it has to wait.
async fn flood(publisher: &mut Client) -> usize {
    let mut sent = 0;
    while !publisher.is_held_back().await {
        send(publisher, AT_ONCE).await;
        sent += AT_ONCE;
        assert!(sent < 320, "its window and what it may hold");
    }
    sent
}

#[tokio::test]
async fn a_client_that_reads_loses_nothing_however_many_publish() {
    const TURNS: usize = 3;
    let broker = broker().await;
    let mut client = subscriber(&broker, "c").await;
    let mut publishers: Vec<_> = (0..40).map(|_| (Client::new(&broker), TURNS)).collect();
    let all = publishers.len() * TURNS * AT_ONCE;
    let (mut got, mut most, mut waited) = (0, Vec::new(), 0);
    while got < all && dropped(&broker).await == 0 {
        for (publisher, turns) in &mut publishers {
            publisher.wait_no_longer();
            if *turns == 0 {
                continue;
            }
            if publisher.is_held_back().await {
                waited += 1;
                continue;
            }
            send(publisher, AT_ONCE).await;
            *turns -= 1;
        }
        let waiting = publishers[0].0.ready("c").await.expect("it is there").0;
        most.push(waiting);
        got += read(&mut client).await;
        advance(IN_TIME);
    }
    assert_eq!((got, dropped(&broker).await), (all, 0));
    assert!(waited > 100, "{waited} waits");
    // Half of what it may hold, and what each had under way when it was told; once that is gone, half of it.
    assert!(most[0] <= 80 + 40 * AT_ONCE as u64, "{most:?}");
    let then = most.iter().skip_while(|waiting| **waiting > 80);
    assert!(then.clone().count() > 2, "{most:?}");
    // As much again where it takes that meanwhile.
    assert!(then.max() <= Some(&180), "{most:?}");
}

#[tokio::test]
async fn who_came_first_goes_on_first_and_only_where_there_is_room() {
    let broker = broker().await;
    let mut client = subscriber(&broker, "c").await;
    let mut publishers: VecDeque<_> = (0..40).map(|_| Client::new(&broker)).collect();
    for publisher in &mut publishers {
        send(publisher, AT_ONCE).await;
    }
    while !publishers[0].is_held_back().await {
        publishers.pop_front();
    }
    assert!(publishers.len() > 20);
    while publishers[0].is_held_back().await {
        assert!(read(&mut client).await > 0);
    }
    assert!(publishers.back_mut().unwrap().is_held_back().await);
    while let Some(mut publisher) = publishers.pop_front() {
        assert!(!publisher.is_held_back().await, "those before it have come");
        send(&mut publisher, 1).await;
        read(&mut client).await;
    }
    assert_eq!(dropped(&broker).await, 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_costs_its_publishers_one_wait() {
    let broker = broker().await;
    let mut client = subscriber(&broker, "c").await;
    let mut publisher = Client::new(&broker);
    flood(&mut publisher).await;
    advance(PATIENCE);
    publisher.wait_no_longer();
    for _ in 0..20 {
        send(&mut publisher, AT_ONCE).await;
        assert!(!publisher.is_held_back().await);
        advance(PATIENCE);
    }
    assert!(dropped(&broker).await > 0, "it loses its own messages");
    // It reads again, but not so much that it has caught up.
    read(&mut client).await;
    send(&mut publisher, AT_ONCE).await;
    assert!(!publisher.is_held_back().await);
    read_all(&mut client).await;
    let before = dropped(&broker).await;
    let (mut sent, mut got) = (flood(&mut publisher).await, 0);
    while got < sent {
        if !publisher.is_held_back().await && sent < 500 {
            send(&mut publisher, AT_ONCE).await;
            sent += AT_ONCE;
        }
        got += read(&mut client).await;
    }
    assert_eq!(dropped(&broker).await, before);
}

#[tokio::test]
async fn a_client_that_was_stuck_before_it_was_far_behind_holds_nobody_back() {
    let broker = broker().await;
    let _client = subscriber(&broker, "c").await;
    let mut publisher = Client::new(&broker);
    send(&mut publisher, MUCH).await;
    advance(PATIENCE);
    for _ in 0..20 {
        send(&mut publisher, AT_ONCE).await;
        assert!(!publisher.is_held_back().await);
    }
    assert!(dropped(&broker).await > 0);
}

#[tokio::test]
async fn a_fan_out_waits_once_for_those_who_are_stuck() {
    let broker = broker().await;
    let mut reader = subscriber(&broker, "reader").await;
    let mut stuck = Vec::new();
    for at in 0..5 {
        stuck.push(subscriber(&broker, &format!("stuck{at}")).await);
    }
    let mut publisher = Client::new(&broker);
    let (mut sent, mut got, mut waits) = (0, 0, 0);
    while sent < 400 {
        got += read_all(&mut reader).await;
        if publisher.is_held_back().await {
            waits += 1;
            advance(PATIENCE);
            publisher.wait_no_longer();
            assert!(!publisher.is_held_back().await);
        }
        send(&mut publisher, AT_ONCE).await;
        sent += AT_ONCE;
    }
    got += read_all(&mut reader).await;
    assert_eq!((got, waits), (sent, 1));
}

#[tokio::test]
async fn nobody_waits_for_ten_seconds_without_a_turn() {
    let broker = broker_with(64 << 20).await;
    let mut client = subscriber(&broker, "c").await;
    let mut publishers: Vec<_> = (0..240).map(|_| Client::new(&broker)).collect();
    for publisher in &mut publishers {
        send(publisher, AT_ONCE).await;
    }
    let mut last = publishers.pop().expect("there are some");
    assert!(last.is_held_back().await);
    let mut waited = Duration::ZERO;
    while last.is_held_back().await {
        assert!(read(&mut client).await > 0);
        last.ready("c").await.expect("it is there");
        advance(IN_TIME);
        waited += IN_TIME;
        last.wait_no_longer();
    }
    assert!(waited > Duration::from_secs(9), "{waited:?}");
    assert!(waited < Duration::from_secs(11), "{waited:?}");
    send(&mut last, 1).await;
    assert!(last.is_held_back().await, "and then again");
    assert_eq!(dropped(&broker).await, 0);
}

#[tokio::test]
async fn a_client_that_goes_lets_everybody_go_on() {
    let broker = broker().await;
    let client = subscriber(&broker, "c").await;
    let mut publisher = Client::new(&broker);
    flood(&mut publisher).await;
    drop(client);
    while publisher.is_held_back().await {
        tokio::task::yield_now().await;
    }
}
