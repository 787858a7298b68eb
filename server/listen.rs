//! Listeners: bound all at once before anything is served, then an accept loop each.

use std::{future::Future, io, net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use anyhow::Context;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
};
use tracing::{debug, error, info, warn};
use trivium_core::{Broker, Origin, Text};
use trivium_protocol::{Frontend, Peer};

use crate::{
    clock,
    connection::{self, About},
    proxy,
    shutdown::Stop,
    traffic::Traffic,
    websocket,
};

/// How long nothing is accepted after the operating system said that it has no more to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that was silent for so long is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long connections may take to end when the broker stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the PROXY header and the handshake of WebSocket may take, each.
const BEGINNING_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Makes a front end, given the id of the data directory.
pub type FrontendMaker = Box<dyn FnOnce(&str) -> Arc<dyn Frontend> + Send>;

/// A protocol to serve, and where.
pub struct Endpoint {
    /// The protocol's name in configuration, logs and metrics.
    pub name: &'static str,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Makes the front end; it is told the id of the data directory, which outlives restarts.
    pub frontend: FrontendMaker,
    /// What lies between the socket and the protocol.
    pub transport: Transport,
    /// What to paste into a shell or a program to reach it.
    pub client: fn(SocketAddr) -> String,
}

/// What lies between a socket and its protocol.
#[derive(Clone, Debug)]
pub struct Transport {
    /// Each connection begins with a PROXY header, which says whom it is with.
    pub proxy_protocol: bool,
    /// The protocol is spoken inside WebSocket.
    pub websocket: Option<websocket::Policy>,
    /// How long each of these may take to begin.
    pub begins_within: Duration,
}

impl Default for Transport {
    fn default() -> Transport {
        Transport {
            proxy_protocol: false,
            websocket: None,
            begins_within: BEGINNING_TIME_MAX,
        }
    }
}

/// Binds one address; an error says which key it came from.
pub fn bind(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    open(address).with_context(|| format!("cannot listen on {address} ({name}.listen)"))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        None,
    )?;
    // A restart must not wait for the last connections of the process before it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// One protocol at its address.
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the connections of a listener share.
struct Shared {
    name: &'static str,
    frontend: Arc<dyn Frontend>,
    transport: Transport,
    traffic: Traffic,
}

impl Listener {
    /// Binds `endpoint`. Connections wait until [`Listener::serve`] takes them.
    pub fn bind(endpoint: Endpoint, cluster_id: &str) -> anyhow::Result<Listener> {
        let socket = bind(endpoint.name, endpoint.listen)?;
        let address = socket.local_addr()?;
        info!(protocol = endpoint.name, %address, "listening; try: {}", (endpoint.client)(reachable(address)));
        let frontend = (endpoint.frontend)(cluster_id);
        Ok(Listener {
            name: endpoint.name,
            socket,
            address,
            shared: Arc::new(Shared {
                name: endpoint.name,
                frontend,
                transport: endpoint.transport,
                traffic: Traffic::default(),
            }),
        })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name in configuration, logs and metrics.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The front end.
    pub fn frontend(&self) -> &Arc<dyn Frontend> {
        &self.shared.frontend
    }

    /// Reads what goes over its connections.
    pub fn traffic(&self) -> Counters {
        Counters(self.shared.clone())
    }

    /// Accepts connections until `stop`, then waits for them to end, but not for long.
    pub async fn serve(self, broker: Broker, slots: Arc<Semaphore>, mut stop: Stop) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => match slots.clone().try_acquire_owned() {
                        Ok(slot) => self.spawn(stream, peer, &broker, slot, &mut connections),
                        Err(_) => self.refuse(peer),
                    },
                    Err(error) => back_off(error).await,
                },
                Some(ended) = connections.join_next() => report(ended),
                () = stop.wait() => break,
            }
        }
        drop(self.socket);
        drain(connections).await;
    }

    fn spawn(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        broker: &Broker,
        slot: OwnedSemaphorePermit,
        connections: &mut JoinSet<()>,
    ) {
        let (name, local) = (self.name, stream.local_addr().unwrap_or(self.address));
        prepare(&stream);
        let peer = Peer {
            address: peer,
            local,
        };
        let held = Held::new(&self.shared, slot);
        let direct = !held.transport.proxy_protocol && held.transport.websocket.is_none();
        // A task of its own: a panic ends this connection and no other.
        if direct {
            // In a box: a task is aligned to a cache line pair, for which the allocator takes up to that much more.
            connections.spawn(Box::pin(held.serve(stream, peer, broker)));
        } else {
            let broker = broker.clone();
            connections.spawn(async move {
                if let Err(error) = held.serve_wrapped(stream, peer, broker).await {
                    debug!(protocol = name, peer = %peer.address, %error, "connection ended before its protocol began");
                }
            });
        }
    }

    fn refuse(&self, peer: SocketAddr) {
        self.shared.traffic.refuse();
        warn!(protocol = self.name, %peer, "connection refused: max_connections reached");
    }
}

