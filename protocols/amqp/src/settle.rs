//! Acknowledgements on their way to the core: neighbouring ones become one range.

use std::ops::RangeInclusive;

use smallvec::SmallVec;
use trivium_core::{Command, ConsumerId, DeliveryId, Outcome};

use crate::unsettled::Taken;

/// Settles one delivery; when the command before settles the one before, it grows instead.
pub fn settle(
    commands: &mut Vec<Command>,
    consumer: ConsumerId,
    delivery: DeliveryId,
    outcome: Outcome,
) {
    settle_range(commands, consumer, delivery..=delivery, outcome);
}

/// Settles many deliveries of any consumers, with one command for each run of a consumer's.
pub fn settle_all(
    commands: &mut Vec<Command>,
    deliveries: impl Iterator<Item = Taken>,
    outcome: Outcome,
) {
    let mut runs: SmallVec<[(ConsumerId, RangeInclusive<DeliveryId>); 4]> = SmallVec::new();
    for Taken {
        consumer, delivery, ..
    } in deliveries
    {
        match runs.iter_mut().find(|(of, _)| *of == consumer) {
            Some((_, run)) if run.end().next() == delivery => *run = *run.start()..=delivery,
            Some((_, run)) => {
                let ended = std::mem::replace(run, delivery..=delivery);
                settle_range(commands, consumer, ended, outcome);
            }
            None => runs.push((consumer, delivery..=delivery)),
        }
    }
    for (consumer, run) in runs {
        settle_range(commands, consumer, run, outcome);
    }
}

fn settle_range(
    commands: &mut Vec<Command>,
    consumer: ConsumerId,
    range: RangeInclusive<DeliveryId>,
    outcome: Outcome,
) {
    match commands.last_mut() {
        Some(Command::Settle {
            consumer: of,
            deliveries,
            outcome: same,
        }) if *of == consumer && *same == outcome && deliveries.end().next() == *range.start() => {
            *deliveries = *deliveries.start()..=*range.end();
        }
        _ => commands.push(Command::Settle {
            consumer,
            deliveries: range,
            outcome,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(commands: &[Command]) -> Vec<(u32, u64, u64)> {
        commands
            .iter()
            .map(|command| match command {
                Command::Settle {
                    consumer,
                    deliveries,
                    ..
                } => (consumer.0, deliveries.start().0, deliveries.end().0),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn neighbours_become_one_range() {
        let mut commands = Vec::new();
        for delivery in [1, 2, 3, 5] {
            settle(
                &mut commands,
                ConsumerId(1),
                DeliveryId(delivery),
                Outcome::Accept,
            );
        }
        settle(&mut commands, ConsumerId(1), DeliveryId(6), Outcome::Reject);
        assert_eq!(settled(&commands), [(1, 1, 3), (1, 5, 5), (1, 6, 6)]);
    }

    #[test]
    fn interleaved_consumers_have_a_range_each() {
        let mut commands = Vec::new();
        let deliveries = (1..=100).flat_map(|id| {
            [1, 2].map(|consumer| Taken {
                tag: 0,
                consumer: ConsumerId(consumer),
                delivery: DeliveryId(id),
            })
        });
        settle_all(&mut commands, deliveries, Outcome::Requeue);
        assert_eq!(settled(&commands), [(1, 1, 100), (2, 1, 100)]);
    }
}
