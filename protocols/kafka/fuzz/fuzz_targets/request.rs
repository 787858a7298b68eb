//! The body of any request in any version: refused, or a request.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use trivium_kafka::api::{ApiKey, Request};

fuzz_target!(|input: &[u8]| {
    let [key, version, body @ ..] = input else { return };
    let Some(key) = ApiKey::find(i16::from(*key)) else { return };
    let version = i16::from(*version);
    if key.serves(version) {
        let _ = Request::read(key, version, Bytes::copy_from_slice(body));
    }
});
