//! How far readers of logs are, as metrics: a bounded number of series, however many groups there are.

use trivium_core::{Lag, LagPlace, ReaderKind};

use crate::metrics::{Kind, Sample};

/// Places of readers in partitions that are shown at most; the rest is counted. `/api/lag` has all.
const PLACES_MAX: usize = 2_000;

/// The series of readers, which come by vhost, kind and name.
pub fn samples(readers: &[Lag]) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut last = None;
    for lag in readers.iter().take(PLACES_MAX) {
        let Some(place) = &lag.place else {
            continue;
        };
        if lag.reader.kind == ReaderKind::Tap {
            samples.push(tap(lag, place));
            continue;
        }
        samples.extend(group(lag, place));
        let name = (&lag.reader.vhost, lag.reader.kind, &lag.reader.name);
        if last.replace(name) != Some(name) {
            samples.push(members(lag));
        }
    }
    samples.push(gauge(
        "trivium_lag_series_omitted",
        "Places of readers in partitions that are not shown here, because there are too many; /api/lag has all",
        readers.len().saturating_sub(PLACES_MAX) as u64,
    ));
    samples
}

fn group(lag: &Lag, place: &LagPlace) -> [Sample; 2] {
    let with = |sample: Sample| {
        sample
            .with("vhost", &*lag.reader.vhost)
            .with("group", &*lag.reader.name)
            .with("kind", lag.reader.kind.name())
            .with("log", &*place.log)
            .with("partition", place.partition.to_string())
    };
    [
        with(gauge(
            "trivium_group_lag",
            "Records that a group has still to read",
            lag.lag,
        )),
        with(gauge(
            "trivium_group_offset",
            "The next record that a group reads",
            place.position.0,
        )),
    ]
}

fn members(lag: &Lag) -> Sample {
    let about = "Members of a group";
    gauge("trivium_group_members", about, lag.reader.members)
        .with("vhost", &*lag.reader.vhost)
        .with("group", &*lag.reader.name)
        .with("kind", lag.reader.kind.name())
}

fn tap(lag: &Lag, place: &LagPlace) -> Sample {
    let about = "Records that a log's tap has still to offer";
    gauge("trivium_tap_lag", about, lag.lag)
        .with("vhost", &*lag.reader.vhost)
        .with("exchange", &*lag.reader.name)
        .with("log", &*place.log)
        .with("partition", place.partition.to_string())
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample::new(name, help, Kind::Gauge, value as f64)
}

#[cfg(test)]
mod tests {
    use trivium_core::{Offset, Reader};

    use super::*;

    fn reader(kind: ReaderKind, number: usize) -> Lag {
        Lag {
            reader: Reader {
                vhost: "/".into(),
                kind,
                protocol: None,
                name: format!("g{number}").into(),
                state: "Empty",
                members: 1,
            },
            place: Some(LagPlace {
                log: "l".into(),
                partition: 2,
                position: Offset(3),
                start: Offset(0),
                end: Offset(8),
                age_ms: None,
            }),
            lag: 5,
        }
    }

    #[test]
    fn groups_and_taps_have_series_up_to_a_bound() {
        let two = samples(&[reader(ReaderKind::Stream, 1), reader(ReaderKind::Tap, 2)]);
        let text = crate::metrics::render(two);
        for line in [
            "trivium_group_lag{vhost=\"/\",group=\"g1\",kind=\"stream\",log=\"l\",partition=\"2\"} 5",
            "trivium_group_offset{vhost=\"/\",group=\"g1\",kind=\"stream\",log=\"l\",partition=\"2\"} 3",
            "trivium_group_members{vhost=\"/\",group=\"g1\",kind=\"stream\"} 1",
            "trivium_tap_lag{vhost=\"/\",exchange=\"g2\",log=\"l\",partition=\"2\"} 5",
            "trivium_lag_series_omitted 0",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
        let many: Vec<Lag> = (0..PLACES_MAX + 7)
            .map(|number| reader(ReaderKind::Classic, number))
            .collect();
        let samples = samples(&many);
        assert_eq!(samples.len(), 3 * PLACES_MAX + 1);
        assert_eq!(samples.last().map(|sample| sample.value), Some(7.0));
    }
}
