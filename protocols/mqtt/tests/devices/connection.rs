//! One connection with its two directions of bytes on the way.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::runtime::Runtime;
use trivium_core::{Broker, Link, Origin};
use trivium_mqtt::{
    Mqtt,
    packet::{Packet, Version},
};
use trivium_protocol::{Effects, Frontend, Peer, Protocol};

use super::now;

/// More than any story makes the broker say to one connection.
const OUTPUT_MAX: usize = 1 << 20;

/// Both ends of one connection.
pub struct Connection {
    protocol: Box<dyn Protocol>,
    link: Link,
    effects: Effects,
    /// Written by the client, not there yet.
    pub to_broker: BytesMut,
    /// There, and not taken.
    input: BytesMut,
    /// Written by the broker, not there yet.
    pub to_client: BytesMut,
    /// There, and not whole.
    arrived: BytesMut,
    written: usize,
    /// Whether the broker has closed it.
    pub over: bool,
}

impl Connection {
    pub fn new(runtime: &Runtime, broker: &Broker, front: &Mqtt) -> Connection {
        let _entered = runtime.enter();
        let address = "127.0.0.1:1883".parse().unwrap();
        let peer = Peer {
            address,
            local: address,
        };
        Connection {
            protocol: front.connect(peer, now()),
            link: broker.connect(Origin {
                protocol: "mqtt".into(),
                vhost: "/".into(),
                ..Origin::default()
            }),
            effects: Effects::new(),
            to_broker: BytesMut::new(),
            input: BytesMut::new(),
            to_client: BytesMut::new(),
            arrived: BytesMut::new(),
            written: 0,
            over: false,
        }
    }

    /// Lets bytes of the client arrive.
    pub fn flow(&mut self, runtime: &Runtime, length: usize) {
        self.input
            .extend_from_slice(&self.to_broker.split_to(length));
        self.take_input(runtime);
    }

    fn take_input(&mut self, runtime: &Runtime) {
        while !self.over && self.protocol.wants_input() && !self.input.is_empty() {
            let before = self.input.len();
            let result = self
                .protocol
                .handle_input(now(), &mut self.input, &mut self.effects);
            self.after(runtime, result.is_err());
            if self.input.len() == before {
                return;
            }
        }
    }

    fn after(&mut self, runtime: &Runtime, failed: bool) {
        let output = self.effects.output.take();
        self.written += output.len();
        assert!(
            self.written < OUTPUT_MAX,
            "the broker does not stop talking"
        );
        self.to_client.extend_from_slice(&output);
        if failed && !self.over {
            self.protocol.handle_disconnect(now(), &mut self.effects);
        }
        self.over |= failed || self.protocol.is_closed();
        if !self.effects.commands.is_empty() {
            let submitted = self.link.submit(&mut self.effects.commands);
            runtime.block_on(submitted).unwrap();
        }
    }

    /// Lets the broker go on, as far as it can without waiting. Whether anything came of it.
    pub fn pump(&mut self, runtime: &Runtime) -> bool {
        let mut events = Vec::new();
        runtime.block_on(async {
            self.link.flushed().await.unwrap();
            let _ = at_once(self.link.receive(&mut events)).await;
        });
        let moved = !events.is_empty();
        for event in events {
            if !self.over {
                let result = self.protocol.handle_event(now(), event, &mut self.effects);
                self.after(runtime, result.is_err());
            }
        }
        self.take_input(runtime);
        if !self.over
            && self
                .protocol
                .next_timeout()
                .is_some_and(|at| at <= now().instant)
        {
            let result = self.protocol.handle_timeout(now(), &mut self.effects);
            self.after(runtime, result.is_err());
            return true;
        }
        moved
    }

    /// Whether the broker is about to go on by itself.
    pub fn is_held(&self) -> bool {
        !self.over && self.protocol.next_timeout().is_some()
    }

    /// Nothing happens for a while.
    pub fn rest(&mut self) {
        self.protocol.rest();
        self.link.rest();
    }

    /// Lets bytes of the broker arrive, and takes the whole packets.
    pub fn read(&mut self, length: usize, version: Version) -> Vec<Packet> {
        self.arrived
            .extend_from_slice(&self.to_client.split_to(length));
        let mut bytes = Bytes::copy_from_slice(&self.arrived);
        let mut packets = Vec::new();
        while let Some(packet) =
            Packet::take(&mut bytes, version, usize::MAX).expect("the broker's packets are sound")
        {
            #[allow(
                clippy::disallowed_methods,
                clippy::print_stderr,
                reason = "how to look at a story"
            )]
            if std::env::var_os("TRIVIUM_TELL").is_some() {
                eprintln!("  broker: {packet:?}");
            }
            packets.push(packet);
        }
        self.arrived.advance(self.arrived.len() - bytes.len());
        packets
    }

    /// What was written so far, by the broker.
    pub fn written(&self) -> usize {
        self.written
    }

    /// The connection fails.
    pub fn fail(mut self, runtime: &Runtime) {
        if !self.over {
            self.protocol.handle_disconnect(now(), &mut self.effects);
            self.after(runtime, false);
        }
        let _entered = runtime.enter();
        drop(self.link);
    }
}

async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}
