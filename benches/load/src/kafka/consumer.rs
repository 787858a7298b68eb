//! Consuming: one fetch at a time of the consumer's partitions, each from where the last one ended.

use super::Options;
use super::batch::Batch;
use super::codec::{self, Reader, Response, Writer};
use crate::consume::{Source, Tally};

pub struct Consumer {
    options: Options,
    /// Partitions and the next offset of each.
    positions: Vec<(i32, i64)>,
    is_fetching: bool,
}

impl Consumer {
    pub fn new(options: &Options, positions: Vec<(i32, i64)>) -> Consumer {
        Consumer {
            options: options.clone(),
            positions,
            is_fetching: false,
        }
    }

    fn fetch(&self) -> Vec<u8> {
        let options = &self.options;
        // Replica id of a consumer; read uncommitted; no fetch session.
        let mut fetch = Writer::request(codec::FETCH, 0)
            .int32(-1)
            .int32(options.fetch_wait)
            .int32(options.fetch_min as i32)
            .int32(options.fetch_max as i32)
            .int8(0)
            .int32(0)
            .int32(-1)
            .int32(1)
            .string(&options.topic)
            .int32(self.positions.len() as i32);
        for (partition, offset) in &self.positions {
            fetch = fetch
                .int32(*partition)
                .int32(-1)
                .int64(*offset)
                .int64(-1)
                .int32(options.partition_max as i32);
        }
        fetch.int32(0).string("").finish()
    }

    fn on_response(&mut self, mut body: Reader<'_>, tally: &mut Tally) -> anyhow::Result<()> {
        body.int32()?;
        codec::check(body.int16()?, "a fetch")?;
        body.int32()?;
        for _ in 0..body.count()? {
            body.string()?;
            for _ in 0..body.count()? {
                self.on_partition(&mut body, tally)?;
            }
        }
        Ok(())
    }

    fn on_partition(&mut self, body: &mut Reader<'_>, tally: &mut Tally) -> anyhow::Result<()> {
        let partition = body.int32()?;
        codec::check(body.int16()?, "a fetch")?;
        // High watermark, last stable offset, log start.
        body.take(24)?;
        let aborted = body.count()?;
        body.take(aborted.saturating_mul(16))?;
        body.int32()?;
        let mut records = Reader(body.bytes()?);
        let Some((_, next)) = self
            .positions
            .iter_mut()
            .find(|(number, _)| *number == partition)
        else {
            return Ok(());
        };
        while let Some(batch) = Batch::read(&mut records)? {
            tally.order(*next, batch.base_offset, batch.records);
            *next = batch.next_offset;
            if !batch.values(|value| tally.message(value, value.len()))? {
                (0..batch.records).for_each(|_| tally.message(&[], 0));
            }
        }
        Ok(())
    }
}

impl Source for Consumer {
    fn on_input(
        &mut self,
        input: &[u8],
        tally: &mut Tally,
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some(response) = Response::read(&input[used..])? {
            used += response.length;
            self.on_response(response.body, tally)?;
            self.is_fetching = false;
        }
        if !self.is_fetching {
            self.is_fetching = true;
            reply.extend(self.fetch());
        }
        Ok(used)
    }

    /// A publisher's numbers are spread over partitions; offsets tell the order instead.
    fn keeps_order(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::kafka::batch::Template;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn response(base_offset: i64, records: &[u8]) -> Vec<u8> {
        let head = Writer(vec![0; 4])
            .int32(0)
            .int32(0)
            .int16(0)
            .int32(0)
            .int32(1)
            .string("t")
            .int32(1);
        let head = head
            .int32(0)
            .int16(0)
            .int64(9)
            .int64(9)
            .int64(0)
            .int32(-1)
            .int32(-1);
        let mut writer = head.int32(records.len() as i32);
        let batch_at = writer.0.len();
        writer.0.extend(records);
        writer.0[batch_at..batch_at + 8].copy_from_slice(&base_offset.to_be_bytes());
        writer.finish()
    }

    #[test]
    fn each_fetch_begins_where_the_last_one_ended() {
        let options = Line::try_parse_from(["kafka", "consume", "-t", "t"])
            .unwrap()
            .options;
        let (mut consumer, mut tally, mut reply) = (
            Consumer::new(&options, vec![(0, 5)]),
            Tally::new(false),
            Vec::new(),
        );
        assert_eq!(consumer.on_input(&[], &mut tally, &mut reply).unwrap(), 0);
        let offset_at = reply.len() - 6 - 4 - 8 - 8;
        assert_eq!(reply[offset_at..offset_at + 8], 5i64.to_be_bytes());

        let records = Template::new(3, b"hello").stamp(0, 3, &|_| 0).to_vec();
        let input = response(6, &records);
        reply.clear();
        assert_eq!(
            consumer
                .on_input(&input[..50], &mut tally, &mut reply)
                .unwrap(),
            0
        );
        assert!(reply.is_empty(), "one fetch at a time");
        assert_eq!(
            consumer.on_input(&input, &mut tally, &mut reply).unwrap(),
            input.len()
        );
        assert_eq!(tally.counted(), (3, 15));
        assert_eq!(tally.gaps, 1, "offset 5 was not delivered");
        assert_eq!(reply[offset_at..offset_at + 8], 9i64.to_be_bytes());
    }
}
