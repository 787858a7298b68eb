//! Field tables (section 4.2.5.5) in RabbitMQ's dialect: a type letter before each value, signed `s`, `l` and `L`.
//!
//! Order and duplicates are kept. A long string that is not UTF-8 becomes [`Value::Bytes`], and only for
//! those is the difference between `S` and `x` lost.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_core::{Text, Value};

use crate::wire::{Decoder, Malformed, put_long_string, put_short_string, put_sized};

/// Tables and arrays may be nested so deep, the outermost included.
pub const DEPTH_MAX: usize = 32;

/// A table in order, duplicates kept.
pub type Table = Vec<(Text, Value)>;

/// Reads a table without its own length.
pub fn decode(bytes: &Bytes) -> Result<Table, Malformed> {
    table(bytes.clone(), 1)
}

/// Appends a table with its length.
pub fn encode(table: &[(Text, Value)], out: &mut BytesMut) {
    put_sized(out, |out| {
        for (name, value) in table {
            put_short_string(out, name);
            encode_value(value, out);
        }
    });
}

/// Checks a table without its own length, calling `visit` with each name of the outermost level and its value.
pub fn validate<'a>(
    mut bytes: &'a [u8],
    mut visit: impl FnMut(&'a str, RawValue<'a>),
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let name = short_string(&mut bytes)?;
        let value = raw_value(&mut bytes, 1)?;
        visit(name, value);
    }
    Ok(())
}

/// A value as it is on the wire: its type letter and what follows, any length taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawValue<'a> {
    /// The type letter.
    pub tag: u8,
    /// The value.
    pub bytes: &'a [u8],
}

impl RawValue<'_> {
    /// RabbitMQ's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self.tag {
            b't' => "bool",
            b'b' => "byte",
            b'B' => "unsignedbyte",
            b's' | b'U' => "short",
            b'u' => "unsignedshort",
            b'I' => "signedint",
            b'i' => "unsignedint",
            b'l' | b'L' => "long",
            b'f' => "float",
            b'd' => "double",
            b'D' => "decimal",
            b'S' => "longstr",
            b'x' => "binary",
            b'T' => "timestamp",
            b'A' => "array",
            b'F' => "table",
            _ => "void",
        }
    }
}

/// The strings of a validated array, without what else is in it.
pub fn strings(mut array: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !array.is_empty() {
            let value = raw_value(&mut array, 1).ok()?;
            if value.tag == b'S' {
                return Some(value.bytes);
            }
        }
        None
    })
}

/// A table (without its own length) less the fields of a name.
pub fn without(mut table: &[u8], name: &str) -> Result<Vec<u8>, Malformed> {
    let mut kept = Vec::with_capacity(table.len());
    while !table.is_empty() {
        let field = table;
        let found = short_string(&mut table)?;
        raw_value(&mut table, 1)?;
        if found != name {
            kept.extend_from_slice(&field[..field.len() - table.len()]);
        }
    }
    Ok(kept)
}

fn short_string<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let length = bytes.try_get_u8().map_err(|_| Malformed::Truncated)?;
    std::str::from_utf8(split(bytes, length.into())?).map_err(|_| Malformed::NotUtf8)
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (front, rest) = bytes.split_at_checked(length).ok_or(Malformed::Truncated)?;
    *bytes = rest;
    Ok(front)
}

fn raw_value<'a>(bytes: &mut &'a [u8], depth: usize) -> Result<RawValue<'a>, Malformed> {
    let tag = bytes.try_get_u8().map_err(|_| Malformed::Truncated)?;
    let length = match tag {
        b'S' | b'x' | b'A' | b'F' => {
            bytes.try_get_u32().map_err(|_| Malformed::Truncated)? as usize
        }
        _ => fixed_length(tag).ok_or(Malformed::UnknownFieldType(tag))?,
    };
    let value = RawValue {
        tag,
        bytes: split(bytes, length)?,
    };
    if matches!(tag, b'A' | b'F') {
        validate_nested(value, depth + 1)?;
    }
    Ok(value)
}

