//! Producing: one request of one batch for one partition, several in flight.

use std::collections::VecDeque;

use super::Options;
use super::batch::{self, Template};
use super::codec::{self, Response, Writer};
use crate::publish::{Acknowledgements, Sink};
use crate::stamp;

/// Correlation of the request whose answer shows that all before it was taken.
const BARRIER: i32 = i32::MAX;

pub struct Producer {
    template: Template,
    /// The request before its batch, and the batch behind it.
    request: Vec<u8>,
    head_length: usize,
    partition: i32,
    partitions: i32,
    correlation: i32,
    /// Number of the last record of each unanswered request, oldest first.
    unanswered: VecDeque<u64>,
    in_flight: usize,
    acknowledged: bool,
    linger_ns: u64,
}

impl Producer {
    pub fn new(options: &Options, index: usize) -> Producer {
        let body = stamp::body(options.load.size, index as u32);
        let template = Template::new(batch::records_in(options.batch, options.load.size), &body);
        // Transactional id (none), acks, timeout, one topic of one partition.
        let head = Writer::request(codec::PRODUCE, 0)
            .int16(-1)
            .int16(options.acks)
            .int32(30_000);
        let head = head
            .int32(1)
            .string(&options.topic)
            .int32(1)
            .int32(0)
            .int32(0)
            .0;
        Producer {
            head_length: head.len(),
            request: head,
            template,
            partition: index as i32 % options.partitions,
            partitions: options.partitions,
            correlation: 0,
            unanswered: VecDeque::new(),
            in_flight: options.in_flight.max(1),
            acknowledged: options.acks != 0,
            linger_ns: options.linger * 1_000_000,
        }
    }

    fn put(&mut self, at: usize, value: i32) {
        self.request[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
}

impl Sink for Producer {
    fn block(&self) -> u64 {
        self.template.records() as u64
    }

    /// Records; what bounds them is the number of requests, so this is never reached.
    fn window(&self) -> Option<u64> {
        self.acknowledged
            .then_some(4 * self.in_flight as u64 * self.block())
    }

    fn is_ready(&self) -> bool {
        self.unanswered.len() < self.in_flight
    }

    fn linger_ns(&self) -> u64 {
        self.linger_ns
    }

    fn stamp(&mut self, first: u64, count: u64, sent_ns: &dyn Fn(u64) -> u64) -> &[u8] {
        self.request.truncate(self.head_length);
        let batch = self.template.stamp(first, count as usize, sent_ns);
        let batch_length = batch.len() as i32;
        self.request.extend_from_slice(batch);
        self.put(0, self.request.len() as i32 - 4);
        self.put(8, self.correlation);
        self.put(self.head_length - 8, self.partition);
        self.put(self.head_length - 4, batch_length);
        self.partition = (self.partition + 1) % self.partitions;
        self.correlation = (self.correlation + 1) % BARRIER;
        if self.acknowledged {
            self.unanswered.push_back(first + count - 1);
        }
        &self.request
    }

    fn barrier(&mut self) -> Vec<u8> {
        Writer::request(codec::API_VERSIONS, BARRIER).finish()
    }

    fn on_input(
        &mut self,
        input: &[u8],
        acknowledgements: &mut Acknowledgements,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some(response) = Response::read(&input[used..])? {
            used += response.length;
            if response.correlation == BARRIER {
                acknowledgements.pass_barrier();
                continue;
            }
            let mut body = response.body;
            body.count()?;
            body.string()?;
            body.count()?;
            body.int32()?;
            codec::check(body.int16()?, "records")?;
            // A connection's requests are answered in their order.
            if let Some(last) = self.unanswered.pop_front() {
                acknowledgements.accept_through(last);
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_request_holds_the_batch_for_the_next_partition() {
        let line = [
            "kafka",
            "publish",
            "-s",
            "2",
            "-t",
            "t",
            "--partitions",
            "2",
            "--acks",
            "-1",
        ];
        let mut producer = Producer::new(&Line::try_parse_from(line).unwrap().options, 1);
        let one = producer.stamp(0, 1, &|_| 0).to_vec();
        let head = [
            &[0, 0, 0, 119, 0, 0, 0, 7, 0, 0, 0, 0, 0, 12][..],
            b"trivium-load",
            &[
                0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0x75, 0x30, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0,
                0, 1, 0, 0, 0, 70,
            ],
        ]
        .concat();
        assert_eq!(one[..head.len()], head);
        assert_eq!(one.len(), head.len() + 70);
        let two = producer.stamp(1, 2, &|_| 0);
        assert_eq!(
            (two[11], two[head.len() - 5]),
            (1, 0),
            "correlation and partition"
        );
        assert_eq!(producer.unanswered, [0, 2]);
    }
}
