//! Any bytes are refused, or are a packet that encodes to something that decodes to the same packet.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use trivium_mqtt::packet::{Packet, Version};

fuzz_target!(|data: &[u8]| {
    for version in [Version::V31, Version::V311, Version::V5] {
        let Ok(Some(packet)) = Packet::take(&mut Bytes::copy_from_slice(data), version, 1 << 20) else { continue };
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        let mut out = BytesMut::new();
        packet.encode(version, &mut out);
        assert_eq!(Packet::take(&mut out.freeze(), version, usize::MAX), Ok(Some(packet)));
    }
});