fn validate_nested(value: RawValue<'_>, depth: usize) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed::TooDeep);
    }
    let mut bytes = value.bytes;
    while !bytes.is_empty() {
        if value.tag == b'F' {
            short_string(&mut bytes)?;
        }
        raw_value(&mut bytes, depth)?;
    }
    Ok(())
}

/// How long a value of this type is, unless its own length precedes it.
fn fixed_length(tag: u8) -> Option<usize> {
    match tag {
        b'V' => Some(0),
        b't' | b'b' | b'B' => Some(1),
        b's' | b'u' | b'U' => Some(2),
        b'I' | b'i' | b'f' => Some(4),
        b'D' => Some(5),
        b'l' | b'L' | b'd' | b'T' => Some(8),
        _ => None,
    }
}

fn table(bytes: Bytes, depth: usize) -> Result<Table, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed::TooDeep);
    }
    let mut decoder = Decoder::new(bytes);
    let mut fields = Table::new();
    while decoder.remaining() > 0 {
        fields.push((decoder.field()?, value(&mut decoder, depth)?));
    }
    Ok(fields)
}

fn array(bytes: Bytes, depth: usize) -> Result<Vec<Value>, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed::TooDeep);
    }
    let mut decoder = Decoder::new(bytes);
    let mut values = Vec::new();
    while decoder.remaining() > 0 {
        values.push(value(&mut decoder, depth)?);
    }
    Ok(values)
}

fn value(decoder: &mut Decoder, depth: usize) -> Result<Value, Malformed> {
    Ok(match decoder.field::<u8>()? {
        b'V' => Value::Null,
        b't' => Value::Bool(decoder.field::<u8>()? != 0),
        b'b' => Value::I8(decoder.field::<u8>()? as i8),
        b'B' => Value::U8(decoder.field()?),
        // `U` is a signed short in the published table of types, and rare.
        b's' | b'U' => Value::I16(decoder.field::<u16>()? as i16),
        b'u' => Value::U16(decoder.field()?),
        b'I' => Value::I32(decoder.field::<u32>()? as i32),
        b'i' => Value::U32(decoder.field()?),
        b'l' | b'L' => Value::I64(decoder.field::<u64>()? as i64),
        b'f' => Value::F32(f32::from_bits(decoder.field()?)),
        b'd' => Value::F64(f64::from_bits(decoder.field()?)),
        b'D' => Value::Decimal(decoder.field()?, decoder.field::<u32>()? as i32),
        b'S' => text_or_bytes(decoder.field()?),
        b'x' => Value::Bytes(decoder.field()?),
        b'T' => Value::Timestamp(decoder.field()?),
        b'A' => Value::Array(array(decoder.field()?, depth + 1)?),
        b'F' => Value::Table(table(decoder.field()?, depth + 1)?),
        unknown => return Err(Malformed::UnknownFieldType(unknown)),
    })
}

/// Text if it is UTF-8.
pub fn text_or_bytes(bytes: Bytes) -> Value {
    match Text::try_from(bytes.clone()) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(bytes),
    }
}

fn encode_value(value: &Value, out: &mut BytesMut) {
    out.put_u8(tag(value));
    match value {
        Value::Null => {}
        Value::Bool(value) => out.put_u8((*value).into()),
        Value::I8(value) => out.put_i8(*value),
        Value::U8(value) => out.put_u8(*value),
        Value::I16(value) => out.put_i16(*value),
        Value::U16(value) => out.put_u16(*value),
        Value::I32(value) => out.put_i32(*value),
        Value::U32(value) => out.put_u32(*value),
        Value::I64(value) => out.put_i64(*value),
        Value::F32(value) => out.put_f32(*value),
        Value::F64(value) => out.put_f64(*value),
        Value::Decimal(places, unscaled) => {
            out.put_u8(*places);
            out.put_i32(*unscaled);
        }
        Value::Text(text) => put_long_string(out, text.as_bytes()),
        Value::Bytes(bytes) => put_long_string(out, bytes),
        Value::Timestamp(seconds) => out.put_u64(*seconds),
        Value::Array(values) => put_sized(out, |out| {
            values.iter().for_each(|value| encode_value(value, out))
        }),
        Value::Table(table) => encode(table, out),
    }
}

