//! Filters that read a queue or a log instead of subscribing to topics: `$queue/<name>` and
//! `$stream/<name>?offset=…` or `?time=…`.

use trivium_core::{Kind, Offset, StreamStart, Text, Timestamp, stream_age};

use crate::topic;

/// What queues are called in filters and topics.
pub const QUEUE: &str = "$queue/";
/// What logs are called in filters.
const STREAM: &str = "$stream/";

/// The user properties of SUBSCRIBE that say where to begin, for filters that do not.
pub const OFFSET_PROPERTY: &str = "x-stream-offset";
/// As [`OFFSET_PROPERTY`], a time.
pub const TIME_PROPERTY: &str = "x-stream-time";

/// What a filter reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A queue or a log.
    pub kind: Kind,
    /// Its name.
    pub name: Text,
    /// Where to begin, as the client says it; only for logs.
    pub start: Option<Text>,
}

/// Whether a filter reads something.
pub fn is_reader(filter: &str) -> bool {
    filter.starts_with(QUEUE) || filter.starts_with(STREAM)
}

impl Source {
    /// What a filter reads; `None` when it has no name for it, a wildcard in it, or one of the broker's own.
    pub fn parse(filter: &str, start: Option<&Text>) -> Option<Source> {
        let source = match filter.strip_prefix(QUEUE) {
            Some(queue) => Source {
                kind: Kind::Queue,
                name: queue.into(),
                start: None,
            },
            None => {
                let rest = filter.strip_prefix(STREAM)?;
                let (log, own) = match rest.rsplit_once('?') {
                    Some((log, start)) => (log, Some(Text::from(start))),
                    None => (rest, None),
                };
                Source {
                    kind: Kind::Log,
                    name: log.into(),
                    start: own.filter(|own| !own.is_empty()).or_else(|| start.cloned()),
                }
            }
        };
        let internal = source.kind == Kind::Log && source.name.starts_with("__");
        (topic::is_name(&source.name) && !internal).then_some(source)
    }

    /// As the session remembers it; [`Source::parse`] reads it again.
    pub fn text(&self) -> Text {
        match &self.start {
            Some(start) => format!("{}?{start}", self.topic()).into(),
            None => self.topic(),
        }
    }

    /// The filter without a start: what a subscription goes by, and a topic for what has none.
    pub fn topic(&self) -> Text {
        let prefix = match self.kind {
            Kind::Log => STREAM,
            _ => QUEUE,
        };
        format!("{prefix}{}", self.name).into()
    }

    /// Whether both read the same.
    pub fn reads_the_same(&self, other: &Source) -> bool {
        self.kind == other.kind && self.name == other.name
    }

    /// Where to begin; `None` when it cannot be understood.
    pub fn begin(&self, now: Timestamp) -> Option<StreamStart> {
        let Some(start) = &self.start else {
            return Some(StreamStart::Next);
        };
        match start.split_once('=')? {
            ("offset", offset) => offset_start(offset, now),
            ("time", time) => milliseconds(time).map(StreamStart::AtTime),
            _ => None,
        }
    }
}

/// `first`, `last`, `next`, an offset, or an interval back from now, as in AMQP; `earliest` and `latest` as in Kafka.
fn offset_start(offset: &str, now: Timestamp) -> Option<StreamStart> {
    match offset {
        "first" | "earliest" => Some(StreamStart::First),
        "last" => Some(StreamStart::Last),
        "next" | "latest" => Some(StreamStart::Next),
        _ => match offset.parse() {
            Ok(offset) => Some(StreamStart::Offset(Offset(offset))),
            Err(_) => {
                let age = u64::try_from(stream_age(offset)?.as_millis()).unwrap_or(u64::MAX);
                Some(StreamStart::AtTime(now.0.saturating_sub(age)))
            }
        },
    }
}

/// Milliseconds since 1970, or a date with or without a time in ISO 8601 and UTC.
fn milliseconds(time: &str) -> Option<u64> {
    if let Ok(milliseconds) = time.parse() {
        return Some(milliseconds);
    }
    let (date, clock) = match time.split_once('T') {
        Some((date, clock)) => (date, clock.strip_suffix('Z').unwrap_or(clock)),
        None => (time, "00:00:00"),
    };
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.splitn(3, ':').map(number);
    let (hour, minute) = (clock.next()??, clock.next()??);
    let second = clock.next().unwrap_or(Some(0))?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !in_range {
        return None;
    }
    let thousandths = match fraction.get(..3).unwrap_or(fraction) {
        "" => 0,
        digits => number(digits)? * 10_u64.pow(3 - digits.len() as u32),
    };
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1000 + thousandths)
}

fn number(digits: &str) -> Option<u64> {
    let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March, so that the day that is sometimes there is the last.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(10_000_000);

    fn begin(filter: &str) -> Option<StreamStart> {
        Source::parse(filter, None)?.begin(NOW)
    }

    #[test]
    fn a_start_is_an_offset_or_a_time() {
        let stream = |start: &str| begin(&format!("$stream/log?{start}"));
        assert_eq!(begin("$stream/log"), Some(StreamStart::Next));
        assert_eq!(stream("offset=first"), Some(StreamStart::First));
        assert_eq!(stream("offset=earliest"), Some(StreamStart::First));
        assert_eq!(stream("offset=last"), Some(StreamStart::Last));
        assert_eq!(stream("offset=latest"), Some(StreamStart::Next));
        assert_eq!(stream("offset=7"), Some(StreamStart::Offset(Offset(7))));
        assert_eq!(stream("offset=1h"), Some(StreamStart::AtTime(6_400_000)));
        let times = [
            ("1700000000123", 1_700_000_000_123),
            ("1970-01-01", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2023-11-14T22:13:20.5Z", 1_700_000_000_500),
            ("2023-11-14T22:13", 1_699_999_980_000),
        ];
        for (time, expected) in times {
            assert_eq!(
                stream(&format!("time={time}")),
                Some(StreamStart::AtTime(expected)),
                "{time}"
            );
        }
        for bad in [
            "offset=",
            "offset=-1",
            "offset=soon",
            "time=",
            "time=2023-13-01",
            "time=1-1-1",
            "x=1",
            "first",
        ] {
            assert_eq!(stream(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_is_one_thing_and_not_the_brokers() {
        for bad in [
            "$queue/",
            "$queue/+",
            "$queue/#",
            "$stream/",
            "$stream/?offset=first",
            "$stream/__x",
            "$stream/+",
        ] {
            assert_eq!(Source::parse(bad, None), None, "{bad}");
        }
        let property = Text::from("offset=first");
        let log = Source::parse("$stream/a.b", Some(&property)).unwrap();
        assert_eq!(
            (&*log.text(), &*log.topic()),
            ("$stream/a.b?offset=first", "$stream/a.b")
        );
        assert_eq!(Source::parse(&log.text(), None).unwrap(), log);
        let own = Source::parse("$stream/a?b?offset=3", Some(&property)).unwrap();
        assert_eq!(
            (&*own.name, own.begin(NOW)),
            ("a?b", Some(StreamStart::Offset(Offset(3))))
        );
        let queue = Source::parse("$queue/a/b?c", Some(&property)).unwrap();
        assert_eq!(
            (queue.kind, &*queue.name, &queue.start),
            (Kind::Queue, "a/b?c", &None)
        );
    }
}
