//! Share sessions (KIP-932): what the members behind a connection fetch, so that each request says only what changes.

use rustc_hash::FxHashMap;
use trivium_core::Text;

use crate::{error::ErrorCode, messages::share::ForgottenShareTopic, wire::Uuid};

/// Sessions of one connection at most: one for each member behind it, and clients have a connection for each.
const SESSIONS_MAX: usize = 64;
/// Opens a session.
const INITIAL: i32 = 0;
/// Closes it.
pub(crate) const FINAL: i32 = -1;

/// A group and a member of it.
pub(crate) type Member = (Text, Text);

/// The sessions of a connection, which end with it.
#[derive(Debug, Default)]
pub(crate) struct ShareSessions {
    sessions: FxHashMap<Member, ShareSession>,
}

#[derive(Debug, Default)]
struct ShareSession {
    /// Of the next request.
    epoch: i32,
    /// In the order of their coming; the first is next to be read first.
    partitions: Vec<(Uuid, i32)>,
}

impl ShareSessions {
    /// Judges the epoch of a request, and opens or closes its session.
    pub(crate) fn enter(&mut self, member: &Member, epoch: i32) -> Result<(), ErrorCode> {
        match epoch {
            INITIAL => {
                if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(member) {
                    return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
                }
                let session = ShareSession {
                    epoch: 1,
                    partitions: Vec::new(),
                };
                self.sessions.insert(member.clone(), session);
                Ok(())
            }
            FINAL => match self.sessions.remove(member) {
                Some(_) => Ok(()),
                None => Err(ErrorCode::SHARE_SESSION_NOT_FOUND),
            },
            _ => {
                let session = self.sessions.get_mut(member);
                let session = session.ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
                }
                // From the greatest on to 1: 0 opens.
                session.epoch = epoch.checked_add(1).unwrap_or(1);
                Ok(())
            }
        }
    }

    /// Adds and takes out partitions, and says which there are, each time beginning with another one.
    pub(crate) fn partitions(
        &mut self,
        member: &Member,
        added: impl Iterator<Item = (Uuid, i32)>,
        forgotten: &[ForgottenShareTopic],
    ) -> Vec<(Uuid, i32)> {
        let Some(session) = self.sessions.get_mut(member) else {
            return Vec::new();
        };
        for partition in added {
            if !session.partitions.contains(&partition) {
                session.partitions.push(partition);
            }
        }
        let goes = |(id, number): &(Uuid, i32)| {
            forgotten
                .iter()
                .any(|topic| topic.topic_id == *id && topic.partitions.contains(number))
        };
        session.partitions.retain(|partition| !goes(partition));
        if !session.partitions.is_empty() {
            session.partitions.rotate_left(1);
        }
        session.partitions.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KIP-932, share sessions: 0 opens, then 1, 2, 3 …, and -1 closes.
    #[test]
    fn epochs_are_counted() {
        let mut sessions = ShareSessions::default();
        let member = (Text::from("g"), Text::from("m"));
        assert_eq!(
            sessions.enter(&member, 1),
            Err(ErrorCode::SHARE_SESSION_NOT_FOUND)
        );
        assert_eq!(sessions.enter(&member, 0), Ok(()));
        assert_eq!(sessions.enter(&member, 1), Ok(()));
        assert_eq!(
            sessions.enter(&member, 1),
            Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH)
        );
        assert_eq!(sessions.enter(&member, 2), Ok(()));
        assert_eq!(sessions.enter(&member, FINAL), Ok(()));
        assert_eq!(
            sessions.enter(&member, FINAL),
            Err(ErrorCode::SHARE_SESSION_NOT_FOUND)
        );
    }

    #[test]
    fn partitions_come_go_and_take_turns() {
        let mut sessions = ShareSessions::default();
        let member = (Text::from("g"), Text::from("m"));
        let id = Uuid([1; 16]);
        sessions.enter(&member, 0).unwrap();
        let all = [(id, 0), (id, 1), (id, 2)];
        assert_eq!(
            sessions.partitions(&member, all.into_iter(), &[]),
            [(id, 1), (id, 2), (id, 0)]
        );
        let forgotten = [ForgottenShareTopic {
            topic_id: id,
            partitions: vec![2],
        }];
        assert_eq!(
            sessions.partitions(&member, [].into_iter(), &forgotten),
            [(id, 0), (id, 1)]
        );
    }
}
