//! The result of a run, as a table for people or one JSON object for programs.

use std::fmt::{self, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::process::Spent;

/// Latencies in ns to three digits, up to an hour.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
        .expect("the bounds are in order and the digits at most 5")
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub protocol: &'static str,
    pub mode: String,
    /// The measured window.
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumed: Option<Side>,
    pub checks: Checks,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<Cost>,
    pub generator: Cost,
}

/// What went one way in the measured window.
#[derive(Debug, Serialize)]
pub struct Side {
    pub messages: u64,
    pub per_second: f64,
    /// 10^6 body bytes per second.
    pub megabytes_per_second: f64,
    /// Published: from the planned sending to the acknowledgement. Consumed: to the arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Latency>,
}

#[derive(Debug, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// Over the whole run, warm-up and draining included.
#[derive(Debug, Default, Serialize)]
pub struct Checks {
    pub published: u64,
    pub refused: u64,
    pub consumed: u64,
    /// Expected and never received.
    pub lost: u64,
    /// Sequence numbers that a consumer did not see.
    pub gaps: u64,
    /// Received again, or after a later message of the same publisher.
    pub disordered: u64,
}

/// What processes spent in the measured window.
#[derive(Debug, Serialize)]
pub struct Cost {
    pub cpu_seconds: f64,
    pub cores: f64,
    pub cpu_us_per_message: f64,
    /// Per 10^9 body bytes.
    pub cpu_seconds_per_gigabyte: f64,
    pub peak_rss_bytes: u64,
}

impl Side {
    pub fn new(messages: u64, bytes: u64, seconds: f64, latencies: &Histogram<u64>) -> Side {
        Side {
            messages,
            per_second: messages as f64 / seconds,
            megabytes_per_second: bytes as f64 / 1e6 / seconds,
            latency_us: Latency::of(latencies),
        }
    }
}

impl Latency {
    fn of(latencies: &Histogram<u64>) -> Option<Latency> {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        (!latencies.is_empty()).then(|| Latency {
            p50: at(0.5),
            p99: at(0.99),
            p99_9: at(0.999),
            max: latencies.max() as f64 / 1e3,
        })
    }
}

impl Cost {
    /// `messages` and `bytes` are what passed through in `seconds`.
    pub fn new(spent: Spent, seconds: f64, messages: u64, bytes: u64) -> Cost {
        let per = |count: f64| {
            if count > 0.0 {
                spent.cpu_seconds / count
            } else {
                0.0
            }
        };
        Cost {
            cpu_seconds: spent.cpu_seconds,
            cores: spent.cpu_seconds / seconds,
            cpu_us_per_message: per(messages as f64) * 1e6,
            cpu_seconds_per_gigabyte: per(bytes as f64 / 1e9),
            peak_rss_bytes: spent.peak_rss,
        }
    }
}

impl Report {
    pub fn render(&self, json: bool) -> anyhow::Result<String> {
        let mut text = if json {
            serde_json::to_string(self)?
        } else {
            self.to_string()
        };
        text.push('\n');
        Ok(text)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}, measured for {:.2} s",
            self.protocol, self.mode, self.seconds
        )?;
        for (name, side) in [("published", &self.published), ("consumed", &self.consumed)] {
            if let Some(side) = side {
                write!(f, "\n{name:<10}{side}")?;
            }
        }
        for (name, cost) in [
            ("broker", self.broker.as_ref()),
            ("generator", Some(&self.generator)),
        ] {
            if let Some(cost) = cost {
                write!(f, "\n{name:<10}{cost}")?;
            }
        }
        write!(f, "\nchecks    {}", self.checks)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, megabytes) = (self.per_second, self.megabytes_per_second);
        write!(
            f,
            "{:>12} msg  {rate:>11.0} msg/s  {megabytes:>8.1} MB/s",
            self.messages
        )?;
        let Some(latency) = &self.latency_us else {
            return Ok(());
        };
        write!(f, "  p50 {}", micros(latency.p50))?;
        write!(f, "  p99 {}", micros(latency.p99))?;
        write!(f, "  p99.9 {}", micros(latency.p99_9))?;
        write!(f, "  max {}", micros(latency.max))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>12.2} CPU s  {:>9.2} cores  ",
            self.cpu_seconds, self.cores
        )?;
        write!(
            f,
            "{:>7.2} µs/msg  {:.3} s/GB  ",
            self.cpu_us_per_message, self.cpu_seconds_per_gigabyte
        )?;
        write!(f, "peak RSS {:.1} MB", self.peak_rss_bytes as f64 / 1e6)
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>12} published  {} consumed",
            self.published, self.consumed
        )?;
        let counts = [
            (self.refused, "refused"),
            (self.lost, "LOST"),
            (self.gaps, "gaps"),
            (self.disordered, "repeated or out of order"),
        ];
        counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| write!(f, "  {count} {what}"))
    }
}

fn micros(us: f64) -> String {
    let mut text = String::new();
    let written = match us {
        ..1_000.0 => write!(text, "{us:.0} µs"),
        ..1_000_000.0 => write!(text, "{:.2} ms", us / 1e3),
        _ => write!(text, "{:.2} s", us / 1e6),
    };
    written.expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut histogram = latencies();
        (1..=1000).for_each(|us| histogram.saturating_record(us * 1000));
        Report {
            protocol: "mqtt",
            mode: "both".into(),
            seconds: 2.0,
            published: None,
            consumed: Some(Side::new(2_000_000, 200_000_000, 2.0, &histogram)),
            checks: Checks {
                published: 10,
                consumed: 9,
                lost: 1,
                ..Checks::default()
            },
            broker: Some(Cost::new(
                Spent {
                    cpu_seconds: 3.0,
                    peak_rss: 5_000_000,
                },
                2.0,
                2_000_000,
                200_000_000,
            )),
            generator: Cost::new(Spent::default(), 2.0, 0, 0),
        }
    }

    #[test]
    fn the_table_names_rate_latency_cost_and_loss() {
        let text = report().render(false).unwrap();
        for part in [
            "1000000 msg/s",
            "100.0 MB/s",
            "p50 500 µs",
            "1.50 µs/msg",
            "15.000 s/GB",
            "1 LOST",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(
            !text.contains("published    "),
            "a side that did not run has no line:\n{text}"
        );
    }

    #[test]
    fn json_has_the_same_figures() {
        let json: serde_json::Value =
            serde_json::from_str(&report().render(true).unwrap()).unwrap();
        assert_eq!(json["consumed"]["per_second"], 1_000_000.0);
        assert_eq!(json["broker"]["cpu_us_per_message"], 1.5);
        assert_eq!(json["checks"]["lost"], 1);
        assert!(json.get("published").is_none());
        assert_eq!(json["generator"]["cpu_us_per_message"], 0.0);
    }

    #[test]
    fn latencies_read_in_the_unit_that_fits() {
        assert_eq!(
            [micros(57.4), micros(1_234.0), micros(2e6)],
            ["57 µs", "1.23 ms", "2.00 s"]
        );
    }
}
