//! lapin: the usual client of asynchronous Rust.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    ExchangeKind,
    message::Delivery,
    options::*,
    types::{AMQPValue, FieldTable},
};
use trivium_interop::{Outcome, Story, equal, named, restart_broker, tell, url, within};

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in pairs {
        table.insert((*key).into(), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn connect() -> Outcome<Connection> {
    Ok(Connection::connect(&url(), ConnectionProperties::default()).await?)
}

async fn declare(
    channel: &Channel,
    queue: &str,
    durable: bool,
    arguments: &[(&str, AMQPValue)],
) -> Outcome {
    let options = QueueDeclareOptions {
        durable,
        auto_delete: !durable,
        ..Default::default()
    };
    channel
        .queue_declare(queue.into(), options, table(arguments))
        .await?;
    Ok(())
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Outcome<Consumer> {
    let options = BasicConsumeOptions {
        no_ack,
        ..Default::default()
    };
    Ok(channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?)
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Outcome<Confirmation> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    Ok(channel
        .basic_publish(exchange.into(), key.into(), options, body, properties)
        .await?
        .await?)
}

async fn next(consumer: &mut Consumer, what: &str) -> Outcome<Delivery> {
    let delivery = within(consumer.next(), what).await?;
    Ok(delivery.ok_or_else(|| format!("{what}: the consumer ended"))??)
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(name)
}

/// Persistent jobs, confirmed; two workers with prefetch 1, and one job is given back.
async fn work_queue() -> Outcome {
    let connection = connect().await?;
    let publisher = connection.create_channel().await?;
    publisher
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = named("lapin-work");
    declare(&publisher, &queue, true, &[]).await?;
    let mut workers = Vec::new();
    for _ in 0..2 {
        let channel = connection.create_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        workers.push(consume(&channel, &queue, false).await?);
    }
    for job in 0..20 {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let confirmation = publish(
            &publisher,
            "",
            &queue,
            job.to_string().as_bytes(),
            persistent,
        )
        .await?;
        equal(confirmation, Confirmation::Ack(None), "confirmation")?;
    }
    let (mut done, mut given_back, mut idle) = (Vec::new(), false, 0);
    while done.len() < 20 {
        let mut worked = false;
        for worker in &mut workers {
            let Ok(Some(delivery)) =
                tokio::time::timeout(Duration::from_millis(300), worker.next()).await
            else {
                continue;
            };
            let delivery = delivery?;
            worked = true;
            if body(&delivery) == "7" && !given_back {
                given_back = true;
                delivery
                    .nack(BasicNackOptions {
                        requeue: true,
                        ..Default::default()
                    })
                    .await?;
                continue;
            }
            equal(delivery.redelivered, body(&delivery) == "7", "redelivered")?;
            done.push(body(&delivery).parse::<u32>()?);
            delivery.ack(BasicAckOptions::default()).await?;
        }
        idle = if worked { 0 } else { idle + 1 };
        if idle == 100 {
            return Err(format!("only {done:?} were delivered").into());
        }
    }
    done.sort_unstable();
    equal(done, (0..20).collect(), "each job once")?;
    publisher
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await?;
    Ok(connection.close(200, "bye".into()).await?)
}

async fn topic_exchange() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let exchange = named("lapin-topics");
    let options = ExchangeDeclareOptions {
        auto_delete: true,
        ..Default::default()
    };
    channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await?;
    let mut consumers = Vec::new();
    for pattern in ["kern.*", "*.critical", "#"] {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let queue = channel
            .queue_declare("".into(), options, FieldTable::default())
            .await?;
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(
                queue.name().clone(),
                exchange.as_str().into(),
                pattern.into(),
                bind,
                FieldTable::default(),
            )
            .await?;
        consumers.push(consume(&channel, queue.name().as_str(), true).await?);
    }
    for key in ["kern.critical", "cron.critical", "cron.info.daily"] {
        publish(
            &channel,
            &exchange,
            key,
            key.as_bytes(),
            BasicProperties::default(),
        )
        .await?;
    }
    let wanted: [&[&str]; 3] = [
        &["kern.critical"],
        &["kern.critical", "cron.critical"],
        &["kern.critical", "cron.critical", "cron.info.daily"],
    ];
    for (consumer, keys) in consumers.iter_mut().zip(wanted) {
        for key in keys {
            equal(next(consumer, key).await?.routing_key.as_str(), *key, "key")?;
        }
    }
    Ok(connection.close(200, "bye".into()).await?)
}

/// Direct reply-to.
async fn rpc() -> Outcome {
    let connection = connect().await?;
    let (server, client) = (
        connection.create_channel().await?,
        connection.create_channel().await?,
    );
    let queue = named("lapin-rpc");
    declare(&server, &queue, false, &[]).await?;
    let mut requests = consume(&server, &queue, true).await?;
    let mut answers = consume(&client, "amq.rabbitmq.reply-to", true).await?;
    for n in 0u32..5 {
        let properties = BasicProperties::default()
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_correlation_id(n.to_string().into());
        publish(&client, "", &queue, n.to_string().as_bytes(), properties).await?;
        let request = next(&mut requests, "request").await?;
        let reply_to = request.properties.reply_to().clone().ok_or("no reply_to")?;
        let correlation = request
            .properties
            .correlation_id()
            .clone()
            .ok_or("no correlation_id")?;
        let square = body(&request).parse::<u32>()?.pow(2).to_string();
        publish(
            &server,
            "",
            reply_to.as_str(),
            square.as_bytes(),
            BasicProperties::default().with_correlation_id(correlation),
        )
        .await?;
        let answer = next(&mut answers, "answer").await?;
        equal(body(&answer), (n * n).to_string(), "answer")?;
        equal(
            answer
                .properties
                .correlation_id()
                .as_ref()
                .map(|it| it.to_string()),
            Some(n.to_string()),
            "correlation",
        )?;
    }
    Ok(connection.close(200, "bye".into()).await?)
}

/// Rejected into a waiting queue, back after its TTL, counted by `x-death`, given up after three attempts.
async fn retry() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let (work, wait) = (named("lapin-retry"), named("lapin-retry-wait"));
    let to = |queue: &str| {
        [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(queue)),
        ]
    };
    declare(&channel, &work, true, &to(&wait)).await?;
    let waiting = [&to(&work)[..], &[("x-message-ttl", AMQPValue::LongInt(40))]].concat();
    declare(&channel, &wait, true, &waiting).await?;
    publish(&channel, "", &work, b"fails", BasicProperties::default()).await?;
    let mut jobs = consume(&channel, &work, false).await?;
    for attempt in 0..3 {
        let job = next(&mut jobs, "attempt").await?;
        let count = match header(&job, "x-death") {
            None => 0,
            Some(AMQPValue::FieldArray(deaths)) => {
                let counts = deaths.as_slice().iter().filter_map(|it| match it {
                    AMQPValue::FieldTable(death)
                        if death.inner().get("reason") == Some(&text("rejected")) =>
                    {
                        death.inner().get("count")
                    }
                    _ => None,
                });
                match counts.last() {
                    Some(AMQPValue::LongLongInt(count)) => *count,
                    other => return Err(format!("count of the death: {other:?}").into()),
                }
            }
            other => return Err(format!("x-death is {other:?}").into()),
        };
        equal(count, attempt, "count of the death")?;
        if attempt < 2 {
            job.reject(BasicRejectOptions { requeue: false }).await?;
        } else {
            job.ack(BasicAckOptions::default()).await?;
        }
    }
    for queue in [work, wait] {
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await?;
    }
    Ok(connection.close(200, "bye".into()).await?)
}

