//! What administrators ask about groups of every kind: ListGroups and OffsetDelete.

use trivium_core::{
    Command, Reply, Text,
    group::{GroupAnswer, GroupInfo, GroupRequest},
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::groups::*,
    serve::{
        groups::{answer_of, ask},
        logs,
    },
};

struct Listing {
    request: ListGroupsRequest,
}

pub(crate) fn list(request: ListGroupsRequest, call: &mut Call<'_>) -> Step {
    call.submit(0, |token| Command::ListGroups { token });
    Step::Wait(Box::new(Listing { request }))
}

impl Listing {
    /// Kafka compares states and types without regard to case.
    fn wants(&self, group: &GroupInfo) -> bool {
        let any = |filter: &[Text], value: &str| {
            filter.is_empty() || filter.iter().any(|it| it.eq_ignore_ascii_case(value))
        };
        any(&self.request.states_filter, group.state) && any(&self.request.types_filter, group.kind)
    }
}

impl Job for Listing {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = answer.reply(|reply| match reply {
            Reply::Groups(groups) => Some(groups),
            _ => None,
        });
        let mut response = ListGroupsResponse::default();
        match found {
            Ok(groups) => {
                let listed = |group: GroupInfo| ListedGroup {
                    group_id: group.group,
                    protocol_type: group.protocol_type,
                    group_state: Text::from_static(group.state),
                    group_type: group.kind.to_ascii_lowercase().into(),
                };
                let there = groups.into_iter().filter(|group| !group.kind.is_empty());
                let wanted = there.filter(|group| self.wants(group));
                response.groups = wanted.map(listed).collect();
            }
            Err(refusal) => response.error_code = ErrorCode::from(&refusal),
        }
        call.respond(&response)
    }
}

struct Deleting {
    response: OffsetDeleteResponse,
}

/// First the logs are looked up, then the offsets of those that are there are deleted.
struct Finding {
    request: OffsetDeleteRequest,
}

pub(crate) fn delete_offsets(request: OffsetDeleteRequest, call: &mut Call<'_>) -> Step {
    let names = request.topics.iter().map(|topic| topic.name.clone());
    call.describe(0, Some(names.collect()));
    Step::Wait(Box::new(Finding { request }))
}

impl Job for Finding {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let OffsetDeleteRequest { group_id, topics } = self.request;
        let mut found = logs(answer).into_iter().flatten();
        let mut partitions = Vec::new();
        let mut response = OffsetDeleteResponse::default();
        for topic in topics {
            let count = match found.next() {
                Some(Ok(log)) => log.spec.partitions,
                _ => 0,
            };
            let mut result = OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: Vec::new(),
            };
            for OffsetDeleteRequestPartition { partition_index } in topic.partitions {
                let index = u32::try_from(partition_index).ok().filter(|it| *it < count);
                partitions.extend(index.map(|index| (topic.name.clone(), index)));
                result.partitions.push(OffsetDeleteResponsePartition {
                    partition_index,
                    error_code: match index {
                        Some(_) => ErrorCode::NONE,
                        None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    },
                });
            }
            if !result.partitions.is_empty() {
                response.topics.push(result);
            }
        }
        ask(
            0,
            group_id,
            GroupRequest::DeleteOffsets { partitions },
            call,
        );
        Step::Wait(Box::new(Deleting { response }))
    }
}

impl Job for Deleting {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        match answer_of(answer) {
            Ok(GroupAnswer::Deleted(results)) => {
                let topics = self.response.topics.iter_mut();
                let partitions = topics.flat_map(|topic| &mut topic.partitions);
                let partitions = partitions.filter(|it| !it.error_code.is_err());
                for (partition, result) in partitions.zip(results) {
                    partition.error_code = result
                        .as_ref()
                        .map_or_else(ErrorCode::from, |()| ErrorCode::NONE);
                }
            }
            Ok(_) => self.response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(failure) => {
                self.response.error_code = failure.code();
                self.response.topics.clear();
            }
        }
        call.respond(&self.response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ApiKey, script::Script};

    fn info(group: &str, state: &'static str, kind: &'static str) -> GroupInfo {
        GroupInfo {
            group: group.into(),
            protocol_type: "consumer".into(),
            state,
            kind,
            has_settings: false,
        }
    }

    /// KIP-518 and KIP-848: filters by state and type.
    #[test]
    fn groups_are_listed_by_state_and_type() {
        for (states, types, expected) in [
            (&[][..], &[][..], &["a", "b", "c"][..]),
            (&["stable"], &[], &["a", "c"]),
            (&[], &["consumer"], &["c"]),
            (&["Empty"], &["Consumer"], &[]),
        ] {
            let mut script = Script::open();
            let texts = |names: &[&str]| names.iter().map(|name| Text::from(*name)).collect();
            let request = ListGroupsRequest {
                states_filter: texts(states),
                types_filter: texts(types),
            };
            script.send(ApiKey::ListGroups, 5, &request);
            let token = script.command(|command| match command {
                Command::ListGroups { token } => Some(token),
                _ => None,
            });
            let groups = vec![
                info("a", "Stable", "Classic"),
                info("b", "Empty", "Classic"),
                info("c", "Stable", "Consumer"),
            ];
            script.done(token, Ok(Reply::Groups(groups)));
            let response: ListGroupsResponse = script.response(ApiKey::ListGroups, 5);
            let listed: Vec<_> = response.groups.iter().map(|it| &*it.group_id).collect();
            assert_eq!(listed, expected);
        }
    }
}
