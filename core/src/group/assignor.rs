//! Who consumes what: the assignors of KIP-848, which run in the broker.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::directory::{LogUuid, TopicPartition};
use crate::properties::Text;

/// What each member is to consume.
pub(super) type Assignment = BTreeMap<Text, BTreeSet<TopicPartition>>;

/// What an assignor goes by.
pub(super) struct Input<'a> {
    /// The logs that each member subscribes to.
    pub subscriptions: BTreeMap<Text, BTreeSet<LogUuid>>,
    /// How many partitions each log has.
    pub partitions: BTreeMap<LogUuid, u32>,
    /// What was assigned before.
    pub before: &'a Assignment,
}

/// A way to assign partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Assignor {
    /// Evenly over all logs, and as little of it moves as possible.
    #[default]
    Uniform,
    /// Each log in ranges, so that a member gets the same partitions of logs of the same size.
    Range,
}

impl Assignor {
    pub fn find(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn assign(self, input: &Input<'_>) -> Assignment {
        match self {
            Assignor::Uniform => uniform(input),
            Assignor::Range => range(input),
        }
    }
}

fn range(input: &Input<'_>) -> Assignment {
    let mut assignment: Assignment = empty(input);
    for (log, partitions) in &input.partitions {
        let subscribed = input.subscriptions.iter();
        let members: Vec<&Text> = subscribed
            .filter(|(_, logs)| logs.contains(log))
            .map(|(member, _)| member)
            .collect();
        let count = members.len() as u32;
        let Some(each) = partitions.checked_div(count) else {
            continue;
        };
        let mut next = 0;
        for (at, member) in members.into_iter().enumerate() {
            let size = each + u32::from((at as u32) < partitions % count);
            let own = assignment.entry(member.clone()).or_default();
            own.extend((next..next + size).map(|partition| (*log, partition)));
            next += size;
        }
    }
    assignment
}

fn empty(input: &Input<'_>) -> Assignment {
    let members = input.subscriptions.keys();
    members
        .map(|member| (member.clone(), BTreeSet::new()))
        .collect()
}

/// Members by load, so that the one with the least and the one with the most are found at once.
struct Loads<'a> {
    assignment: Assignment,
    by_load: BTreeSet<(usize, &'a Text)>,
}

impl<'a> Loads<'a> {
    fn load(&self, member: &Text) -> usize {
        self.assignment.get(member).map_or(0, BTreeSet::len)
    }

    fn change(&mut self, member: &'a Text, change: impl FnOnce(&mut BTreeSet<TopicPartition>)) {
        self.by_load.remove(&(self.load(member), member));
        change(self.assignment.entry(member.clone()).or_default());
        self.by_load.insert((self.load(member), member));
    }
}

/// Keeps what members have, up to an even share; gives the rest to those with the least; then evens out what
/// different subscriptions have left uneven.
fn uniform(input: &Input<'_>) -> Assignment {
    let mut loads = Loads {
        assignment: empty(input),
        by_load: input
            .subscriptions
            .keys()
            .map(|member| (0, member))
            .collect(),
    };
    if loads.by_load.is_empty() {
        return loads.assignment;
    }
    let mut unassigned = keep(input, &mut loads);
    unassigned.sort_unstable();
    let subscribers = subscribers(input);
    for partition in unassigned {
        let wants = |member: &Text| input.subscriptions[member].contains(&partition.0);
        // Most logs are subscribed to by most members: the first is nearly always one of them.
        let least = loads
            .by_load
            .iter()
            .map(|(_, member)| *member)
            .find(|member| wants(member));
        if let Some(member) = least {
            loads.change(member, |own| {
                own.insert(partition);
            });
        }
    }
    even_out(&mut loads, &subscribers);
    loads.assignment
}

fn subscribers<'a>(input: &'a Input<'_>) -> FxHashMap<LogUuid, BTreeSet<&'a Text>> {
    let mut subscribers: FxHashMap<LogUuid, BTreeSet<&Text>> = FxHashMap::default();
    for (member, logs) in &input.subscriptions {
        for log in logs {
            subscribers.entry(*log).or_default().insert(member);
        }
    }
    subscribers
}

/// Members keep what they had, as far as they still want it and it is not more than their share. What nobody has.
fn keep<'a>(input: &'a Input<'_>, loads: &mut Loads<'a>) -> Vec<TopicPartition> {
    let all = input.partitions.iter().flat_map(|(log, partitions)| {
        let wanted = input.subscriptions.values().any(|logs| logs.contains(log));
        (0..*partitions)
            .filter(move |_| wanted)
            .map(|partition| (*log, partition))
    });
    let mut free: BTreeSet<TopicPartition> = all.collect();
    let members = input.subscriptions.len();
    let (share, mut larger) = (free.len() / members, free.len() % members);
    // Those that have most keep the larger shares: nothing moves for the sake of a remainder.
    let mut by_size: Vec<&Text> = input.subscriptions.keys().collect();
    by_size.sort_by_key(|member| {
        std::cmp::Reverse(input.before.get(*member).map_or(0, BTreeSet::len))
    });
    for member in by_size {
        let before = input.before.get(member).into_iter().flatten();
        let wants = |partition: &&TopicPartition| {
            input.subscriptions[member].contains(&partition.0) && free.contains(*partition)
        };
        let mut kept: Vec<TopicPartition> = before.filter(wants).copied().collect();
        let quota = share + usize::from(kept.len() > share && larger > 0);
        larger -= usize::from(kept.len() > share && larger > 0);
        kept.truncate(quota);
        for partition in &kept {
            free.remove(partition);
        }
        loads.change(member, |own| own.extend(kept));
    }
    free.into_iter().collect()
}