/// What cannot be routed comes back with its confirmation; what a full queue refuses is nacked.
async fn returns_and_nacks() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    match publish(
        &channel,
        "",
        &named("lapin-nowhere"),
        b"lost",
        BasicProperties::default(),
    )
    .await?
    {
        Confirmation::Ack(Some(returned)) => {
            equal(returned.reply_code, 312, "code")?;
            equal(returned.reply_text.as_str(), "NO_ROUTE", "text")?;
            equal(&returned.delivery.data[..], b"lost", "body")?;
        }
        other => return Err(format!("{other:?}").into()),
    }
    let full = named("lapin-full");
    declare(
        &channel,
        &full,
        false,
        &[
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-overflow", text("reject-publish")),
        ],
    )
    .await?;
    let verdicts = [
        publish(&channel, "", &full, b"fits", BasicProperties::default())
            .await?
            .is_ack(),
        publish(&channel, "", &full, b"too many", BasicProperties::default())
            .await?
            .is_ack(),
    ];
    equal(verdicts, [true, false], "verdicts")?;
    Ok(connection.close(200, "bye".into()).await?)
}

async fn priorities() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = named("lapin-priorities");
    declare(
        &channel,
        &queue,
        false,
        &[("x-max-priority", AMQPValue::LongInt(10))],
    )
    .await?;
    for priority in [1u8, 9, 5, 1, 9] {
        publish(
            &channel,
            "",
            &queue,
            priority.to_string().as_bytes(),
            BasicProperties::default().with_priority(priority),
        )
        .await?;
    }
    let mut order = Vec::new();
    while let Some(message) = channel
        .basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true })
        .await?
    {
        order.push(body(&message));
    }
    equal(
        order,
        ["9", "9", "5", "1", "1"].map(str::to_owned).to_vec(),
        "order",
    )?;
    Ok(connection.close(200, "bye".into()).await?)
}

