//! How messages are declared: as tables of fields, from which structs, decoders and encoders are made.
//!
//! ```text
//! Name {
//!     field: Type = default => versions, tag 0, null versions;
//! }
//! ```
//! Everything behind the type may be left out: the default is the type's own, the versions are all,
//! there is no tag, and an `Option` is null in all versions. Versions are ranges (`3..`, `..=12`).
//! A field outside of its versions is not on the wire: it reads as its default. A tagged field is
//! written only when it is not its default. Tags are listed in ascending order.

/// A message that may say how long its client is to wait; those without the field do not.
pub trait Throttled: Clone {
    /// Milliseconds.
    fn set_throttle(&mut self, ms: i32);
}

macro_rules! message {
    ($(
        $(#[$doc:meta])*
        $name:ident {
            $(
                $(#[$field_doc:meta])*
                $field:ident: $type:ty $(= $default:expr)?
                    $(=> $versions:expr $(, tag $tag:literal)? $(, null $null:expr)?)?;
            )*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: message!(@default $($default)?),)* }
            }
        }

        impl $crate::wire::Wire for $name {
            #[allow(unused_variables)]
            fn read(reader: &mut $crate::wire::Reader) -> Result<Self, $crate::wire::Malformed> {
                let version = reader.version();
                let mut it = $name::default();
                $(message!(@read it $field reader version; $($versions $(, tag $tag)? $(, null $null)?)?);)*
                reader.tagged_fields(|tag, field| {
                    match tag {
                        $($($($tag if ($versions).contains(&version) => it.$field = $crate::wire::Wire::read(field)?,)?)?)*
                        _ => {}
                    }
                    Ok(())
                })?;
                Ok(it)
            }

            #[allow(unused_variables, unused_mut)]
            fn write(&self, frame: &mut $crate::wire::Frame) {
                let version = frame.version();
                $(message!(@write self $field frame version; $($versions $(, tag $tag)? $(, null $null)?)?);)*
                let (default, mut tags) = ($name::default(), $crate::wire::TaggedFields::default());
                $($($(
                    if ($versions).contains(&version) && self.$field != default.$field {
                        tags.put($tag, &self.$field, version);
                    }
                )?)?)*
                frame.put_tagged_fields(tags);
            }
        }

        impl $crate::message::Throttled for $name {
            #[allow(unused_variables)]
            fn set_throttle(&mut self, ms: i32) {
                $(message!(@throttle self $field ms);)*
            }
        }

        #[cfg(test)]
        impl $crate::sample::Sample for $name {
            fn sample(source: &mut $crate::sample::Source) -> Self {
                let mut it = $name::default();
                #[allow(unused_variables)]
                let version = source.version();
                $(message!(@sample it $field source version; $($versions $(, tag $tag)? $(, null $null)?)?);)*
                it
            }
        }
    )*};

    (@throttle $it:ident throttle_time_ms $ms:ident) => { $it.throttle_time_ms = $ms; };
    (@throttle $it:ident $field:ident $ms:ident) => {};

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@read $it:ident $field:ident $reader:ident $version:ident;) => {
        $it.$field = $crate::wire::Wire::read($reader)?;
    };
    (@read $it:ident $field:ident $reader:ident $version:ident; $versions:expr, tag $tag:literal) => {};
    (@read $it:ident $field:ident $reader:ident $version:ident; $versions:expr) => {
        if ($versions).contains(&$version) {
            $it.$field = $crate::wire::Wire::read($reader)?;
        }
    };
    (@read $it:ident $field:ident $reader:ident $version:ident; $versions:expr, null $null:expr) => {
        if ($versions).contains(&$version) {
            $it.$field = $crate::wire::read_option($reader, ($null).contains(&$version))?;
        }
    };

    (@write $it:ident $field:ident $frame:ident $version:ident;) => {
        $crate::wire::Wire::write(&$it.$field, $frame);
    };
    (@write $it:ident $field:ident $frame:ident $version:ident; $versions:expr, tag $tag:literal) => {};
    (@write $it:ident $field:ident $frame:ident $version:ident; $versions:expr) => {
        if ($versions).contains(&$version) {
            $crate::wire::Wire::write(&$it.$field, $frame);
        }
    };
    (@write $it:ident $field:ident $frame:ident $version:ident; $versions:expr, null $null:expr) => {
        if ($versions).contains(&$version) {
            $crate::wire::write_option(&$it.$field, $frame, ($null).contains(&$version));
        }
    };

    (@sample $it:ident $field:ident $source:ident $version:ident;) => {
        $it.$field = $crate::sample::Sample::sample($source);
    };
    (@sample $it:ident $field:ident $source:ident $version:ident; $versions:expr $(, tag $tag:literal)?) => {
        if ($versions).contains(&$version) {
            $it.$field = $crate::sample::Sample::sample($source);
        }
    };
    (@sample $it:ident $field:ident $source:ident $version:ident; $versions:expr, null $null:expr) => {
        if ($versions).contains(&$version) {
            $it.$field = $crate::sample::option($source, ($null).contains(&$version));
        }
    };
}

/// Lets a message be null: a byte says whether it is there.
macro_rules! nullable {
    ($name:ident) => {
        impl $crate::wire::Nullable for $name {
            fn read_nullable(
                reader: &mut $crate::wire::Reader,
            ) -> Result<Option<Self>, $crate::wire::Malformed> {
                match <i8 as $crate::wire::Wire>::read(reader)? {
                    ..0 => Ok(None),
                    _ => <$name as $crate::wire::Wire>::read(reader).map(Some),
                }
            }

            fn write_nullable(value: Option<&Self>, frame: &mut $crate::wire::Frame) {
                let present: i8 = if value.is_some() { 1 } else { -1 };
                $crate::wire::Wire::write(&present, frame);
                if let Some(value) = value {
                    $crate::wire::Wire::write(value, frame);
                }
            }
        }
    };
}

pub(crate) use message;
pub(crate) use nullable;
