//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11).

use bytes::{BufMut, BytesMut};
use trivium_core::Text;

use super::{
    Qos, Reason, Version, Violation, kind,
    property::{self, Properties, id},
    wire::{Reader, VARINT_MAX, expect_flags, put_packet, put_text, put_varint},
};
use crate::{
    reader::{OFFSET_PROPERTY, TIME_PROPERTY},
    topic,
};

/// Filters in one packet, at most: what a packet takes in memory stays in proportion to its length.
const FILTERS_MAX: usize = 16_384;

/// Asks for messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// Comes back in SUBACK.
    pub packet_id: u16,
    /// Comes with each message, when set.
    pub subscription_id: Option<u32>,
    /// Where filters that read a log begin, if they do not say it: `offset=` or `time=` and the value of the user property
    /// for that.
    pub start: Option<Text>,
    /// At least one.
    pub filters: Vec<Filter>,
}

/// One filter of a SUBSCRIBE and its options (3.8.3.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The topic filter, well formed.
    pub filter: Text,
    /// The greatest QoS wanted.
    pub qos: Qos,
    /// Not what this client published.
    pub no_local: bool,
    /// RETAIN is kept as it was published.
    pub retain_as_published: bool,
    /// Whether retained messages are wanted.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Always,
    /// When the subscription is new.
    IfNew,
    /// Never.
    Never,
}

impl Subscribe {
    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<Subscribe, Violation> {
        check_flags(first, version)?;
        let packet_id = reader.packet_id()?;
        let (subscription_id, start) = if version.is_5() {
            read_properties(reader)?
        } else {
            (None, None)
        };
        let mut filters = Vec::new();
        while reader.remaining() > 0 {
            let filter = read_filter(reader)?;
            filters.push(Filter::from_options(filter, reader.u8()?, version)?);
            check_count(filters.len())?;
        }
        if filters.is_empty() {
            return Err(Violation::protocol("SUBSCRIBE without a filter"));
        }
        Ok(Subscribe {
            packet_id,
            subscription_id,
            start,
            filters,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        put_packet(out, kind::SUBSCRIBE << 4 | 0b0010, |out| {
            out.put_u16(self.packet_id);
            if version.is_5() {
                property::put_properties(out, |out| {
                    if let Some(id) = self.subscription_id {
                        out.put_u8(id::SUBSCRIPTION_ID);
                        put_varint(out, id as usize);
                    }
                    let start = self.start.as_deref().and_then(|it| it.split_once('='));
                    if let Some((kind, value)) = start {
                        let name = match kind {
                            "time" => TIME_PROPERTY,
                            _ => OFFSET_PROPERTY,
                        };
                        property::put_user(out, name, value);
                    }
                });
            }
            for filter in &self.filters {
                put_text(out, &filter.filter);
                out.put_u8(filter.options());
            }
        });
    }
}

fn read_properties(reader: &mut Reader<'_>) -> Result<(Option<u32>, Option<Text>), Violation> {
    let mut properties = Properties::read(reader)?;
    let (mut subscription, mut start) = (None, None);
    while let Some(id) = properties.next_id()? {
        match id {
            id::SUBSCRIPTION_ID if subscription.is_some() => {
                return Err(Violation::protocol("two subscription identifiers"));
            }
            id::SUBSCRIPTION_ID => match properties.value.varint()? {
                value @ 1..=VARINT_MAX => subscription = Some(value as u32),
                _ => return Err(Violation::protocol("subscription identifier is 0")),
            },
            id::USER_PROPERTY => {
                let (name, value) = (properties.value.str()?, properties.value.str()?);
                match name {
                    OFFSET_PROPERTY => start = Some(format!("offset={value}").into()),
                    TIME_PROPERTY => start = Some(format!("time={value}").into()),
                    _ => {}
                }
            }
            other => properties.skip_common(other)?,
        }
    }
    Ok((subscription, start))
}

fn read_filter(reader: &mut Reader<'_>) -> Result<Text, Violation> {
    let filter = reader.text()?;
    if !topic::is_filter(&filter) {
        return Err(Violation::malformed("not a topic filter"));
    }
    Ok(filter)
}

fn check_count(filters: usize) -> Result<(), Violation> {
    match filters {
        0..=FILTERS_MAX => Ok(()),
        _ => Err(Violation {
            reason: Reason::QUOTA_EXCEEDED,
            text: "too many filters in one packet",
        }),
    }
}

impl Filter {
    fn from_options(filter: Text, options: u8, version: Version) -> Result<Filter, Violation> {
        let reserved = if version.is_5() {
            0b1100_0000
        } else {
            0b1111_1100
        };
        if options & reserved != 0 {
            return Err(Violation::malformed(
                "reserved subscription options are set",
            ));
        }
        let retain_handling = match options >> 4 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Violation::protocol("retain handling is 3")),
        };
        Ok(Filter {
            filter,
            qos: Qos::from_bits(options)?,
            no_local: options & 0b100 != 0,
            retain_as_published: options & 0b1000 != 0,
            retain_handling,
        })
    }

