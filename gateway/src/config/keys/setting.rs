//! Values of settings, and how each type of Rust keeps one.

use super::scope::GRACE;
use crate::config::{DescriptorTables, Durability, LogFormat, PrintFormat};
use pulsegate_core::policy::{
    Framing, Heartbeat, LifetimePolicy, MinimumRate, Policy, Protocol, SecondConnection,
};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// A value, whatever it is kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A span of time.
    Duration(Duration),
    /// A size in bytes, or a count.
    Number(u64),
    /// An address with a port.
    Address(SocketAddr),
    /// Text: a word of a few, a name, a line, a path.
    Text(String),
}

/// Something that keeps a value. What is set has the type of what is read, and lies in the range of its key; anything else
/// changes nothing.
pub trait Setting {
    /// The value; `None`: it is off.
    fn value(&self) -> Option<Value>;

    /// Keeps a value.
    fn set(&mut self, value: &Value);
}

/// A type that always has a value.
trait Kept: Sized {
    fn to_value(&self) -> Value;
    fn from_value(value: &Value) -> Option<Self>;
}

impl<T: Kept> Setting for T {
    fn value(&self) -> Option<Value> {
        Some(self.to_value())
    }

    fn set(&mut self, value: &Value) {
        if let Some(kept) = T::from_value(value) {
            *self = kept;
        }
    }
}

impl<T: Kept> Setting for Option<T> {
    fn value(&self) -> Option<Value> {
        self.as_ref().map(T::to_value)
    }

    fn set(&mut self, value: &Value) {
        if let Some(kept) = T::from_value(value) {
            *self = Some(kept);
        }
    }
}

impl Kept for Duration {
    fn to_value(&self) -> Value {
        Value::Duration(*self)
    }

    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Duration(duration) = value { Some(*duration) } else { None }
    }
}

impl Kept for SocketAddr {
    fn to_value(&self) -> Value {
        Value::Address(*self)
    }

    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Address(address) = value { Some(*address) } else { None }
    }
}

/// Types that are made of a number.
macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Kept for $type {
            fn to_value(&self) -> Value {
                Value::Number(u64::try_from(*self).unwrap_or(u64::MAX))
            }

            fn from_value(value: &Value) -> Option<Self> {
                if let Value::Number(number) = value { Self::try_from(*number).ok() } else { None }
            }
        }
    )*};
}

numbers!(u32, u64, usize);

impl Kept for NonZeroUsize {
    fn to_value(&self) -> Value {
        self.get().to_value()
    }

    fn from_value(value: &Value) -> Option<Self> {
        usize::from_value(value).and_then(Self::new)
    }
}

impl Kept for MinimumRate {
    fn to_value(&self) -> Value {
        Value::Number(self.bytes_per_second)
    }

    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value).map(|bytes_per_second| Self { bytes_per_second, grace: GRACE })
    }
}

/// Types that are made of text.
macro_rules! texts {
    ($($type:ty),*) => {$(
        impl Kept for $type {
            fn to_value(&self) -> Value {
                Value::Text(self.to_string())
            }

            fn from_value(value: &Value) -> Option<Self> {
                if let Value::Text(text) = value { Some(text.as_str().into()) } else { None }
            }
        }
    )*};
}

texts!(String, Box<str>);

impl Kept for PathBuf {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string_lossy().into_owned())
    }

    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.into()) } else { None }
    }
}

impl Kept for Heartbeat {
    fn to_value(&self) -> Value {
        Value::Text(match self {
            Self::Any => "any".to_owned(),
            Self::Line(line) => String::from_utf8_lossy(line).into_owned(),
        })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let Value::Text(text) = value else { return None };
        Some(if text == "any" { Self::Any } else { Self::Line(text.as_bytes().into()) })
    }
}

/// The word says which sort of lifetime it is; how long it lasts are other keys.
impl Kept for LifetimePolicy {
    fn to_value(&self) -> Value {
        let word = if matches!(self, Self::Short { .. }) { "short" } else { "long" };
        Value::Text(word.to_owned())
    }

    fn from_value(value: &Value) -> Option<Self> {
        let Value::Text(text) = value else { return None };
        Some(if text == "short" {
            Self::Short { deadline: Duration::ZERO }
        } else {
            Policy::default().lifetime
        })
    }
}

impl Kept for Durability {
    fn to_value(&self) -> Value {
        Value::Text(match self {
            Self::Os => "os".to_owned(),
            Self::Synced => "synced".to_owned(),
            Self::None | Self::Other(_) => "none".to_owned(),
        })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let Value::Text(text) = value else { return None };
        match text.as_str() {
            "os" => Some(Self::Os),
            "synced" => Some(Self::Synced),
            _ => None,
        }
    }
}

/// Types with a word for each of their values.
macro_rules! words {
    ($($type:ty { $($word:literal => $variant:ident),* })*) => {$(
        impl Kept for $type {
            fn to_value(&self) -> Value {
                Value::Text(match self { $(Self::$variant => $word.to_owned(),)* })
            }

            fn from_value(value: &Value) -> Option<Self> {
                let Value::Text(text) = value else { return None };
                match text.as_str() { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    )*};
}

words! {
    DescriptorTables { "per-shard" => PerShard, "shared" => Shared }
    Framing { "chunks" => Chunks, "lines" => Lines }
    LogFormat { "text" => Text, "json" => Json }
    PrintFormat { "human" => Human, "json" => Json }
    Protocol { "raw" => Raw, "pulse" => Pulse, "auto" => Auto }
    SecondConnection { "allow" => Allow, "replace" => Replace, "refuse" => Refuse }
}
