//! What the broker itself says on topics that begin with `$SYS`.

use std::sync::Arc;

use crate::{
    broker::Inner, catalog::Targets, message::Message, properties::Text, shard::Op, topic::Grammar,
};

impl Inner {
    /// What each shard has to do for these messages to be retained, and then to be delivered.
    pub(crate) fn announcements(
        &self,
        vhost: &Text,
        messages: Vec<Arc<Message>>,
    ) -> [Vec<Vec<Op>>; 2] {
        let routes = self.snapshot.load();
        let none = || self.shards.iter().map(|_| Vec::new()).collect();
        let (mut retain, mut deliver): (Vec<Vec<Op>>, Vec<Vec<Op>>) = (none(), none());
        for message in messages {
            let mut targets = Targets::default();
            routes.route_announced(vhost, &message.topic, &mut targets);
            for target in targets.queues {
                let (shard, op) = self.to_queue(&target, &message, None);
                deliver[shard].push(op);
            }
            let shard = self.shard_of_name(&message.topic.render(Grammar::Slashes));
            let vhost = vhost.clone();
            retain[shard].push(Op::Announce { vhost, message });
        }
        [retain, deliver]
    }
}