/// Moves partitions from members with more to members with less that want them too.
fn even_out<'a>(loads: &mut Loads<'a>, subscribers: &FxHashMap<LogUuid, BTreeSet<&'a Text>>) {
    // Each move makes the loads more even, so it ends; the bound is for peace of mind.
    let most_moves = loads.assignment.values().map(BTreeSet::len).sum::<usize>();
    for _ in 0..most_moves {
        let Some(&(least, _)) = loads.by_load.first() else {
            return;
        };
        let uneven = loads
            .by_load
            .iter()
            .rev()
            .take_while(|(load, _)| *load > least + 1);
        let found = uneven.into_iter().find_map(|(load, from)| {
            loads.assignment[*from].iter().find_map(|partition| {
                let others = subscribers.get(&partition.0)?.iter();
                let to = others
                    .filter(|to| loads.load(to) + 1 < *load)
                    .min_by_key(|to| loads.load(to))?;
                Some((*from, *to, *partition))
            })
        });
        let Some((from, to, partition)) = found else {
            return;
        };
        loads.change(from, |own| {
            own.remove(&partition);
        });
        loads.change(to, |own| {
            own.insert(partition);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(number: u8) -> LogUuid {
        [number; 16]
    }

    fn input<'a>(
        members: &[(&'static str, &[u8])],
        partitions: &[(u8, u32)],
        before: &'a Assignment,
    ) -> Input<'a> {
        let subscription = |(member, logs): &(&'static str, &[u8])| {
            (
                (*member).into(),
                logs.iter().map(|number| log(*number)).collect(),
            )
        };
        Input {
            subscriptions: members.iter().map(subscription).collect(),
            partitions: partitions
                .iter()
                .map(|(number, count)| (log(*number), *count))
                .collect(),
            before,
        }
    }

    fn sizes(assignment: &Assignment) -> Vec<usize> {
        assignment.values().map(BTreeSet::len).collect()
    }

    fn moved(before: &Assignment, after: &Assignment) -> usize {
        let kept = |(member, own): (&Text, &BTreeSet<_>)| {
            before
                .get(member)
                .map_or(0, |before| before.intersection(own).count())
        };
        sizes(before).iter().sum::<usize>() - after.iter().map(kept).sum::<usize>()
    }

    #[test]
    fn uniform_is_even_and_moves_little() {
        let nothing = Assignment::new();
        let two = Assignor::Uniform.assign(&input(
            &[("a", &[1, 2]), ("b", &[1, 2])],
            &[(1, 4), (2, 3)],
            &nothing,
        ));
        assert_eq!(sizes(&two), [4, 3]);
        let members: [(&str, &[u8]); 3] = [("a", &[1, 2]), ("b", &[1, 2]), ("c", &[1, 2])];
        let three = Assignor::Uniform.assign(&input(&members, &[(1, 4), (2, 3)], &two));
        assert_eq!(sizes(&three), [3, 2, 2]);
        assert_eq!(moved(&two, &three), 2);
        let again = Assignor::Uniform.assign(&input(&members, &[(1, 4), (2, 3)], &three));
        assert_eq!(again, three, "nothing moves without a reason");
    }

    #[test]
    fn different_subscriptions_are_evened_out() {
        let nothing = Assignment::new();
        let members: [(&str, &[u8]); 3] = [("a", &[1]), ("b", &[1, 2]), ("c", &[2])];
        let assignment = Assignor::Uniform.assign(&input(&members, &[(1, 6), (2, 3)], &nothing));
        assert_eq!(sizes(&assignment), [3, 3, 3]);
        let only = |member: &str, allowed: &[u8]| {
            let mut own = assignment[member].iter();
            own.all(|(found, _)| allowed.iter().any(|number| log(*number) == *found))
        };
        assert!(only("a", &[1]) && only("c", &[2]));
    }

    #[test]
    fn range_gives_the_same_numbers_of_each_log() {
        let nothing = Assignment::new();
        let members: [(&str, &[u8]); 2] = [("a", &[1, 2]), ("b", &[1, 2])];
        let assignment = Assignor::Range.assign(&input(&members, &[(1, 3), (2, 3)], &nothing));
        let numbers = |member: &str| {
            assignment[member]
                .iter()
                .map(|(_, number)| *number)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers("a"), [0, 1, 0, 1]);
        assert_eq!(numbers("b"), [2, 2]);
    }

    #[test]
    fn no_partition_is_lost_or_given_twice() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut before = Assignment::new();
        for _ in 0..500 {
            let logs: Vec<(u8, u32)> = (0..random(4) as u8)
                .map(|number| (number, random(7) as u32))
                .collect();
            let mut members: Vec<(&'static str, Vec<u8>)> = Vec::new();
            for name in names {
                if random(3) > 0 {
                    members.push((name, (0..4).filter(|_| random(2) > 0).collect()));
                }
            }
            let members: Vec<(&'static str, &[u8])> = members
                .iter()
                .map(|(name, logs)| (*name, &logs[..]))
                .collect();
            for assignor in [Assignor::Range, Assignor::Uniform] {
                let input = input(&members, &logs, &before);
                let assignment = assignor.assign(&input);
                let mut given: Vec<_> = assignment.values().flatten().copied().collect();
                given.sort_unstable();
                let wanted = |number: u8| members.iter().any(|(_, logs)| logs.contains(&number));
                let expected: Vec<_> = logs
                    .iter()
                    .filter(|(number, _)| wanted(*number))
                    .flat_map(|(number, count)| {
                        (0..*count).map(|partition| (log(*number), partition))
                    })
                    .collect();
                assert_eq!(given, expected);
                before = assignment;
            }
        }
    }
}
