//! Options that every protocol has.

use std::time::Duration;

/// Which side of the broker is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Publish only
    Publish,
    /// Consume only
    Consume,
    /// Publish and consume at the same time
    Both,
}

impl Mode {
    pub fn publishes(self) -> bool {
        self != Mode::Consume
    }

    pub fn consumes(self) -> bool {
        self != Mode::Publish
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// Which side to load
    #[arg(value_enum)]
    pub mode: Mode,
    /// Publishing connections
    #[arg(short = 'x', long, value_name = "N", default_value_t = 1)]
    pub publishers: usize,
    /// Consuming connections
    #[arg(short = 'y', long, value_name = "N", default_value_t = 1)]
    pub consumers: usize,
    /// Body bytes; from 24 on, a body carries the stamp that latency and loss are measured by
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes, default_value = "100")]
    pub size: usize,
    /// Messages in all (publishing), or to wait for (consuming)
    #[arg(short = 'C', long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    /// Seconds to run, unless a count is given [default: 10]
    #[arg(short = 'z', long, value_name = "S", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Seconds before anything is measured
    #[arg(long, value_name = "S", value_parser = parse_seconds, default_value = "0")]
    pub warmup: Duration,
    /// Messages per second of all publishers together; 0 is as fast as possible
    #[arg(short, long, value_name = "N", value_parser = parse_count, default_value = "0")]
    pub rate: u64,
    /// Messages that all publishers together may be ahead of the consumers; 0 is no limit
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "10000")]
    pub max_lag: u64,
    /// Seconds without a message after which consumers stop waiting
    #[arg(long, value_name = "S", value_parser = parse_seconds, default_value = "5")]
    pub drain: Duration,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Broker processes (with their children) to measure on this machine
    #[arg(
        long,
        value_name = "PID",
        value_delimiter = ',',
        visible_alias = "pids"
    )]
    pub pid: Vec<u32>,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Load {
    pub fn publishers(&self) -> usize {
        if self.mode.publishes() {
            self.publishers
        } else {
            0
        }
    }

    pub fn consumers(&self) -> usize {
        if self.mode.consumes() {
            self.consumers
        } else {
            0
        }
    }

    /// How long to run; `None` when a count ends the run, or when consumers run until it is quiet.
    pub fn run_time(&self) -> Option<Duration> {
        match (self.duration, self.count, self.mode) {
            (Some(duration), _, _) => Some(duration),
            (None, None, Mode::Publish | Mode::Both) => Some(Duration::from_secs(10)),
            _ => None,
        }
    }

    /// Messages of publisher `index`: the count divided, the remainder to the first ones.
    pub fn share(&self, index: usize) -> u64 {
        let Some(count) = self.count else {
            return u64::MAX;
        };
        let publishers = self.publishers as u64;
        count / publishers + u64::from((index as u64) < count % publishers)
    }

    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.publishers > 0 && self.consumers > 0,
            "at least one connection is needed"
        );
        anyhow::ensure!(self.publishers <= u32::MAX as usize, "too many publishers");
        anyhow::ensure!(self.size <= 1 << 27, "bodies are limited to 128 MiB");
        Ok(())
    }
}

/// A number of bytes: `100`, `64k`, `1m` (powers of 1024).
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let scaled = scaled(text, 1024)?;
    usize::try_from(scaled).map_err(|_| too_large(text))
}

/// A number of messages: `500`, `20k`, `5m` (powers of 1000).
pub fn parse_count(text: &str) -> Result<u64, String> {
    scaled(text, 1000)
}

/// Seconds with a fraction: `10`, `0.5`.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("'{text}' is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn scaled(text: &str, unit: u64) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], unit),
        Some(b'm') => (&lower[..lower.len() - 1], unit * unit),
        _ => (&lower[..], 1),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("'{text}' is not a number"))?;
    number.checked_mul(factor).ok_or_else(|| too_large(text))
}

fn too_large(text: &str) -> String {
    format!("'{text}' is too large")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        load: Load,
    }

    fn parse(line: &str) -> Load {
        Line::try_parse_from(std::iter::once("load").chain(line.split(' ')))
            .map(|line| line.load)
            .unwrap()
    }

    #[test]
    fn units_scale_bytes_by_1024_and_counts_by_1000() {
        assert_eq!(parse_bytes("64k"), Ok(65_536));
        assert_eq!(parse_bytes("1M"), Ok(1 << 20));
        assert_eq!(parse_count("5m"), Ok(5_000_000));
        assert!(parse_count("5x").is_err());
        assert!(parse_count("99999999999999999999").is_err());
        assert!(parse_count("18446744073709551615k").is_err());
        assert!(parse_seconds("-1").is_err());
    }

    #[test]
    fn a_count_is_shared_without_a_remainder() {
        let load = parse("publish -x 3 -C 10");
        assert_eq!([load.share(0), load.share(1), load.share(2)], [4, 3, 3]);
        assert_eq!(load.run_time(), None);
    }

    #[test]
    fn publishing_without_an_end_lasts_ten_seconds_and_consuming_until_quiet() {
        assert_eq!(parse("both").run_time(), Some(Duration::from_secs(10)));
        assert_eq!(parse("consume").run_time(), None);
        assert_eq!(
            parse("consume -z 2.5").run_time(),
            Some(Duration::from_millis(2500))
        );
    }

    #[test]
    fn a_side_that_does_not_run_has_no_connections() {
        let load = parse("consume -x 4 -y 3 --pids 7,8");
        assert_eq!((load.publishers(), load.consumers()), (0, 3));
        assert_eq!(load.pid, [7, 8]);
    }
}
