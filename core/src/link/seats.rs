//! What a connection counts for, against the limits of its user and its vhost.

use super::Link;
use crate::{
    census::{Group, Seat},
    event::Refusal,
    properties::Text,
    quota::{ChannelQuota, Counted, limit},
};

/// A connection's places among all, and among those of its user and its vhost.
#[derive(Debug, Default)]
pub(super) struct Seats {
    /// Its vhost is known from the start, and entered by its login.
    pub(super) login_enters: bool,
    /// It is there for one request and counts for nothing, as a request to RabbitMQ's management API.
    pub(super) is_visit: bool,
    counted: Option<Counted>,
    user: Option<Box<Seat>>,
    vhost: Option<Box<Seat>>,
}

impl Seats {
    pub(super) fn new(login_enters: bool) -> Seats {
        Seats {
            login_enters,
            ..Seats::default()
        }
    }
}

impl Link {
    pub(crate) fn make_visit(&mut self) {
        self.seats.is_visit = true;
    }

    fn take_user_seat(&mut self, name: &Text, limit: Option<u64>) -> Result<(), Refusal> {
        self.seats.user = None;
        let (census, group) = (&self.broker.census, Group::User(name.clone()));
        match (census.seat(group, limit, &self.mailbox), limit) {
            (None, Some(limit)) => {
                let text = format!(
                    "connection refused for user '{name}': user connection limit ({limit}) is reached"
                );
                Err(Refusal::NotAllowed(text.into()))
            }
            (seat, _) => {
                self.seats.user = seat.map(Box::new);
                Ok(())
            }
        }
    }

    /// Takes a place among all connections.
    fn count_connection(&mut self) -> Result<(), Refusal> {
        if self.seats.counted.is_some() {
            return Ok(());
        }
        let most = self.broker.limits.connections;
        self.seats.counted = Counted::one_more(&self.broker.census.connections, limit(most));
        if self.seats.counted.is_some() {
            return Ok(());
        }
        let text = format!("connection refused: node connection limit ({most}) is reached");
        Err(Refusal::NotAllowed(text.into()))
    }

    /// What counts the channels of the connection's user, and of all.
    pub(super) fn channel_quota(&self) -> ChannelQuota {
        let counted = self.seats.user.as_ref().map(|seat| seat.channels());
        ChannelQuota::new(
            self.actor.user.clone(),
            counted.unwrap_or_default(),
            self.broker.census.channels.clone(),
            limit(self.broker.limits.channels),
            self.broker.snapshot.clone(),
        )
    }

    /// Takes a place in a vhost, if it is there and a user may enter it, and neither the broker nor the user or the
    /// vhost has as many connections as it may have.
    pub(super) fn may_enter(&mut self, user: &Text, vhost: &Text) -> Result<(), Refusal> {
        let routes = self.routing.current();
        if !routes.vhost_exists(vhost) {
            return Err(Refusal::NoVhost(vhost.clone()));
        }
        routes.access().check_vhost(vhost, user)?;
        if self.seats.is_visit {
            return Ok(());
        }
        let limit = routes.vhost_limit(vhost, "max-connections");
        let of_user = routes.access().user_limit(user, "max-connections");
        self.count_connection()?;
        self.take_user_seat(user, of_user)?;
        self.seats.vhost = None;
        let (census, group) = (&self.broker.census, Group::Vhost(vhost.clone()));
        match (census.seat(group, limit, &self.mailbox), limit) {
            (None, Some(limit)) => {
                let text = format!(
                    "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
                );
                Err(Refusal::NotAllowed(text.into()))
            }
            (seat, _) => {
                self.seats.vhost = seat.map(Box::new);
                Ok(())
            }
        }
    }
}
