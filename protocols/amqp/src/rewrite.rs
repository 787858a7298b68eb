//! Changes to a property block that leave every other byte as it came (section 4.2.6.1).

use bytes::{BufMut, Bytes, BytesMut};

use trivium_core::{Delivery, Message, Value};

use crate::{
    field_table::{self, Table},
    properties::{Block, EXPIRATION, HEADERS},
    wire::Malformed,
};

/// The block with another `reply_to`, which is at most 255 bytes.
pub fn with_reply_to(block: &Bytes, reply_to: &str) -> Result<Bytes, Malformed> {
    let Some(old) = Block::parse(block)?.reply_to() else {
        return Ok(block.clone());
    };
    let start = position(block, old);
    let mut out = BytesMut::with_capacity(block.len() + reply_to.len());
    out.put_slice(&block[..start - 1]);
    crate::wire::put_short_string(&mut out, reply_to);
    out.put_slice(&block[start + old.len()..]);
    Ok(out.freeze())
}

/// The block without the headers of a name.
pub fn without_header(block: &Bytes, name: &str) -> Result<Bytes, Malformed> {
    let Some(headers) = Block::parse(block)?.headers() else {
        return Ok(block.clone());
    };
    let start = position(block, headers);
    let mut out = BytesMut::with_capacity(block.len());
    out.put_slice(&block[..start - 4]);
    let kept = field_table::without(headers, name)?;
    out.put_u32(kept.len() as u32);
    out.put_slice(&kept);
    out.put_slice(&block[start + headers.len()..]);
    Ok(out.freeze())
}

/// How often a message came back to a queue that counts that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// Every time.
    pub count: u16,
    /// Those times that count for the limit.
    pub failures: u16,
}

impl Returns {
    const COUNT: &str = "x-acquired-count";
    const FAILURES: &str = "x-delivery-count";

    /// What a delivery says.
    pub fn of(delivery: &Delivery) -> Returns {
        Returns {
            count: delivery.returns,
            failures: delivery.failures,
        }
    }

    /// Sets the headers that say it, if there is anything to say.
    pub fn add_to(self, headers: &mut Table) {
        if self == Returns::default() {
            return;
        }
        headers.retain(|(name, _)| name != Returns::COUNT && name != Returns::FAILURES);
        for (name, times) in [
            (Returns::FAILURES, self.failures),
            (Returns::COUNT, self.count),
        ] {
            headers.push((name.into(), Value::I64(times.into())));
        }
    }
}

/// Appends the block of a message with what it went through since it was published: its deaths, and how often it came
/// back. A dead letter has no lifetime any more.
pub fn put_with_history(message: &Message, returns: Returns, out: &mut BytesMut) {
    let block = &message.native.block;
    // It was validated when it came.
    let Ok(parsed) = Block::parse(block) else {
        return out.put_slice(block);
    };
    let mut headers = parsed
        .headers()
        .and_then(|headers| field_table::decode(&block.slice_ref(headers)).ok())
        .unwrap_or_default();
    if let Some(deaths) = &message.origin.deaths {
        deaths.add_to(&mut headers);
    }
    returns.add_to(&mut headers);
    let start = parsed.headers_at();
    let end = start + parsed.headers().map_or(0, |headers| 4 + headers.len());
    let expiration = parsed
        .expiration()
        .filter(|_| message.expiry_ms.is_none())
        .map(|text| position(block, text) - 1..position(block, text) + text.len());
    let mut flags = u16::from_be_bytes([block[0], block[1]]) | HEADERS;
    if expiration.is_some() {
        flags &= !EXPIRATION;
    }
    out.put_u16(flags);
    out.put_slice(&block[2..start]);
    field_table::encode(&headers, out);
    let cut = expiration.unwrap_or(end..end);
    out.put_slice(&block[end..cut.start]);
    out.put_slice(&block[cut.end..]);
}

/// Where a part of a block begins.
fn position(block: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - block.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers a, BCC and c, delivery mode 2, reply_to and message_id.
    fn block() -> Bytes {
        let headers = b"\x01at\x01\x03BCCA\0\0\0\x06S\0\0\0\x01q\x01cI\0\0\0\x01";
        let mut block = BytesMut::new();
        block.put_u16(0x3280);
        block.put_u32(headers.len() as u32);
        block.put_slice(headers);
        block.put_slice(b"\x02\x03old\x02id");
        block.freeze()
    }

    #[test]
    fn only_the_reply_address_changes() {
        let changed = with_reply_to(&block(), "much.longer").unwrap();
        let (before, after) = (block(), changed.clone());
        let (before, after) = (
            Block::parse(&before).unwrap(),
            Block::parse(&after).unwrap(),
        );
        assert_eq!(after.reply_to(), Some(&b"much.longer"[..]));
        assert_eq!(after.headers(), before.headers());
        assert!(changed.ends_with(b"\x02id"));
        let none = Bytes::from_static(&[0, 0]);
        assert_eq!(with_reply_to(&none, "x").unwrap(), none);
    }

    #[test]
    fn only_the_header_goes() {
        let changed = without_header(&block(), "BCC").unwrap();
        let parsed = Block::parse(&changed).unwrap();
        assert_eq!(parsed.headers(), Some(&b"\x01at\x01\x01cI\0\0\0\x01"[..]));
        assert!(changed.ends_with(b"\x02\x03old\x02id"));
        assert_eq!(without_header(&block(), "none").unwrap(), block());
    }
}
