//! rskafka, a client in Rust alone, as applications use it. Stories are the arguments, the broker is in `KAFKA`,
//! topics begin with `PREFIX`.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Utc};
use rskafka::{
    client::{
        Client, ClientBuilder,
        error::{Error as Refusal, ProtocolError},
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::{Record, RecordAndOffset},
};

type Told = Result<(), Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(120);
const WAIT_MS: i32 = 5_000;

#[tokio::main]
async fn main() -> ExitCode {
    for name in env::args().skip(1) {
        let told = match tokio::time::timeout(PATIENCE, tell(&name)).await {
            Ok(told) => told,
            Err(late) => Err(late.into()),
        };
        match told {
            Ok(()) => println!("ok {name}"),
            Err(why) => println!("failed {name}: {}", why.to_string().replace('\n', " ")),
        }
    }
    ExitCode::SUCCESS
}

async fn tell(name: &str) -> Told {
    let client = ClientBuilder::new(vec![env::var("KAFKA")?]).build().await?;
    let topic = format!("{}-{name}", env::var("PREFIX")?);
    client
        .controller_client()?
        .create_topic(&topic, 2, 1, WAIT_MS)
        .await?;
    match name {
        "codecs" => codecs(&client, &topic).await,
        "offsets" => offsets(&client, &topic).await,
        "topics" => topics(&client, &topic).await,
        _ => Err("no such story".into()),
    }
}

fn check(holds: bool, otherwise: impl ToString) -> Told {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_string().into())
    }
}

fn record(number: u32, timestamp: DateTime<Utc>) -> Record {
    Record {
        key: Some(format!("key {number}").into_bytes()),
        value: (number % 10 != 9).then(|| format!("value {number}").repeat(20).into_bytes()),
        headers: BTreeMap::from([("number".to_owned(), number.to_be_bytes().to_vec())]),
        timestamp,
    }
}

/// In milliseconds, as records have it.
fn now() -> DateTime<Utc> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later than 1970");
    DateTime::from_timestamp_millis(since.as_millis() as i64).expect("now is a time")
}

async fn partition(client: &Client, topic: &str) -> Result<PartitionClient, Box<dyn Error>> {
    Ok(client
        .partition_client(topic, 1, UnknownTopicHandling::Error)
        .await?)
}

async fn read(
    from: &PartitionClient,
    mut offset: i64,
    end: i64,
) -> Result<Vec<RecordAndOffset>, Box<dyn Error>> {
    let mut all = Vec::new();
    while offset < end {
        let (records, _) = from.fetch_records(offset, 1..1_000_000, 500).await?;
        offset = records.last().map_or(offset, |record| record.offset + 1);
        all.extend(records);
    }
    Ok(all)
}

async fn codecs(client: &Client, topic: &str) -> Told {
    let partition = partition(client, topic).await?;
    let codecs = [
        Compression::NoCompression,
        Compression::Gzip,
        Compression::Lz4,
        Compression::Snappy,
        Compression::Zstd,
    ];
    for (round, codec) in codecs.into_iter().enumerate() {
        let sent: Vec<_> = (0..100).map(|number| record(number, now())).collect();
        let produced = partition.produce(sent.clone(), codec).await?;
        let first = 100 * round as i64;
        check(
            produced == (first..first + 100).collect::<Vec<_>>(),
            "offsets",
        )?;
        let got = read(&partition, first, first + 100).await?;
        let records: Vec<_> = got.into_iter().map(|it| it.record).collect();
        check(records == sent, format!("{codec:?}: other records"))?;
    }
    Ok(())
}

async fn offsets(client: &Client, topic: &str) -> Told {
    let partition = partition(client, topic).await?;
    let began = now();
    for number in 0..10_u32 {
        let at = began - Duration::from_millis(u64::from(10 - number) * 1_000);
        partition
            .produce(vec![record(number, at)], Compression::Gzip)
            .await?;
    }
    check(
        partition.get_offset(OffsetAt::Earliest).await? == 0,
        "earliest",
    )?;
    check(
        partition.get_offset(OffsetAt::Latest).await? == 10,
        "latest",
    )?;
    let since = OffsetAt::Timestamp(began - Duration::from_millis(3_500));
    check(partition.get_offset(since).await? == 7, "by time")?;
    partition.delete_records(4, WAIT_MS).await?;
    check(
        partition.get_offset(OffsetAt::Earliest).await? == 4,
        "after records were deleted",
    )?;
    check(read(&partition, 4, 10).await?.len() == 6, "what is left")?;
    let gone = partition.fetch_records(0, 1..1_000, 100).await;
    let is_out_of_range = matches!(
        gone,
        Err(Refusal::ServerError {
            protocol_error: ProtocolError::OffsetOutOfRange,
            ..
        })
    );
    check(is_out_of_range, "what was deleted is out of range")
}

async fn topics(client: &Client, topic: &str) -> Told {
    let listed = client.list_topics().await?;
    let found = listed.iter().find(|it| it.name == topic);
    check(found.is_some_and(|it| it.partitions.len() == 2), "listed")?;
    let again = client
        .controller_client()?
        .create_topic(topic, 2, 1, WAIT_MS)
        .await;
    let exists = matches!(
        again,
        Err(Refusal::ServerError {
            protocol_error: ProtocolError::TopicAlreadyExists,
            ..
        })
    );
    check(exists, "it is there")?;
    client
        .controller_client()?
        .delete_topic(topic, WAIT_MS)
        .await?;
    check(
        !client
            .list_topics()
            .await?
            .iter()
            .any(|it| it.name == topic),
        "deleted",
    )
}
