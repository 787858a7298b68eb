//! Kafka's error codes, and which of them a refusal of the core becomes.

use trivium_core::{Kind, Refusal, group::GroupError, transaction::TransactionError};

use crate::wire::{Frame, Malformed, Reader, Wire};

/// An error code of Kafka's protocol; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorCode(pub i16);

macro_rules! codes {
    ($($name:ident = $code:literal;)*) => {
        #[allow(missing_docs)]
        impl ErrorCode {
            $(pub const $name: ErrorCode = ErrorCode($code);)*
        }
    };
}

codes! {
    UNKNOWN_SERVER_ERROR = -1;
    NONE = 0;
    OFFSET_OUT_OF_RANGE = 1;
    CORRUPT_MESSAGE = 2;
    UNKNOWN_TOPIC_OR_PARTITION = 3;
    NOT_LEADER_OR_FOLLOWER = 6;
    MESSAGE_TOO_LARGE = 10;
    OFFSET_METADATA_TOO_LARGE = 12;
    INVALID_TOPIC_EXCEPTION = 17;
    NOT_ENOUGH_REPLICAS = 19;
    INVALID_REQUIRED_ACKS = 21;
    ILLEGAL_GENERATION = 22;
    INCONSISTENT_GROUP_PROTOCOL = 23;
    INVALID_GROUP_ID = 24;
    UNKNOWN_MEMBER_ID = 25;
    INVALID_SESSION_TIMEOUT = 26;
    REBALANCE_IN_PROGRESS = 27;
    TOPIC_AUTHORIZATION_FAILED = 29;
    GROUP_AUTHORIZATION_FAILED = 30;
    CLUSTER_AUTHORIZATION_FAILED = 31;
    INVALID_TIMESTAMP = 32;
    UNSUPPORTED_SASL_MECHANISM = 33;
    ILLEGAL_SASL_STATE = 34;
    UNSUPPORTED_VERSION = 35;
    TOPIC_ALREADY_EXISTS = 36;
    INVALID_PARTITIONS = 37;
    INVALID_REPLICATION_FACTOR = 38;
    INVALID_REPLICA_ASSIGNMENT = 39;
    INVALID_CONFIG = 40;
    INVALID_REQUEST = 42;
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43;
    POLICY_VIOLATION = 44;
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
    INVALID_PRODUCER_EPOCH = 47;
    INVALID_TXN_STATE = 48;
    INVALID_PRODUCER_ID_MAPPING = 49;
    INVALID_TRANSACTION_TIMEOUT = 50;
    CONCURRENT_TRANSACTIONS = 51;
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53;
    SECURITY_DISABLED = 54;
    OPERATION_NOT_ATTEMPTED = 55;
    KAFKA_STORAGE_ERROR = 56;
    LOG_DIR_NOT_FOUND = 57;
    SASL_AUTHENTICATION_FAILED = 58;
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64;
    NON_EMPTY_GROUP = 68;
    GROUP_ID_NOT_FOUND = 69;
    FETCH_SESSION_ID_NOT_FOUND = 70;
    INVALID_FETCH_SESSION_EPOCH = 71;
    FENCED_LEADER_EPOCH = 74;
    UNKNOWN_LEADER_EPOCH = 75;
    UNSUPPORTED_COMPRESSION_TYPE = 76;
    MEMBER_ID_REQUIRED = 79;
    GROUP_MAX_SIZE_REACHED = 81;
    FENCED_INSTANCE_ID = 82;
    ELECTION_NOT_NEEDED = 84;
    NO_REASSIGNMENT_IN_PROGRESS = 85;
    GROUP_SUBSCRIBED_TO_TOPIC = 86;
    INVALID_RECORD = 87;
    UNSTABLE_OFFSET_COMMIT = 88;
    THROTTLING_QUOTA_EXCEEDED = 89;
    PRODUCER_FENCED = 90;
    RESOURCE_NOT_FOUND = 91;
    DUPLICATE_RESOURCE = 92;
    INVALID_UPDATE_VERSION = 95;
    UNKNOWN_TOPIC_ID = 100;
    INCONSISTENT_TOPIC_ID = 103;
    BROKER_ID_NOT_REGISTERED = 102;
    TRANSACTIONAL_ID_NOT_FOUND = 105;
    FENCED_MEMBER_EPOCH = 110;
    UNRELEASED_INSTANCE_ID = 111;
    UNSUPPORTED_ASSIGNOR = 112;
    STALE_MEMBER_EPOCH = 113;
    FETCH_SESSION_TOPIC_ID_ERROR = 106;
    MISMATCHED_ENDPOINT_TYPE = 114;
    UNSUPPORTED_ENDPOINT_TYPE = 115;
    TRANSACTION_ABORTABLE = 120;
    INVALID_RECORD_STATE = 121;
    SHARE_SESSION_NOT_FOUND = 122;
    INVALID_SHARE_SESSION_EPOCH = 123;
    INVALID_REGULAR_EXPRESSION = 128;
    SHARE_SESSION_LIMIT_REACHED = 133;
}

