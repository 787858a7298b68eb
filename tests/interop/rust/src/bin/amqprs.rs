//! amqprs: the other client of asynchronous Rust, modelled on pika.

use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, FieldTable, FieldValue, Nack, Return,
    callbacks::ChannelCallback,
    channel::{
        BasicAckArguments, BasicConsumeArguments, BasicGetArguments, BasicPublishArguments,
        BasicQosArguments, BasicRejectArguments, Channel, ConfirmSelectArguments, ConsumerMessage,
        ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments, QueueDeleteArguments,
    },
    connection::{Connection, OpenConnectionArguments},
};
use async_trait::async_trait;
use tokio::sync::mpsc;
use trivium_interop::{Outcome, Story, equal, named, tell, url, within};

/// What a channel is told, in the order in which it is told.
#[derive(Debug, PartialEq)]
enum Told {
    Ack(u64),
    Nack(u64),
    Returned(u16, String, Vec<u8>),
    Cancelled(String),
    Closed(u16, String),
}

struct Listener(mpsc::UnboundedSender<Told>);

impl Listener {
    fn tell(&self, told: Told) {
        self.0.send(told).ok();
    }
}

#[async_trait]
impl ChannelCallback for Listener {
    async fn close(
        &mut self,
        _: &Channel,
        close: CloseChannel,
    ) -> Result<(), amqprs::error::Error> {
        self.tell(Told::Closed(
            close.reply_code(),
            close.reply_text().to_string(),
        ));
        Ok(())
    }
    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Result<(), amqprs::error::Error> {
        self.tell(Told::Cancelled(cancel.consumer_tag().to_string()));
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }
    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.tell(Told::Ack(ack.delivery_tag()));
    }
    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.tell(Told::Nack(nack.delivery_tag()));
    }
    async fn publish_return(
        &mut self,
        _: &Channel,
        returned: Return,
        _: BasicProperties,
        content: Vec<u8>,
    ) {
        self.tell(Told::Returned(
            returned.reply_code(),
            returned.reply_text().to_string(),
            content,
        ));
    }
}

async fn connect() -> Outcome<Connection> {
    let url = url();
    let address = url.rsplit('@').next().and_then(|it| it.split('/').next());
    let (host, port) = address
        .and_then(|it| it.split_once(':'))
        .ok_or("an address without a port")?;
    let arguments = OpenConnectionArguments::new(host, port.parse()?, "guest", "guest");
    Ok(Connection::open(&arguments).await?)
}

async fn listened(connection: &Connection) -> Outcome<(Channel, mpsc::UnboundedReceiver<Told>)> {
    let channel = connection.open_channel(None).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    channel.register_callback(Listener(sender)).await?;
    Ok((channel, receiver))
}

fn table(pairs: &[(&str, FieldValue)]) -> Outcome<FieldTable> {
    let mut table = FieldTable::new();
    for (key, value) in pairs {
        table.insert((*key).try_into()?, value.clone());
    }
    Ok(table)
}

fn text(value: &str) -> Outcome<FieldValue> {
    Ok(FieldValue::S(value.try_into()?))
}

