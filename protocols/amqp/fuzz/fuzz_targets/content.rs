//! A message comes in any number of body frames and out as it was sent; what is changed in its properties on the way
//! leaves the rest to the byte.

#![no_main]

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use trivium_amqp::{
    properties::Block,
    publish::{Draft, Publish, Publisher},
    rewrite::{with_reply_to, without_header},
};
use trivium_core::{Origin, Text};

const SIZE_MAX: usize = 1 << 16;

fuzz_target!(|input: (&[u8], Vec<&[u8]>, u16)| {
    let (block, pieces, missing) = input;
    let block = Bytes::copy_from_slice(block);
    rewritten(&block);
    let body: Vec<u8> = pieces.concat();
    let mut header = BytesMut::new();
    header.put_u32(60 << 16);
    header.put_u64((body.len() + usize::from(missing)) as u64);
    header.put_slice(&block);
    let (origin, address) = (Arc::new(Origin::default()), Text::from_static("amq.rabbitmq.reply-to.1"));
    let by = Publisher { origin: &origin, is_impersonator: true, size_max: SIZE_MAX, reply_address: Some(&address) };
    let publish = Publish { exchange: "x".into(), routing_key: "k".into(), mandatory: false };
    let Ok(mut draft) = Draft::new(publish, header.freeze(), &by) else { return };
    for piece in pieces {
        if draft.append(Bytes::copy_from_slice(piece)).is_err() {
            panic!("what was announced is refused");
        }
    }
    assert_eq!(draft.is_complete(), missing == 0);
    if missing == 0 {
        let (message, _) = draft.finish();
        assert_eq!(message.body.as_deref(), Some(&body[..]));
        assert!(Block::parse(&message.native.block).is_ok_and(|block| block.bcc().is_none()));
    } else {
        let too_much = Bytes::from(vec![0; usize::from(missing) + 1]);
        assert!(draft.append(too_much).is_err());
    }
});

fn rewritten(block: &Bytes) {
    let Ok(before) = Block::parse(block) else { return };
    let Ok(answered) = with_reply_to(block, "another") else { panic!("a good block is refused") };
    let Ok(after) = Block::parse(&answered) else { panic!("a good block was spoiled") };
    assert_eq!(before.reply_to().map(|_| &b"another"[..]), after.reply_to());
    assert_eq!(before.headers(), after.headers());
    let Ok(stripped) = without_header(block, "BCC") else { panic!("a good block is refused") };
    let Ok(after) = Block::parse(&stripped) else { panic!("a good block was spoiled") };
    assert!(after.bcc().is_none());
    assert_eq!(before.reply_to(), after.reply_to());
}