impl ErrorCode {
    /// Whether there is an error.
    pub fn is_err(self) -> bool {
        self != ErrorCode::NONE
    }
}

impl Wire for ErrorCode {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        i16::read(reader).map(ErrorCode)
    }

    fn write(&self, frame: &mut Frame) {
        self.0.write(frame);
    }
}

impl From<&Refusal> for ErrorCode {
    fn from(refusal: &Refusal) -> ErrorCode {
        match refusal {
            Refusal::NotFound { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Refusal::Exists { .. } | Refusal::Inequivalent { .. } => {
                ErrorCode::TOPIC_ALREADY_EXISTS
            }
            Refusal::Denied(_) => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            Refusal::LoginRefused => ErrorCode::SASL_AUTHENTICATION_FAILED,
            Refusal::NoVhost(_) | Refusal::NotAllowed(_) => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            Refusal::Invalid(_) | Refusal::NotImplemented(_) => ErrorCode::INVALID_REQUEST,
            Refusal::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            Refusal::Records(_) | Refusal::Batch(_) => ErrorCode::INVALID_RECORD,
            Refusal::Corrupt(_) => ErrorCode::CORRUPT_MESSAGE,
            Refusal::Replaced { .. } => ErrorCode::INCONSISTENT_TOPIC_ID,
            Refusal::OffsetOutOfRange(_) => ErrorCode::OFFSET_OUT_OF_RANGE,
            Refusal::OutOfOrderSequence => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Refusal::ProducerFenced => ErrorCode::INVALID_PRODUCER_EPOCH,
            Refusal::Transaction(error) => ErrorCode::from(error),
            Refusal::StorageFailed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            // A client that is told so asks for the leader again, and by then the connection is closed.
            Refusal::Stopping => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Refusal::InUse { .. }
            | Refusal::NotEmpty { .. }
            | Refusal::Full { .. }
            | Refusal::Quota(_)
            | Refusal::Locked { .. }
            | Refusal::NoGet { .. }
            | Refusal::ExclusiveUse { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}

impl From<&TransactionError> for ErrorCode {
    fn from(error: &TransactionError) -> ErrorCode {
        match error {
            TransactionError::Invalid => ErrorCode::INVALID_REQUEST,
            TransactionError::NotFound => ErrorCode::TRANSACTIONAL_ID_NOT_FOUND,
            TransactionError::InvalidTimeout => ErrorCode::INVALID_TRANSACTION_TIMEOUT,
            TransactionError::WrongProducer => ErrorCode::INVALID_PRODUCER_ID_MAPPING,
            TransactionError::Fenced => ErrorCode::PRODUCER_FENCED,
            TransactionError::TimedOut => ErrorCode::INVALID_PRODUCER_EPOCH,
            TransactionError::InvalidState | TransactionError::NotAdded => {
                ErrorCode::INVALID_TXN_STATE
            }
            TransactionError::Concurrent => ErrorCode::CONCURRENT_TRANSACTIONS,
        }
    }
}

/// Whether a refusal says that the log itself is not there.
pub(crate) fn is_missing_log(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NotFound {
            kind: Kind::Log,
            ..
        }
    )
}

impl From<&GroupError> for ErrorCode {
    fn from(error: &GroupError) -> ErrorCode {
        match error {
            GroupError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
            GroupError::MemberIdRequired(_) => ErrorCode::MEMBER_ID_REQUIRED,
            GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
            GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
            GroupError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            GroupError::FencedInstance(_) => ErrorCode::FENCED_INSTANCE_ID,
            GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
            GroupError::InvalidGroup => ErrorCode::INVALID_GROUP_ID,
            GroupError::NotEmpty => ErrorCode::NON_EMPTY_GROUP,
            GroupError::NotFound | GroupError::OtherKind(_) | GroupError::CannotUpgrade(..) => {
                ErrorCode::GROUP_ID_NOT_FOUND
            }
            GroupError::Invalid(_) | GroupError::PastAcquired(_) => ErrorCode::INVALID_REQUEST,
            GroupError::InvalidSettings(_) => ErrorCode::INVALID_CONFIG,
            GroupError::UnsupportedAssignor => ErrorCode::UNSUPPORTED_ASSIGNOR,
            GroupError::InvalidPattern => ErrorCode::INVALID_REGULAR_EXPRESSION,
            GroupError::UnreleasedInstance(_) => ErrorCode::UNRELEASED_INSTANCE_ID,
            GroupError::FencedMemberEpoch { .. } => ErrorCode::FENCED_MEMBER_EPOCH,
            GroupError::StaleMemberEpoch => ErrorCode::STALE_MEMBER_EPOCH,
            GroupError::WithoutMemberEpoch => ErrorCode::UNSUPPORTED_VERSION,
            GroupError::InvalidRecordState => ErrorCode::INVALID_RECORD_STATE,
            GroupError::UnknownSharePartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            GroupError::Full => ErrorCode::GROUP_MAX_SIZE_REACHED,
            GroupError::SubscribedToLog => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
            GroupError::TransactionEnded => ErrorCode::INVALID_TXN_STATE,
            GroupError::StorageFailed => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}