/// What a connection holds for as long as it lasts: its listener's, where it is counted, and a slot.
struct Held {
    shared: Arc<Shared>,
    _slot: OwnedSemaphorePermit,
}

impl Held {
    fn new(shared: &Arc<Shared>, slot: OwnedSemaphorePermit) -> Held {
        shared.traffic.open();
        Held {
            shared: shared.clone(),
            _slot: slot,
        }
    }

    /// Serves a connection with what lies between its socket and the broker.
    fn serve<S>(self, stream: S, peer: Peer, broker: &Broker) -> impl Future<Output = ()> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let protocol = self.frontend.connect(peer, clock::now());
        let vhost = match self.frontend.chooses_vhost() {
            true => Text::new(),
            false => Text::from_static("/"),
        };
        let link = broker.connect(Origin {
            protocol: Text::from_static(self.frontend.name()),
            vhost,
            ..Origin::default()
        });
        let about = About {
            protocol: self.name,
            peer: peer.address,
        };
        connection::serve(stream, protocol, link, about, Counted(self))
    }

    /// Serves a connection whose protocol comes behind or inside something else, which must begin in time.
    async fn serve_wrapped(
        self,
        mut stream: TcpStream,
        mut peer: Peer,
        broker: Broker,
    ) -> io::Result<()> {
        let limit = self.transport.begins_within;
        if self.transport.proxy_protocol {
            let source = in_time(limit, proxy::read_header(&mut stream)).await?;
            peer.address = source.address(peer.address);
        }
        match self.transport.websocket.clone() {
            None => Box::pin(self.serve(stream, peer, &broker)).await,
            Some(policy) => {
                let stream = in_time(limit, websocket::accept(stream, &policy, peer.local)).await?;
                Box::pin(self.serve(stream, peer, &broker)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.traffic.close();
    }
}

impl Deref for Held {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// A connection's traffic, and what it holds.
struct Counted(Held);

impl Deref for Counted {
    type Target = Traffic;

    fn deref(&self) -> &Traffic {
        &self.0.traffic
    }
}

/// Waits for what must come before the protocol, but not for long; its memory is given back.
async fn in_time<T>(
    limit: Duration,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::time::timeout(limit, Box::pin(beginning))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The counters of a listener, for whoever reports them.
#[derive(Clone)]
pub struct Counters(Arc<Shared>);

impl Deref for Counters {
    type Target = Traffic;

    fn deref(&self) -> &Traffic {
        &self.0.traffic
    }
}

/// Options that fail only on a socket that is already broken, which the first read will tell.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Out of descriptors or memory: connections that end will give some back. Anything else concerns one
/// connection that is already gone.
async fn back_off(error: io::Error) {
    let peers_own = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !peers_own {
        warn!(%error, "cannot accept connections, trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a connection failed by a fault of the broker; please report it");
    }
}

async fn drain(mut connections: JoinSet<()>) {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(DRAIN_TIME_MAX, all).await.is_err() {
        warn!(
            connections = connections.len(),
            "closing connections whose peers did not"
        );
        connections.shutdown().await;
    }
}

/// Where a client on this machine reaches `address`.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use trivium_core::Link;
    use trivium_protocol::Protocol;

    use super::*;

    fn size_of_result<A, B, C, D, E, F>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// The allocator's next size is a quarter more, for each connection that is open.
    #[test]
    fn a_connection_that_waits_takes_a_kibibyte() {
        let size = size_of_result::<TcpStream, Box<dyn Protocol>, Link, About, Counted, _>(
            connection::serve,
        );
        assert!(size <= 1024, "{size} bytes");
    }
}
