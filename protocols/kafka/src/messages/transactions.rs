//! Transactions: AddPartitionsToTxn (key 24), AddOffsetsToTxn (25), EndTxn (26), WriteTxnMarkers (27),
//! TxnOffsetCommit (28), DescribeProducers (61), DescribeTransactions (65) and ListTransactions (66).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// Partitions to add to a transaction: of one up to version 3, of several from version 4.
    AddPartitionsToTxnRequest {
        transactions: Vec<AddPartitionsToTxnTransaction> => 4..;
        v3_and_below_transactional_id: Text => ..=3;
        v3_and_below_producer_id: i64 => ..=3;
        v3_and_below_producer_epoch: i16 => ..=3;
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> => ..=3;
    }

    /// Partitions for one transaction.
    AddPartitionsToTxnTransaction {
        transactional_id: Text;
        producer_id: i64;
        producer_epoch: i16;
        verify_only: bool;
        topics: Vec<AddPartitionsToTxnTopic>;
    }

    /// Those of one topic.
    AddPartitionsToTxnTopic {
        name: Text;
        partitions: Vec<i32>;
    }

    /// Whether they were added.
    AddPartitionsToTxnResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode => 4..;
        results_by_transaction: Vec<AddPartitionsToTxnResult> => 4..;
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> => ..=3;
    }

    /// Those of one transaction.
    AddPartitionsToTxnResult {
        transactional_id: Text;
        topic_results: Vec<AddPartitionsToTxnTopicResult>;
    }

    /// Those of one topic.
    AddPartitionsToTxnTopicResult {
        name: Text;
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }

    /// One partition.
    AddPartitionsToTxnPartitionResult {
        partition_index: i32;
        partition_error_code: ErrorCode;
    }

    /// A group whose offsets are to be part of a transaction.
    AddOffsetsToTxnRequest {
        transactional_id: Text;
        producer_id: i64;
        producer_epoch: i16;
        group_id: Text;
    }

    /// Whether it was added.
    AddOffsetsToTxnResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
    }

    /// A transaction is to be committed or aborted.
    EndTxnRequest {
        transactional_id: Text;
        producer_id: i64;
        producer_epoch: i16;
        committed: bool;
    }

    /// Whether it was, and from version 5 on who the producer is from now on.
    EndTxnResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        producer_id: i64 = -1 => 5..;
        producer_epoch: i16 = -1 => 5..;
    }

    /// Markers to write, past the coordinators.
    WriteTxnMarkersRequest {
        markers: Vec<WritableTxnMarker>;
    }

    /// The markers of one producer.
    WritableTxnMarker {
        producer_id: i64;
        producer_epoch: i16;
        transaction_result: bool;
        topics: Vec<WritableTxnMarkerTopic>;
        coordinator_epoch: i32;
        transaction_version: i8 => 2..;
    }

    /// Those for one topic.
    WritableTxnMarkerTopic {
        name: Text;
        partition_indexes: Vec<i32>;
    }

    /// Whether they were written.
    WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult>;
    }

    /// Those of one producer.
    WritableTxnMarkerResult {
        producer_id: i64;
        topics: Vec<WritableTxnMarkerTopicResult>;
    }

    /// Those for one topic.
    WritableTxnMarkerTopicResult {
        name: Text;
        partitions: Vec<WritableTxnMarkerPartitionResult>;
    }

    /// That for one partition.
    WritableTxnMarkerPartitionResult {
        partition_index: i32;
        error_code: ErrorCode;
    }

    /// Offsets that a transaction is to commit.
    TxnOffsetCommitRequest {
        transactional_id: Text;
        group_id: Text;
        producer_id: i64;
        producer_epoch: i16;
        generation_id: i32 = -1 => 3..;
        member_id: Text => 3..;
        group_instance_id: Option<Text> => 3..;
        topics: Vec<TxnOffsetCommitRequestTopic>;
    }

    /// Those of one topic.
    TxnOffsetCommitRequestTopic {
        name: Text;
        partitions: Vec<TxnOffsetCommitRequestPartition>;
    }

    /// That of one partition.
    TxnOffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1 => 2..;
        committed_metadata: Option<Text>;
    }

    /// Whether they were taken.
    TxnOffsetCommitResponse {
        throttle_time_ms: i32;
        topics: Vec<TxnOffsetCommitResponseTopic>;
    }

    /// Those of one topic.
    TxnOffsetCommitResponseTopic {
        name: Text;
        partitions: Vec<TxnOffsetCommitResponsePartition>;
    }

    /// That of one partition.
    TxnOffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }

    /// Partitions whose producers are to be described.
    DescribeProducersRequest {
        topics: Vec<DescribeProducersRequestTopic>;
    }

    /// Those of one topic.
    DescribeProducersRequestTopic {
        name: Text;
        partition_indexes: Vec<i32>;
    }

    /// The producers.
    DescribeProducersResponse {
        throttle_time_ms: i32;
        topics: Vec<DescribeProducersResponseTopic>;
    }

    /// Those of one topic.
    DescribeProducersResponseTopic {
        name: Text;
        partitions: Vec<DescribeProducersResponsePartition>;
    }

    /// Those of one partition.
    DescribeProducersResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        active_producers: Vec<ProducerState>;
    }

    /// One producer.
    ProducerState {
        producer_id: i64;
        producer_epoch: i32;
        last_sequence: i32 = -1;
        last_timestamp: i64 = -1;
        coordinator_epoch: i32;
        current_txn_start_offset: i64 = -1;
    }

    /// Transactional ids to describe.
    DescribeTransactionsRequest {
        transactional_ids: Vec<Text>;
    }

    /// The transactional ids.
    DescribeTransactionsResponse {
        throttle_time_ms: i32;
        transaction_states: Vec<DescribedTransaction>;
    }

    /// One of them.
    DescribedTransaction {
        error_code: ErrorCode;
        transactional_id: Text;
        transaction_state: Text;
        transaction_timeout_ms: i32;
        transaction_start_time_ms: i64;
        producer_id: i64;
        producer_epoch: i16;
        topics: Vec<DescribedTransactionTopic>;
    }

    /// What it has written to of one topic.
    DescribedTransactionTopic {
        topic: Text;
        partitions: Vec<i32>;
    }

    /// Which transactional ids are wanted.
    ListTransactionsRequest {
        state_filters: Vec<Text>;
        producer_id_filters: Vec<i64>;
        duration_filter: i64 = -1 => 1..;
        transactional_id_pattern: Option<Text> => 2..;
    }

    /// The transactional ids.
    ListTransactionsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        unknown_state_filters: Vec<Text>;
        transaction_states: Vec<ListedTransaction>;
    }

    /// One of them.
    ListedTransaction {
        transactional_id: Text;
        producer_id: i64;
        transaction_state: Text;
    }
}
