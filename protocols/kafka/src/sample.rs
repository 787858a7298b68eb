//! Arbitrary messages of a given version, for round-trip tests.

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::Text;

use crate::{
    error::ErrorCode,
    records::{Records, StoredBatch},
    wire::{Float, Uuid},
};

/// A source of arbitrary values that a seed determines.
pub(crate) struct Source {
    state: u64,
    version: i16,
}

impl Source {
    pub(crate) fn new(seed: u64, version: i16) -> Source {
        Source {
            state: seed,
            version,
        }
    }

    pub(crate) fn version(&self) -> i16 {
        self.version
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A type of which there are arbitrary values.
pub(crate) trait Sample: Sized {
    fn sample(source: &mut Source) -> Self;
}

/// An arbitrary value of a field that is nullable in some versions only.
pub(crate) fn option<T: Sample>(source: &mut Source, nullable: bool) -> Option<T> {
    (!nullable || source.below(4) > 0).then(|| T::sample(source))
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source) -> Self {
        option(source, true)
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Sample for $type {
            fn sample(source: &mut Source) -> Self {
                match source.below(4) {
                    0 => -1,
                    1 => <$type>::MAX,
                    _ => source.next() as $type,
                }
            }
        }
    )*};
}

numbers!(i8 i16 i32 i64);

impl Sample for u16 {
    fn sample(source: &mut Source) -> Self {
        source.next() as u16
    }
}

impl Sample for Float {
    fn sample(source: &mut Source) -> Self {
        Float(source.next())
    }
}

impl Sample for bool {
    fn sample(source: &mut Source) -> Self {
        source.below(2) == 0
    }
}

impl Sample for ErrorCode {
    fn sample(source: &mut Source) -> Self {
        ErrorCode(i16::sample(source))
    }
}

impl Sample for Uuid {
    fn sample(source: &mut Source) -> Self {
        Uuid(
            [source.next(), source.next()]
                .map(u64::to_be_bytes)
                .concat()
                .try_into()
                .unwrap(),
        )
    }
}

impl Sample for Text {
    fn sample(source: &mut Source) -> Self {
        let length = [0, 1, 7, 200][source.below(4) as usize];
        (0..length)
            .map(|_| char::from(b'a' + source.below(26) as u8))
            .collect::<String>()
            .into()
    }
}

impl Sample for Bytes {
    fn sample(source: &mut Source) -> Self {
        let length = [0, 3, 130, 5000][source.below(4) as usize];
        (0..length).map(|_| source.next() as u8).collect()
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source) -> Self {
        let length = source.below(4);
        (0..length).map(|_| T::sample(source)).collect()
    }
}

impl Sample for Records {
    fn sample(source: &mut Source) -> Self {
        let length = source.below(3);
        Records((0..length).map(|_| stored_batch(source)).collect())
    }
}

fn stored_batch(source: &mut Source) -> StoredBatch {
    let (base, rest) = (i64::sample(source), Bytes::sample(source));
    let mut bytes = BytesMut::new();
    bytes.put_i64(base);
    bytes.put_i32(4 + rest.len() as i32);
    bytes.put_i32(0);
    bytes.put_slice(&rest);
    StoredBatch {
        base,
        bytes: bytes.freeze(),
    }
}
