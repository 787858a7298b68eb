//! What the broker counts, as a scrape sees it.
//!
//! Counters are atomics that are added to once per batch by whoever does the work; a [`Sample`] is
//! made of them only when somebody asks.

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the series, in Prometheus' form: `trivium_…`, the unit in the name, counters end in `_total`.
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