    fn options(&self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct SubAck {
    /// As in the SUBSCRIBE.
    pub packet_id: u16,
    /// Granted QoS or why not, one per filter.
    pub reasons: Vec<Reason>,
}

impl SubAck {
    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<SubAck, Violation> {
        expect_flags(first, 0)?;
        let packet_id = reader.packet_id()?;
        Ok(SubAck {
            packet_id,
            reasons: read_reasons(reader, version)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        put_packet(out, kind::SUBACK << 4, |out| {
            put_reasons(self.packet_id, &self.reasons, version, out)
        });
    }
}

/// Asks for no more messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe {
    /// Comes back in UNSUBACK.
    pub packet_id: u16,
    /// At least one.
    pub filters: Vec<Text>,
}

impl Unsubscribe {
    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<Unsubscribe, Violation> {
        check_flags(first, version)?;
        let packet_id = reader.packet_id()?;
        if version.is_5() {
            let mut properties = Properties::read(reader)?;
            while let Some(id) = properties.next_id()? {
                properties.skip_common(id)?;
            }
        }
        let mut filters = Vec::new();
        while reader.remaining() > 0 {
            filters.push(read_filter(reader)?);
            check_count(filters.len())?;
        }
        if filters.is_empty() {
            return Err(Violation::protocol("UNSUBSCRIBE without a filter"));
        }
        Ok(Unsubscribe { packet_id, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        put_packet(out, kind::UNSUBSCRIBE << 4 | 0b0010, |out| {
            out.put_u16(self.packet_id);
            if version.is_5() {
                property::put_properties(out, |_| ());
            }
            for filter in &self.filters {
                put_text(out, filter);
            }
        });
    }
}

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsubAck {
    /// As in the UNSUBSCRIBE.
    pub packet_id: u16,
    /// One per filter; none in 3.x.
    pub reasons: Vec<Reason>,
}

impl UnsubAck {
    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<UnsubAck, Violation> {
        expect_flags(first, 0)?;
        let packet_id = reader.packet_id()?;
        let reasons = if version.is_5() {
            read_reasons(reader, version)?
        } else {
            Vec::new()
        };
        Ok(UnsubAck { packet_id, reasons })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let reasons = if version.is_5() {
            self.reasons.as_slice()
        } else {
            &[]
        };
        put_packet(out, kind::UNSUBACK << 4, |out| {
            put_reasons(self.packet_id, reasons, version, out)
        });
    }
}

// 3.8.1-1, 3.10.1-1; 3.1 clients resend with DUP.
fn check_flags(first: u8, version: Version) -> Result<(), Violation> {
    match version {
        Version::V31 => expect_flags(first & !0b1000, 0b0010),
        _ => expect_flags(first, 0b0010),
    }
}

fn read_reasons(reader: &mut Reader<'_>, version: Version) -> Result<Vec<Reason>, Violation> {
    if version.is_5() {
        let mut properties = Properties::read(reader)?;
        while let Some(id) = properties.next_id()? {
            match id {
                id::REASON_STRING => drop(properties.value.str()?),
                other => properties.skip_common(other)?,
            }
        }
    }
    Ok(reader.rest().iter().map(|code| Reason(*code)).collect())
}

fn put_reasons(packet_id: u16, reasons: &[Reason], version: Version, out: &mut BytesMut) {
    out.put_u16(packet_id);
    if version.is_5() {
        property::put_properties(out, |_| ());
    }
    out.extend(reasons.iter().map(|reason| reason.0));
}
