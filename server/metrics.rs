//! Metrics in Prometheus' text format: the broker's, the listeners' and the process's.

use std::{collections::BTreeMap, fmt::Write, fs};

use rustix::process::{Resource, getrlimit};
use trivium_core::TapStatus;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the series: `trivium_…`, the unit in the name, counters end in `_total`.
    pub name: &'static str,
    /// One sentence about the series; the same for all samples of a name.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What tells samples of one name apart.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// How the values of a series behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Sample {
    /// A sample without labels.
    pub fn new(name: &'static str, help: &'static str, kind: Kind, value: f64) -> Sample {
        Sample {
            name,
            help,
            kind,
            labels: Vec::new(),
            value,
        }
    }

    /// With one more label.
    pub fn with(mut self, label: &'static str, value: impl Into<String>) -> Sample {
        self.labels.push((label, value.into()));
        self
    }
}

impl From<trivium_core::Sample> for Sample {
    fn from(sample: trivium_core::Sample) -> Sample {
        let kind = if sample.counter {
            Kind::Counter
        } else {
            Kind::Gauge
        };
        let labels = sample.labels.into_iter();
        Sample {
            labels: labels.map(|(name, of)| (name, of.to_owned())).collect(),
            ..Sample::new(sample.name, sample.help, kind, sample.value as f64)
        }
    }
}

/// What the taps of logs have lost, the partitions of each taken together.
pub fn taps(taps: &[TapStatus]) -> Vec<Sample> {
    let mut logs: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for tap in taps {
        *logs.entry((&tap.vhost, &tap.log)).or_default() += tap.lost;
    }
    let sample = |((vhost, log), lost): ((&str, &str), u64)| {
        let help =
            "Offsets that retention, a deletion or damage took before the tap had read them.";
        Sample::new(
            "trivium_tap_lost_records_total",
            help,
            Kind::Counter,
            lost as f64,
        )
        .with("vhost", vhost)
        .with("log", log)
    };
    logs.into_iter().map(sample).collect()
}

/// Renders samples; those of one name are grouped, in the order in which names first appear.
pub fn render(mut samples: Vec<Sample>) -> String {
    let mut order: Vec<&'static str> = Vec::new();
    for sample in &samples {
        if !order.contains(&sample.name) {
            order.push(sample.name);
        }
    }
    samples.sort_by_key(|sample| order.iter().position(|name| *name == sample.name));
    let mut text = String::new();
    let mut last = "";
    for sample in &samples {
        if sample.name != last {
            head(sample, &mut text);
            last = sample.name;
        }
        line(sample, &mut text);
    }
    text
}

fn head(sample: &Sample, text: &mut String) {
    let kind = match sample.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let _ = writeln!(
        text,
        "# HELP {} {}\n# TYPE {} {kind}",
        sample.name, sample.help, sample.name
    );
}

fn line(sample: &Sample, text: &mut String) {
    text.push_str(sample.name);
    for (i, (label, value)) in sample.labels.iter().enumerate() {
        let value = value
            .replace('\\', r"\\")
            .replace('"', "\\\"")
            .replace('\n', r"\n");
        let _ = write!(
            text,
            "{}{label}=\"{value}\"",
            if i == 0 { '{' } else { ',' }
        );
    }
    if !sample.labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {}", sample.value);
}

/// What the operating system knows about this process, under the names that dashboards expect.
pub fn process() -> Vec<Sample> {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    let mut samples = vec![
        Sample::new(
            "process_cpu_seconds_total",
            "User and system CPU time.",
            Kind::Counter,
            cpu,
        ),
        gauge(
            "process_max_fds",
            "Descriptors that may be open.",
            open_files_max(),
        ),
    ];
    samples.extend(
        resident_bytes()
            .map(|bytes| gauge("process_resident_memory_bytes", "Memory in use.", bytes)),
    );
    samples.extend(open_files().map(|count| gauge("process_open_fds", "Open descriptors.", count)));
    samples
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample::new(name, help, Kind::Gauge, value)
}

fn open_files_max() -> f64 {
    getrlimit(Resource::Nofile)
        .current
        .map_or(f64::INFINITY, |limit| limit as f64)
}

fn open_files() -> Option<f64> {
    // The directory is itself open while it is read.
    Some(
        fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1) as f64,
    )
}

/// Memory in use.
pub fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_are_together_and_labels_escaped() {
        let one = |value| Sample::new("one_total", "One.", Kind::Counter, value);
        let samples = vec![
            one(1.0).with("a", "x"),
            gauge("two", "Two.", 0.5),
            one(2.0).with("a", "\"\\\n").with("b", "y"),
        ];
        let expected = "# HELP one_total One.\n# TYPE one_total counter\none_total{a=\"x\"} 1\n\
                        one_total{a=\"\\\"\\\\\\n\",b=\"y\"} 2\n# HELP two Two.\n# TYPE two gauge\ntwo 0.5\n";
        assert_eq!(render(samples), expected);
    }

    #[test]
    fn the_process_knows_itself() {
        let samples = process();
        let value = |name| {
            samples
                .iter()
                .find(|sample| sample.name == name)
                .unwrap()
                .value
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
    }
}
