//! Stopping: who asks for it, and how everybody hears of it.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

/// Tells all [`Stop`]s at once.
pub struct Stopper(watch::Sender<bool>);

/// Hears when it is time to stop.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A stopper and what hears it.
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// It is time.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits until it is time; a stopper that has gone means the same.
    pub async fn wait(&mut self) {
        let _ = self.0.wait_for(|&stopped| stopped).await;
    }

    /// Whether it is time.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }
}

/// SIGTERM and Ctrl-C.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals no longer kill the process.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the first signal. A second one ends the process at once, whatever is still under way.
    pub async fn wait(mut self) {
        self.next().await;
        info!("stopping; a second signal stops at once");
        tokio::spawn(async move {
            self.next().await;
            warn!("stopped without waiting for connections");
            std::process::exit(1);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
