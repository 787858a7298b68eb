//! What administrators ask for.

use super::Link;
use crate::{
    event::{Event, Reply},
    id::Token,
    properties::Text,
};

impl Link {
    pub(super) fn export(&mut self, token: Token, vhost: Option<Text>) {
        let (broker, by) = (self.broker.clone(), self.actor.clone());
        self.reads.push(Box::pin(async move {
            let result = broker.export(&by, vhost.as_ref()).await;
            Event::Done {
                token,
                result: result.map(|all| Reply::Definitions(Box::new(all))),
            }
        }));
    }
}
