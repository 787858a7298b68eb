//! Logins, access lists and what else a secured broker has: SaslHandshake (key 17), DescribeAcls (29), CreateAcls (30),
//! DeleteAcls (31), SaslAuthenticate (36), delegation tokens (38 to 41) and SCRAM credentials (50, 51).

use bytes::Bytes;
use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// A mechanism that a client wants to log in with.
    SaslHandshakeRequest {
        mechanism: Text;
    }

    /// The mechanisms that there are.
    SaslHandshakeResponse {
        error_code: ErrorCode;
        mechanisms: Vec<Text>;
    }

    /// A step of a login.
    SaslAuthenticateRequest {
        auth_bytes: Bytes;
    }

    /// The next step.
    SaslAuthenticateResponse {
        error_code: ErrorCode;
        error_message: Option<Text>;
        auth_bytes: Bytes;
        session_lifetime_ms: i64 => 1..;
    }

    /// A filter of access rules.
    DescribeAclsRequest {
        resource_type_filter: i8;
        resource_name_filter: Option<Text>;
        pattern_type_filter: i8 = 3;
        principal_filter: Option<Text>;
        host_filter: Option<Text>;
        operation: i8;
        permission_type: i8;
    }

    /// The rules, by resource.
    DescribeAclsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        resources: Vec<DescribeAclsResource>;
    }

    /// A resource.
    DescribeAclsResource {
        resource_type: i8;
        resource_name: Text;
        pattern_type: i8 = 3;
        acls: Vec<AclDescription>;
    }

    /// A rule.
    AclDescription {
        principal: Text;
        host: Text;
        operation: i8;
        permission_type: i8;
    }

    /// Rules to make.
    CreateAclsRequest {
        creations: Vec<AclCreation>;
    }

    /// A rule.
    AclCreation {
        resource_type: i8;
        resource_name: Text;
        resource_pattern_type: i8 = 3;
        principal: Text;
        host: Text;
        operation: i8;
        permission_type: i8;
    }

    /// What became of them.
    CreateAclsResponse {
        throttle_time_ms: i32;
        results: Vec<AclCreationResult>;
    }

    /// What became of one.
    AclCreationResult {
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Rules to remove.
    DeleteAclsRequest {
        filters: Vec<DeleteAclsFilter>;
    }

    /// Which of them.
    DeleteAclsFilter {
        resource_type_filter: i8;
        resource_name_filter: Option<Text>;
        pattern_type_filter: i8 = 3;
        principal_filter: Option<Text>;
        host_filter: Option<Text>;
        operation: i8;
        permission_type: i8;
    }

    /// What was removed.
    DeleteAclsResponse {
        throttle_time_ms: i32;
        filter_results: Vec<DeleteAclsFilterResult>;
    }

    /// What a filter removed.
    DeleteAclsFilterResult {
        error_code: ErrorCode;
        error_message: Option<Text>;
        matching_acls: Vec<DeleteAclsMatchingAcl>;
    }

    /// A rule that was removed.
    DeleteAclsMatchingAcl {
        error_code: ErrorCode;
        error_message: Option<Text>;
        resource_type: i8;
        resource_name: Text;
        pattern_type: i8 = 3;
        principal: Text;
        host: Text;
        operation: i8;
        permission_type: i8;
    }

    /// Who somebody is.
    TokenPrincipal {
        principal_type: Text;
        principal_name: Text;
    }

    /// Asks for a token that stands for a login.
    CreateDelegationTokenRequest {
        owner_principal_type: Option<Text> => 3..;
        owner_principal_name: Option<Text> => 3..;
        renewers: Vec<TokenPrincipal>;
        max_lifetime_ms: i64;
    }

    /// The token.
    CreateDelegationTokenResponse {
        error_code: ErrorCode;
        principal_type: Text;
        principal_name: Text;
        token_requester_principal_type: Text => 3..;
        token_requester_principal_name: Text => 3..;
        issue_timestamp_ms: i64;
        expiry_timestamp_ms: i64;
        max_timestamp_ms: i64;
        token_id: Text;
        hmac: Bytes;
        throttle_time_ms: i32;
    }

    /// A token that is to live longer.
    RenewDelegationTokenRequest {
        hmac: Bytes;
        renew_period_ms: i64;
    }

    /// Until when.
    RenewDelegationTokenResponse {
        error_code: ErrorCode;
        expiry_timestamp_ms: i64;
        throttle_time_ms: i32;
    }

    /// A token that is to end.
    ExpireDelegationTokenRequest {
        hmac: Bytes;
        expiry_time_period_ms: i64;
    }

    /// When.
    ExpireDelegationTokenResponse {
        error_code: ErrorCode;
        expiry_timestamp_ms: i64;
        throttle_time_ms: i32;
    }

    /// Whose tokens are wanted.
    DescribeDelegationTokenRequest {
        owners: Option<Vec<TokenPrincipal>>;
    }

    /// The tokens.
    DescribeDelegationTokenResponse {
        error_code: ErrorCode;
        tokens: Vec<DescribedDelegationToken>;
        throttle_time_ms: i32;
    }

    /// A token.
    DescribedDelegationToken {
        principal_type: Text;
        principal_name: Text;
        token_requester_principal_type: Text => 3..;
        token_requester_principal_name: Text => 3..;
        issue_timestamp: i64;
        expiry_timestamp: i64;
        max_timestamp: i64;
        token_id: Text;
        hmac: Bytes;
        renewers: Vec<TokenPrincipal>;
    }

    /// Whose credentials are wanted.
    DescribeUserScramCredentialsRequest {
        users: Option<Vec<ScramUserName>>;
    }

    /// A user.
    ScramUserName {
        name: Text;
    }

    /// Which credentials there are.
    DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        results: Vec<DescribeUserScramCredentialsResult>;
    }

    /// Those of a user.
    DescribeUserScramCredentialsResult {
        user: Text;
        error_code: ErrorCode;
        error_message: Option<Text>;
        credential_infos: Vec<ScramCredentialInfo>;
    }

    /// A credential.
    ScramCredentialInfo {
        mechanism: i8;
        iterations: i32;
    }

    /// Credentials to set and to remove.
    AlterUserScramCredentialsRequest {
        deletions: Vec<ScramCredentialDeletion>;
        upsertions: Vec<ScramCredentialUpsertion>;
    }

    /// One to remove.
    ScramCredentialDeletion {
        name: Text;
        mechanism: i8;
    }

    /// One to set.
    ScramCredentialUpsertion {
        name: Text;
        mechanism: i8;
        iterations: i32;
        salt: Bytes;
        salted_password: Bytes;
    }

    /// What became of them.
    AlterUserScramCredentialsResponse {
        throttle_time_ms: i32;
        results: Vec<AlterUserScramCredentialsResult>;
    }

    /// What became of a user's.
    AlterUserScramCredentialsResult {
        user: Text;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }
}
