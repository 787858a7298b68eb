//! What the metadata of a consumer says: the subscription that Kafka's consumers send as their protocol's metadata
//! (ConsumerProtocolSubscription), and the assignment that they get (ConsumerProtocolAssignment).

use bytes::{Buf, Bytes};

use crate::properties::Text;

/// The protocol type whose metadata this is.
pub(super) const CONSUMER: &str = "consumer";

/// The logs that a consumer subscribes to; `None` if the metadata is something else.
pub(super) fn logs(metadata: &Bytes) -> Option<Vec<Text>> {
    let mut rest = metadata.clone();
    rest.try_get_i16().ok()?;
    let count = rest.try_get_i32().ok()?;
    // Each name takes two bytes at least.
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= rest.len() / 2)?;
    (0..count).map(|_| text(&mut rest)).collect()
}

fn text(rest: &mut Bytes) -> Option<Text> {
    let length = rest.try_get_i16().ok()?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= rest.len())?;
    Text::try_from(rest.split_to(length)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_read_and_noise_is_not() {
        let metadata = Bytes::from_static(b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff");
        assert_eq!(logs(&metadata).unwrap(), ["a", "bc"]);
        for end in 0..13 {
            assert_eq!(logs(&metadata.slice(..end)), None);
        }
        assert_eq!(logs(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff")), None);
    }
}
