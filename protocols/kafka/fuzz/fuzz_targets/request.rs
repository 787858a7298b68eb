//! The body of any request in any version: refused, or a request.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use trivium_kafka::api::{ApiKey, Request};

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (key, version, body) = input;
    let key = ApiKey::ALL[key as usize % ApiKey::ALL.len()];
    let versions: Vec<_> = key.versions().filter(|version| key.serves(*version)).collect();
    let version = versions[version as usize % versions.len()];
    let _ = Request::read(key, version, Bytes::from(body));
});