async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) -> Outcome {
    let arguments = QueueDeclareArguments::new(queue)
        .auto_delete(true)
        .arguments(arguments)
        .finish();
    channel.queue_declare(arguments).await?;
    Ok(())
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Outcome {
    let arguments = BasicPublishArguments::new(exchange, key)
        .mandatory(true)
        .finish();
    Ok(channel
        .basic_publish(properties, body.to_vec(), arguments)
        .await?)
}

async fn consume(
    channel: &Channel,
    queue: &str,
    no_ack: bool,
) -> Outcome<mpsc::UnboundedReceiver<ConsumerMessage>> {
    let arguments = BasicConsumeArguments::new(queue, "")
        .no_ack(no_ack)
        .finish();
    Ok(channel.basic_consume_rx(arguments).await?.1)
}

struct Message {
    tag: u64,
    redelivered: bool,
    key: String,
    properties: BasicProperties,
    body: String,
}

async fn next(
    messages: &mut mpsc::UnboundedReceiver<ConsumerMessage>,
    what: &str,
) -> Outcome<Message> {
    let message = within(messages.recv(), what)
        .await?
        .ok_or("the consumer ended")?;
    let deliver = message.deliver.ok_or("no method")?;
    Ok(Message {
        tag: deliver.delivery_tag(),
        redelivered: deliver.redelivered(),
        key: deliver.routing_key().to_string(),
        properties: message.basic_properties.ok_or("no properties")?,
        body: String::from_utf8(message.content.ok_or("no body")?)?,
    })
}

async fn hear(told: &mut mpsc::UnboundedReceiver<Told>) -> Outcome<Told> {
    within(told.recv(), "an event")
        .await?
        .ok_or_else(|| "no more events".into())
}

async fn work_queue() -> Outcome {
    let connection = connect().await?;
    let (channel, mut told) = listened(&connection).await?;
    let queue = named("amqprs-work");
    channel
        .queue_declare(QueueDeclareArguments::durable_client_named(&queue))
        .await?;
    channel
        .confirm_select(ConfirmSelectArguments::default())
        .await?;
    for job in 0..10 {
        let persistent = BasicProperties::default().with_persistence(true).finish();
        publish(&channel, "", &queue, job.to_string().as_bytes(), persistent).await?;
    }
    while hear(&mut told).await? != Told::Ack(10) {}
    channel
        .basic_qos(BasicQosArguments::new(0, 3, false))
        .await?;
    let mut jobs = consume(&channel, &queue, false).await?;
    let first = next(&mut jobs, "a job").await?;
    equal(first.redelivered, false, "redelivered")?;
    channel
        .basic_reject(BasicRejectArguments::new(first.tag, true))
        .await?;
    let mut done = Vec::new();
    while done.len() < 10 {
        let job = next(&mut jobs, "a job").await?;
        equal(job.redelivered, job.body == "0", "redelivered")?;
        channel
            .basic_ack(BasicAckArguments::new(job.tag, false))
            .await?;
        done.push(job.body.parse::<u32>()?);
    }
    done.sort_unstable();
    equal(done, (0..10).collect(), "each job once")?;
    channel
        .queue_delete(QueueDeleteArguments::new(&queue))
        .await?;
    Ok(connection.close().await?)
}

async fn topic_exchange() -> Outcome {
    let connection = connect().await?;
    let (channel, _told) = listened(&connection).await?;
    let exchange = named("amqprs-topics");
    channel
        .exchange_declare(
            ExchangeDeclareArguments::new(&exchange, "topic")
                .auto_delete(true)
                .finish(),
        )
        .await?;
    let declared = channel
        .queue_declare(QueueDeclareArguments::exclusive_server_named())
        .await?;
    let (queue, _, _) = declared.ok_or("no answer")?;
    channel
        .queue_bind(QueueBindArguments::new(&queue, &exchange, "*.critical"))
        .await?;
    let mut messages = consume(&channel, &queue, true).await?;
    for key in ["kern.critical", "kern.info", "cron.critical"] {
        publish(
            &channel,
            &exchange,
            key,
            key.as_bytes(),
            BasicProperties::default(),
        )
        .await?;
    }
    for key in ["kern.critical", "cron.critical"] {
        equal(next(&mut messages, key).await?.key.as_str(), key, "key")?;
    }
    Ok(connection.close().await?)
}

async fn rpc() -> Outcome {
    let connection = connect().await?;
    let ((server, _one), (client, _two)) =
        (listened(&connection).await?, listened(&connection).await?);
    let queue = named("amqprs-rpc");
    declare(&server, &queue, FieldTable::new()).await?;
    let mut requests = consume(&server, &queue, true).await?;
    let mut answers = consume(&client, "amq.rabbitmq.reply-to", true).await?;
    let asking = BasicProperties::default()
        .with_reply_to("amq.rabbitmq.reply-to")
        .with_correlation_id("7")
        .finish();
    publish(&client, "", &queue, b"ask", asking).await?;
    let request = next(&mut requests, "request").await?;
    let reply_to = request
        .properties
        .reply_to()
        .cloned()
        .ok_or("no reply_to")?;
    publish(
        &server,
        "",
        &reply_to,
        b"answer",
        BasicProperties::default().with_correlation_id("7").finish(),
    )
    .await?;
    let answer = next(&mut answers, "answer").await?;
    equal(
        (
            answer.body.as_str(),
            answer.properties.correlation_id().map(String::as_str),
        ),
        ("answer", Some("7")),
        "answer",
    )?;
    Ok(connection.close().await?)
}

async fn dead_letters() -> Outcome {
    let connection = connect().await?;
    let (channel, _told) = listened(&connection).await?;
    let (queue, dead) = (named("amqprs-ttl"), named("amqprs-dead"));
    declare(&channel, &dead, FieldTable::new()).await?;
    let arguments = [
        ("x-dead-letter-exchange", text("")?),
        ("x-dead-letter-routing-key", text(&dead)?),
    ];
    declare(&channel, &queue, table(&arguments)?).await?;
    let mut morgue = consume(&channel, &dead, true).await?;
    publish(
        &channel,
        "",
        &queue,
        b"short",
        BasicProperties::default().with_expiration("30").finish(),
    )
    .await?;
    let message = next(&mut morgue, "the dead letter").await?;
    let headers = message.properties.headers().ok_or("no headers")?;
    equal(
        headers.get(&"x-first-death-reason".try_into()?),
        Some(&text("expired")?),
        "reason",
    )?;
    let Some(FieldValue::A(_)) = headers.get(&"x-death".try_into()?) else {
        return Err("no x-death".into());
    };
    equal(message.properties.expiration(), None, "expiration")?;
    Ok(connection.close().await?)
}

async fn returns_and_nacks() -> Outcome {
    let connection = connect().await?;
    let (channel, mut told) = listened(&connection).await?;
    channel
        .confirm_select(ConfirmSelectArguments::default())
        .await?;
    publish(
        &channel,
        "",
        &named("amqprs-nowhere"),
        b"lost",
        BasicProperties::default(),
    )
    .await?;
    equal(
        hear(&mut told).await?,
        Told::Returned(312, "NO_ROUTE".to_owned(), b"lost".to_vec()),
        "returned",
    )?;
    equal(hear(&mut told).await?, Told::Ack(1), "then confirmed")?;
    let full = named("amqprs-full");
    let arguments = [
        ("x-max-length", FieldValue::I(1)),
        ("x-overflow", text("reject-publish")?),
    ];
    declare(&channel, &full, table(&arguments)?).await?;
    for verdict in [Told::Ack(2), Told::Nack(3)] {
        publish(&channel, "", &full, b"m", BasicProperties::default()).await?;
        equal(hear(&mut told).await?, verdict, "verdict")?;
    }
    Ok(connection.close().await?)
}

async fn cancelled_and_closed() -> Outcome {
    let connection = connect().await?;
    let ((channel, mut told), (other, mut other_told)) =
        (listened(&connection).await?, listened(&connection).await?);
    let queue = named("amqprs-cancelled");
    declare(&channel, &queue, FieldTable::new()).await?;
    channel
        .basic_consume_rx(BasicConsumeArguments::new(&queue, "tag"))
        .await?;
    other
        .queue_delete(QueueDeleteArguments::new(&queue))
        .await?;
    equal(
        hear(&mut told).await?,
        Told::Cancelled("tag".to_owned()),
        "cancelled",
    )?;
    let missing = named("amqprs-missing");
    other
        .basic_get(BasicGetArguments::new(&missing))
        .await
        .err()
        .ok_or("got from a queue that is not there")?;
    let text = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    equal(
        hear(&mut other_told).await?,
        Told::Closed(404, text),
        "closed",
    )?;
    Ok(connection.close().await?)
}

#[tokio::main]
async fn main() {
    let stories: [(&str, Story); 6] = [
        ("work_queue", || Box::pin(work_queue())),
        ("topic_exchange", || Box::pin(topic_exchange())),
        ("rpc", || Box::pin(rpc())),
        ("dead_letters", || Box::pin(dead_letters())),
        ("returns_and_nacks", || Box::pin(returns_and_nacks())),
        ("cancelled_and_closed", || Box::pin(cancelled_and_closed())),
    ];
    tell(&stories).await;
}