/// A transaction is all or nothing.
async fn transaction() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = named("lapin-tx");
    declare(&channel, &queue, false, &[]).await?;
    channel.tx_select().await?;
    publish(
        &channel,
        "",
        &queue,
        b"rolled back",
        BasicProperties::default(),
    )
    .await?;
    channel.tx_rollback().await?;
    publish(
        &channel,
        "",
        &queue,
        b"committed",
        BasicProperties::default(),
    )
    .await?;
    channel.tx_commit().await?;
    let message = channel
        .basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true })
        .await?;
    equal(
        message.map(|it| body(&it)),
        Some("committed".to_owned()),
        "message",
    )?;
    Ok(connection.close(200, "bye".into()).await?)
}

/// Tries until the channel has recovered.
async fn again<T, F: Future<Output = Outcome<T>>>(
    channel: &Channel,
    attempt: impl Fn() -> F,
) -> Outcome<T> {
    let mut last = None;
    for _ in 0..100 {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => {
                let error = *error.downcast::<lapin::Error>()?;
                last = Some(error.to_string());
                if within(channel.wait_for_recovery(error), "recovery")
                    .await?
                    .is_err()
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    Err(format!("not recovered: {last:?}").into())
}

/// lapin's own recovery: channels, topology and consumers are there again after the broker went away.
async fn recovery() -> Outcome {
    let properties = ConnectionProperties::default()
        .enable_auto_recover()
        .configure_backoff(|it| {
            it.with_max_times(200)
                .with_min_delay(Duration::from_millis(100))
                .with_max_delay(Duration::from_millis(500))
        });
    let connection = Connection::connect(&url(), properties).await?;
    let (publisher, worker) = (
        connection.create_channel().await?,
        connection.create_channel().await?,
    );
    publisher
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = named("lapin-recovered");
    declare(&publisher, &queue, true, &[]).await?;
    publish(
        &publisher,
        "",
        &queue,
        b"before",
        BasicProperties::default().with_delivery_mode(2),
    )
    .await?;
    restart_broker().await?;
    let persistent = || BasicProperties::default().with_delivery_mode(2);
    let confirmation = again(&publisher, || {
        publish(&publisher, "", &queue, b"after", persistent())
    })
    .await?;
    equal(confirmation, Confirmation::Ack(None), "published again")?;
    let mut consumer = again(&worker, || consume(&worker, &queue, false)).await?;
    for wanted in ["before", "after"] {
        let delivery = next(&mut consumer, wanted).await?;
        equal(body(&delivery).as_str(), wanted, "message")?;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(connection.close(200, "bye".into()).await?)
}

#[tokio::main]
async fn main() {
    let stories: [(&str, Story); 8] = [
        ("work_queue", || Box::pin(work_queue())),
        ("topic_exchange", || Box::pin(topic_exchange())),
        ("rpc", || Box::pin(rpc())),
        ("retry", || Box::pin(retry())),
        ("returns_and_nacks", || Box::pin(returns_and_nacks())),
        ("priorities", || Box::pin(priorities())),
        ("transaction", || Box::pin(transaction())),
        ("recovery", || Box::pin(recovery())),
    ];
    tell(&stories).await;
}
