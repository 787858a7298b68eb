//! What an administrator sets up, in no format's words: users, vhosts, permissions, policies, parameters, and what is
//! declared. A set of them is what is exported and imported; one alone is what a management request puts.

use bytes::Bytes;

use crate::{
    access::{PasswordHash, Permission, TopicPermission},
    client_quota::{QuotaEntity, QuotaValues},
    command::{Binding, ExchangeSpec, LogSpec, QueueSpec},
    properties::{Text, Value},
};

/// Any number of definitions. What is named twice is what the last says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    /// Created, or changed to this.
    pub users: Vec<UserDefinition>,
    /// Created, or changed to this.
    pub vhosts: Vec<VhostDefinition>,
    /// Granted, in place of what was.
    pub permissions: Vec<PermissionDefinition>,
    /// Granted, in place of what was.
    pub topic_permissions: Vec<TopicPermissionDefinition>,
    /// Set, in place of what was.
    pub policies: Vec<PolicyDefinition>,
    /// Set, in place of what was.
    pub parameters: Vec<ParameterDefinition>,
    /// Declared, unless there is one of the name.
    pub exchanges: Vec<ExchangeDefinition>,
    /// Declared, unless there is one of the name.
    pub queues: Vec<QueueDefinition>,
    /// Created, unless there is one of the name.
    pub logs: Vec<LogDefinition>,
    /// Bound.
    pub bindings: Vec<BindingDefinition>,
    /// Set, in place of what the same clients had.
    pub client_quotas: Vec<ClientQuotaDefinition>,
}

/// A quota of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientQuotaDefinition {
    /// Whose it is.
    pub entity: QuotaEntity,
    /// What it limits; nothing is no quota.
    pub limits: QuotaValues,
}

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct UserDefinition {
    /// Unique in the broker.
    pub name: Text,
    /// How the user proves who they are.
    pub password: Password,
    /// See [`User::tags`](crate::User::tags).
    pub tags: Vec<Text>,
    /// See [`User::limits`](crate::User::limits); `None` leaves those that are.
    pub limits: Option<Vec<(Text, i64)>>,
}

/// A password to be set.
#[derive(Clone, PartialEq)]
pub enum Password {
    /// The user cannot log in with one.
    None,
    /// As it was; none for a new user.
    Unchanged,
    /// To be hashed here.
    Plain(Bytes),
    /// Hashed elsewhere.
    Hashed(PasswordHash),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Password::None => "None",
            Password::Unchanged => "Unchanged",
            Password::Plain(_) => "Plain",
            Password::Hashed(_) => "Hashed",
        })
    }
}

/// A vhost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VhostDefinition {
    /// Unique in the broker.
    pub name: Text,
    /// For people.
    pub description: Text,
    /// For people.
    pub tags: Vec<Text>,
    /// The type of a durable, shared queue that is declared without one: `classic`, `quorum` or `stream`.
    pub default_queue_type: Option<Text>,
}

/// What a user may do in a vhost.
#[derive(Clone, Debug, PartialEq)]
pub struct PermissionDefinition {
    /// Where.
    pub vhost: Text,
    /// Who.
    pub user: Text,
    /// What.
    pub permission: Permission,
}

/// Which routing keys of a topic exchange a user may use.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicPermissionDefinition {
    /// Where.
    pub vhost: Text,
    /// Who.
    pub user: Text,
    /// The exchange; the others are not restricted by it.
    pub exchange: Text,
    /// What.
    pub permission: TopicPermission,
}

/// Settings for the queues and exchanges that a pattern matches.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyDefinition {
    /// Where.
    pub vhost: Text,
    /// Unique in the vhost among policies, or among operator policies.
    pub name: Text,
    /// An operator's: its limits hold beside those of the other policy and of arguments.
    pub operator: bool,
    /// On names; found anywhere in them unless anchored.
    pub pattern: Text,
    /// `queues`, `classic_queues`, `quorum_queues`, `streams`, `exchanges` or `all`.
    pub apply_to: Text,
    /// Of those that match a name, the greatest counts.
    pub priority: i64,
    /// The settings, by RabbitMQ's names.
    pub definition: Vec<(Text, Value)>,
}

/// A parameter that belongs to a component.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterDefinition {
    /// Where; `None` for the broker's own.
    pub vhost: Option<Text>,
    /// Such as `vhost-limits`; empty for the broker's own.
    pub component: Text,
    /// Unique in vhost and component.
    pub name: Text,
    /// Any JSON value.
    pub value: Value,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDefinition {
    /// Where.
    pub vhost: Text,
    /// Unique in the vhost.
    pub name: Text,
    /// What.
    pub spec: ExchangeSpec,
}

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDefinition {
    /// Where.
    pub vhost: Text,
    /// Unique in the vhost, among logs too.
    pub name: Text,
    /// What.
    pub spec: QueueSpec,
}

/// A log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogDefinition {
    /// Where.
    pub vhost: Text,
    /// Unique in the vhost, among queues too.
    pub name: Text,
    /// What.
    pub spec: LogSpec,
}

/// A binding.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingDefinition {
    /// Where.
    pub vhost: Text,
    /// What.
    pub binding: Binding,
}

/// One thing to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A user with its permissions; its connections are closed.
    User(Text),
    /// A vhost with all that is in it; its connections are closed.
    Vhost(Text),
    /// What a user may do in a vhost.
    Permission { vhost: Text, user: Text },
    /// Which routing keys a user may use, of one exchange or of all.
    TopicPermission {
        vhost: Text,
        user: Text,
        exchange: Option<Text>,
    },
    /// A policy or operator policy.
    Policy {
        vhost: Text,
        name: Text,
        operator: bool,
    },
    /// A parameter.
    Parameter {
        vhost: Option<Text>,
        component: Text,
        name: Text,
    },
    /// A limit of a user.
    UserLimit { user: Text, name: Text },
}
