//! A cursor against a naive model: random publishing to its log, consuming, settling, crashing, retention.

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use support::{
    Client, body, for_each_seed,
    logs::{batch, log},
    open,
    queues::{Declaring, arguments, prefetch, text},
};
use trivium_core::{
    Change, Command, ConsumerId, DeliveryId, Event, Offset, Outcome, QueueSpec,
    store::memory::MemoryStore,
};

const PARTITIONS: u32 = 2;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        let Random(state) = self;
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % bound
    }
}

/// What a record is to the cursor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// To be delivered; how often it was.
    Waits(u16),
    /// With the consumer.
    Out(DeliveryId, u16),
    Done,
    /// Retention may have removed it before it was delivered.
    MayBeLost(u16),
}

#[derive(Default)]
struct Model {
    records: BTreeMap<(u32, u64), Fate>,
    starts: [u64; PARTITIONS as usize],
    ends: [u64; PARTITIONS as usize],
}

impl Model {
    fn delivered(&mut self, place: (u32, u64), id: DeliveryId, returns: u16) {
        let fate = self.records.get_mut(&place).expect("it was published");
        match *fate {
            Fate::Waits(times) | Fate::MayBeLost(times) => {
                assert_eq!(returns, times, "{place:?}");
                *fate = Fate::Out(id, times);
            }
            other => panic!("{place:?} is delivered, and is {other:?}"),
        }
    }

    fn out(&self) -> Vec<((u32, u64), DeliveryId, u16)> {
        let out = self.records.iter().filter_map(|(place, fate)| match *fate {
            Fate::Out(id, times) => Some((*place, id, times)),
            _ => None,
        });
        out.collect()
    }

    /// The consumer has gone: what it had comes again.
    fn crash(&mut self) {
        for ((partition, offset), fate) in &mut self.records {
            let gone = *offset < self.starts[*partition as usize];
            *fate = match *fate {
                Fate::Out(_, times) if !gone => Fate::Waits(times + 1),
                Fate::Out(_, times) => Fate::MayBeLost(times + 1),
                Fate::Waits(times) if gone => Fate::MayBeLost(times),
                other => other,
            };
        }
    }
}

/// Takes what is delivered until nothing more comes.
async fn take_all(client: &mut Client, model: &mut Model) {
    while client.has_events().await {
        let deliveries = client
            .expect(|event| match event {
                Event::Deliver { deliveries, .. } => Some(std::mem::take(deliveries)),
                _ => None,
            })
            .await;
        for delivery in deliveries {
            let text = body(&delivery.message);
            let (partition, offset) = text.split_once('-').expect("as it was published");
            let place = (
                partition.parse().expect("a number"),
                offset.parse().expect("a number"),
            );
            model.delivered(place, delivery.id, delivery.returns);
        }
    }
}

async fn append(client: &mut Client, model: &mut Model, partition: u32, count: u64) {
    let end = &mut model.ends[partition as usize];
    let values: Vec<String> = (*end..*end + count)
        .map(|offset| format!("{partition}-{offset}"))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let base = client.append("log", partition, batch(&values, None)).await;
    assert_eq!(base.expect("nothing refuses it"), *end);
    for offset in *end..*end + count {
        model.records.insert((partition, offset), Fate::Waits(0));
    }
    *end += count;
}

async fn settle(client: &mut Client, model: &mut Model, random: &mut Random) {
    let out = model.out();
    if out.is_empty() {
        return;
    }
    let (place, id, times) = out[random.below(out.len() as u64) as usize];
    let (outcome, fate) = match random.below(4) {
        0 => (Outcome::Requeue, Fate::Waits(times + 1)),
        1 => (Outcome::Reject, Fate::Done),
        _ => (Outcome::Accept, Fate::Done),
    };
    client
        .submit(Command::Settle {
            consumer: ConsumerId(1),
            deliveries: id..=id,
            outcome,
        })
        .await;
    model.records.insert(place, fate);
}

async fn trim(client: &mut Client, model: &mut Model, partition: u32, to: u64) {
    client
        .ask(|token| Command::Trim {
            token,
            log: "log".into(),
            partition,
            to: Some(Offset(to)),
        })
        .await
        .expect("nothing refuses it");
    let start = &mut model.starts[partition as usize];
    *start = to.max(*start);
    for (_, fate) in model.records.range_mut((partition, 0)..(partition, to)) {
        *fate = match *fate {
            Fate::Waits(times) => Fate::MayBeLost(times),
            other => other,
        };
    }
}

async fn run(seed: u64) {
    let mut random = Random(seed);
    let mut store = Arc::new(MemoryStore::new());
    let mut broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let settings = [("mq.tap", "off"), ("mq.bind", "off")];
    client
        .log("log", log(PARTITIONS, &settings))
        .await
        .expect("nothing refuses it");
    let mut model = Model::default();
    append(&mut client, &mut model, 0, 3).await;
    let spec = QueueSpec {
        durable: true,
        arguments: arguments(&[
            ("x-queue-type", text("cursor")),
            ("x-source", text("log")),
            ("x-stream-offset", text("first")),
            ("x-delivery-limit", trivium_core::Value::I32(-1)),
        ]),
        ..QueueSpec::default()
    };
    let name = "cursor".into();
    let declare = Change::DeclareQueue { name, spec };
    client.define(declare).await.expect("nothing refuses it");
    client.consume(1, "cursor", prefetch(6)).await;
    for _ in 0..120 {
        let partition = random.below(u64::from(PARTITIONS)) as u32;
        match random.below(20) {
            0..6 => append(&mut client, &mut model, partition, 1 + random.below(4)).await,
            6..16 => {
                take_all(&mut client, &mut model).await;
                settle(&mut client, &mut model, &mut random).await;
            }
            16 => {
                let to = random.below(model.ends[partition as usize] + 1);
                trim(&mut client, &mut model, partition, to).await;
            }
            17 => {
                take_all(&mut client, &mut model).await;
                client.make_durable().await;
                // What was on the way is as good as delivered: it may have been.
                take_all(&mut client, &mut model).await;
                drop((client, broker));
                store = Arc::new(store.crash(seed));
                broker = open(store.clone()).await;
                client = Client::new(&broker);
                model.crash();
                client.consume(1, "cursor", prefetch(6)).await;
            }
            _ => take_all(&mut client, &mut model).await,
        }
    }
    // Everything that can be is delivered and settled in the end.
    let drained = async {
        loop {
            take_all(&mut client, &mut model).await;
            let out = model.out();
            let waits = model.records.values();
            let open = waits.filter(|fate| matches!(fate, Fate::Waits(_))).count();
            if out.is_empty() && open == 0 && client.count("cursor").await == 0 {
                return;
            }
            for (place, id, _) in out {
                let deliveries = id..=id;
                let (consumer, outcome) = (ConsumerId(1), Outcome::Accept);
                client
                    .submit(Command::Settle {
                        consumer,
                        deliveries,
                        outcome,
                    })
                    .await;
                model.records.insert(place, Fate::Done);
            }
        }
    };
    let patience = Duration::from_secs(30);
    if tokio::time::timeout(patience, drained).await.is_err() {
        panic!("{:?}", model.records);
    }
}

#[test]
fn a_cursor_is_as_its_model() {
    for_each_seed(0..12, run);
}
