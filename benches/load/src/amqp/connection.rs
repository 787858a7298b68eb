//! Opening a connection with one channel, and its calls, one at a time.

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Options;
use super::codec::{Frame, MethodFrame, PROTOCOL_HEADER, method, string_table};
use crate::inbox::Inbox;
use crate::plan::connect;

pub const CHANNEL: u16 = 1;
/// What we propose when the broker leaves the frame size open.
const FRAME_MAX: u32 = 131_072;

pub struct Connection {
    pub stream: TcpStream,
    pub inbox: Inbox,
    pub frame_max: usize,
}

impl Connection {
    pub async fn open(options: &Options) -> anyhow::Result<Connection> {
        let stream = connect(&options.address).await?;
        let mut connection = Connection {
            stream,
            inbox: Inbox::new(),
            frame_max: FRAME_MAX as usize,
        };
        connection
            .call(&PROTOCOL_HEADER, method::CONNECTION_START)
            .await?;
        let tune = connection
            .call(&start_ok(options), method::CONNECTION_TUNE)
            .await?;
        let tune = tune.get(4..12).context("connection.tune is too short")?;
        let proposed = u32::from_be_bytes([tune[2], tune[3], tune[4], tune[5]]);
        let frame_max = if proposed == 0 {
            FRAME_MAX
        } else {
            proposed.clamp(4096, FRAME_MAX)
        };
        connection.frame_max = frame_max as usize;
        // No heartbeats: a run is short, and its sockets are busy.
        let tune_ok = MethodFrame::new(0, method::CONNECTION_TUNE_OK)
            .short(u16::from_be_bytes([tune[0], tune[1]]))
            .long(frame_max)
            .short(0)
            .finish();
        let open = MethodFrame::new(0, method::CONNECTION_OPEN)
            .short_string(&options.vhost)
            .short_string("")
            .octet(0);
        connection
            .call(
                &[tune_ok, open.finish()].concat(),
                method::CONNECTION_OPEN_OK,
            )
            .await?;
        let channel = MethodFrame::new(CHANNEL, method::CHANNEL_OPEN)
            .short_string("")
            .finish();
        connection.call(&channel, method::CHANNEL_OPEN_OK).await?;
        Ok(connection)
    }

    /// Writes `request` and waits for the method `answer`, of which it returns the payload.
    pub async fn call(&mut self, request: &[u8], answer: u32) -> anyhow::Result<Vec<u8>> {
        self.stream
            .write_all(request)
            .await
            .context("cannot write to the broker")?;
        loop {
            if let Some(frame) = Frame::read(self.inbox.unread())? {
                if let Some(reason) = frame.close_reason() {
                    anyhow::bail!(reason);
                }
                let (found, payload, length) =
                    (frame.method(), frame.payload.to_vec(), frame.length);
                self.inbox.consume(length);
                if found == answer {
                    return Ok(payload);
                }
                continue;
            }
            let count = self
                .stream
                .read(self.inbox.room())
                .await
                .context("cannot read from the broker")?;
            anyhow::ensure!(
                count > 0,
                "the broker closed the connection during set-up; is the user allowed?"
            );
            self.inbox.filled(count);
        }
    }
}

fn start_ok(options: &Options) -> Vec<u8> {
    let mut properties = string_table(&[("product", "trivium-load")]);
    let capabilities = [
        ("publisher_confirms", 1),
        ("basic.nack", 1),
        ("consumer_cancel_notify", 1),
    ];
    let mut table = Vec::new();
    for (name, value) in capabilities {
        table.push(name.len() as u8);
        table.extend(name.bytes());
        table.extend([b't', value]);
    }
    properties.extend(b"\x0ccapabilitiesF");
    properties.extend((table.len() as u32).to_be_bytes());
    properties.extend(table);
    MethodFrame::new(0, method::CONNECTION_START_OK)
        .long_string(&properties)
        .short_string("PLAIN")
        .long_string(format!("\0{}\0{}", options.user, options.password).as_bytes())
        .short_string("en_US")
        .finish()
}
