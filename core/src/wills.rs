//! Publishes the wills of MQTT clients that have gone.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{broker::Inner, queue::DueWill};

/// Publishes wills as they become due, each as the client that left it.
pub(crate) async fn run(broker: Arc<Inner>, mut due: mpsc::UnboundedReceiver<DueWill>) {
    while let Some(will) = due.recv().await {
        let mut link = broker.clone().connect((*will.message.origin).clone());
        if link.publish_will(&will).await.is_err() {
            return;
        }
    }
}
