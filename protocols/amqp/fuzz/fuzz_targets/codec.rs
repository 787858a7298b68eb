//! Every decoder takes any bytes without a panic, and what a decoder accepts is encoded to something that decodes to the
//! same.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use trivium_amqp::{field_table, method::Method, properties::Basic};
use trivium_core::Dialect;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    Basic.properties(&bytes);
    if let Ok(table) = field_table::decode(&bytes) {
        assert_eq!(field_table::validate(&bytes, |_, _| ()), Ok(()));
        let mut out = BytesMut::new();
        field_table::encode(&table, &mut out);
        let again = field_table::decode(&out.split_off(4).freeze());
        // NaN differs from itself, so the values are compared as they are written.
        assert_eq!(again.map(|again| format!("{again:?}")), Ok(format!("{table:?}")));
    }
    if let Ok(method) = Method::decode(bytes) {
        let mut out = BytesMut::new();
        method.encode(&mut out);
        let again = Method::decode(out.freeze());
        assert_eq!(again.map(|again| format!("{again:?}")), Ok(format!("{method:?}")));
    }
});