/// The type letter.
pub fn tag(value: &Value) -> u8 {
    match value {
        Value::Null => b'V',
        Value::Bool(_) => b't',
        Value::I8(_) => b'b',
        Value::U8(_) => b'B',
        Value::I16(_) => b's',
        Value::U16(_) => b'u',
        Value::I32(_) => b'I',
        Value::U32(_) => b'i',
        Value::I64(_) => b'l',
        Value::F32(_) => b'f',
        Value::F64(_) => b'd',
        Value::Decimal(..) => b'D',
        Value::Text(_) => b'S',
        Value::Bytes(_) => b'x',
        Value::Timestamp(_) => b'T',
        Value::Array(_) => b'A',
        Value::Table(_) => b'F',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::I8),
            any::<u8>().prop_map(Value::U8),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<i32>().prop_map(|value| Value::F32(value as f32)),
            any::<i64>().prop_map(|value| Value::F64(value as f64)),
            any::<(u8, i32)>().prop_map(|(places, unscaled)| Value::Decimal(places, unscaled)),
            ".{0,20}".prop_map(|text| Value::Text(text.into())),
            proptest::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| Value::Bytes(bytes.into())),
            any::<u64>().prop_map(Value::Timestamp),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::vec(("[a-z]{0,8}".prop_map(Text::from), inner), 0..6)
                    .prop_map(Value::Table),
            ]
        })
    }

    fn any_table() -> impl Strategy<Value = Table> {
        proptest::collection::vec(("\\PC{0,20}".prop_map(Text::from), any_value()), 0..8)
    }

    fn encoded(table: &Table) -> Bytes {
        let mut out = BytesMut::new();
        encode(table, &mut out);
        out.split_off(4).freeze()
    }

    /// A table in a table in a table …
    fn nested(depth: usize) -> Bytes {
        (1..depth).fold(Bytes::new(), |inner, _| {
            let mut outer = BytesMut::from(&b"\0F"[..]);
            put_long_string(&mut outer, &inner);
            outer.freeze()
        })
    }

    proptest! {
        #[test]
        fn tables_come_back_as_they_were(table in any_table()) {
            let bytes = encoded(&table);
            prop_assert_eq!(validate(&bytes, |_, _| ()), Ok(()));
            prop_assert_eq!(decode(&bytes), Ok(table));
        }

        #[test]
        fn both_readers_agree_about_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(validate(&bytes, |_, _| ()), decode(&bytes).map(|_| ()));
        }

        #[test]
        fn a_cut_table_is_malformed(table in any_table(), cut in 1usize..200) {
            let bytes = encoded(&table);
            let bytes = bytes.slice(..bytes.len().saturating_sub(cut));
            prop_assert_eq!(validate(&bytes, |_, _| ()), decode(&bytes).map(|_| ()));
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(decode(&nested(DEPTH_MAX)).is_ok());
        for depth in [DEPTH_MAX + 1, 2_000] {
            assert_eq!(decode(&nested(depth)), Err(Malformed::TooDeep));
            assert_eq!(validate(&nested(depth), |_, _| ()), Err(Malformed::TooDeep));
        }
    }

    #[test]
    fn rabbitmqs_letters_are_read() {
        let bytes = Bytes::from_static(
            b"\x01aU\xff\xfe\x01bL\xff\xff\xff\xff\xff\xff\xff\xff\x01cS\0\0\0\x01\xff",
        );
        let expected = vec![
            ("a".into(), Value::I16(-2)),
            ("b".into(), Value::I64(-1)),
            ("c".into(), Value::Bytes(Bytes::from_static(b"\xff"))),
        ];
        assert_eq!(decode(&bytes), Ok(expected));
    }

    #[test]
    fn lengths_beyond_the_end_allocate_nothing() {
        assert_eq!(
            decode(&Bytes::from_static(b"\x01aS\x7f\xff\xff\xff")),
            Err(Malformed::Truncated)
        );
        assert_eq!(
            decode(&Bytes::from_static(b"\x01aA\xff\xff\xff\xff")),
            Err(Malformed::Truncated)
        );
        assert_eq!(
            decode(&Bytes::from_static(b"\x01a?")),
            Err(Malformed::UnknownFieldType(b'?'))
        );
    }
}
