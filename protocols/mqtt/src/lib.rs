//! MQTT 3.1, 3.1.1 and 5: the front end of MQTT devices.
//!
//! ```text
//! bytes ── packet ──► connection ── Command ──►  session = queue, subscription = binding on amq.topic
//! bytes ◄─ packet ── connection ◄── Event ────   PUBLISH = publish to amq.topic
//! ```
//!
//! Start reading at [`packet`], then `connection`; `convert` is what happens to properties between protocols.

mod connection;
mod convert;
mod counters;
mod inflight;
mod options;
pub mod packet;
mod reader;
mod subscription;
mod takeovers;
mod topic;
mod translation;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use trivium_core::{Conversions, Dialect, Now, Sample, Text};
use trivium_protocol::{Frontend, Peer, Protocol};

use crate::{connection::Connection, counters::Counters, takeovers::Takeovers};
pub use crate::{
    convert::{Mqtt3, Mqtt5},
    options::{OnBreach, Options, Strict},
    translation::Translation,
};

/// The MQTT front end.
pub struct Mqtt {
    shared: Arc<Shared>,
}

/// What the connections of a front end share.
pub(crate) struct Shared {
    options: Options,
    counters: Arc<Counters>,
    conversions: Arc<Conversions>,
    assigned: AtomicU64,
    takeovers: Takeovers,
}

impl Mqtt {
    /// A front end with these options.
    pub fn new(options: Options) -> Mqtt {
        Mqtt {
            shared: Arc::new(Shared {
                options,
                counters: Arc::default(),
                conversions: Arc::new(Conversions::to("mqtt")),
                assigned: AtomicU64::new(0),
                takeovers: Takeovers::default(),
            }),
        }
    }
}

impl Shared {
    /// A client identifier that nobody has had.
    fn assign_client_id(&self) -> Text {
        let number = self.assigned.fetch_add(1, Ordering::Relaxed);
        format!("trivium-{:016x}-{number}", self.options.instance).into()
    }
}

impl Frontend for Mqtt {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn connect(&self, peer: Peer, now: Now) -> Box<dyn Protocol> {
        Box::new(Connection::new(self.shared.clone(), peer, now))
    }

    fn dialects(&self) -> Vec<&'static dyn Dialect> {
        vec![&Mqtt5, &Mqtt3]
    }

    fn samples(&self) -> Vec<Sample> {
        let mut samples = self.shared.counters.samples();
        samples.extend(self.shared.conversions.samples());
        samples
    }
}
