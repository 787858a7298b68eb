//! What Kafka answers of logins, access lists, tokens and credentials where none of them is configured: tools tell by
//! these refusals that a cluster is not secured, and clients tell a broker's release by its having these APIs.

use trivium_core::Text;

use crate::{
    call::{Call, Step},
    error::ErrorCode,
    messages::security::*,
};

const NO_AUTHORIZER: &str = "No Authorizer is configured.";
/// Who a client without a login is.
const ANONYMOUS: (&str, &str) = ("User", "ANONYMOUS");
/// The time of a token that is not there.
const NO_TIME: i64 = -1;

/// On a listener without SASL a client is in, so it has nothing to shake hands about.
pub(super) fn handshake(call: &Call<'_>) -> Step {
    call.respond(&SaslHandshakeResponse {
        error_code: ErrorCode::ILLEGAL_SASL_STATE,
        ..Default::default()
    })
}

pub(super) fn authenticate(call: &Call<'_>) -> Step {
    call.respond(&SaslAuthenticateResponse {
        error_code: ErrorCode::ILLEGAL_SASL_STATE,
        error_message: Some(
            "SaslAuthenticate request received after successful authentication".into(),
        ),
        ..Default::default()
    })
}

pub(super) fn describe_acls(call: &Call<'_>) -> Step {
    call.respond(&DescribeAclsResponse {
        error_code: ErrorCode::SECURITY_DISABLED,
        error_message: Some(NO_AUTHORIZER.into()),
        ..Default::default()
    })
}

pub(super) fn create_acls(request: &CreateAclsRequest, call: &Call<'_>) -> Step {
    let refused = AclCreationResult {
        error_code: ErrorCode::SECURITY_DISABLED,
        error_message: Some(NO_AUTHORIZER.into()),
    };
    call.respond(&CreateAclsResponse {
        results: vec![refused; request.creations.len()],
        ..Default::default()
    })
}

pub(super) fn delete_acls(request: &DeleteAclsRequest, call: &Call<'_>) -> Step {
    let refused = DeleteAclsFilterResult {
        error_code: ErrorCode::SECURITY_DISABLED,
        error_message: Some(NO_AUTHORIZER.into()),
        matching_acls: Vec::new(),
    };
    call.respond(&DeleteAclsResponse {
        filter_results: vec![refused; request.filters.len()],
        ..Default::default()
    })
}

/// A token stands for a login, so who has none gets none.
pub(super) fn create_token(request: CreateDelegationTokenRequest, call: &Call<'_>) -> Step {
    let (kind, name) = (Text::from(ANONYMOUS.0), Text::from(ANONYMOUS.1));
    let owner = |given: Option<Text>, own: &Text| match given {
        Some(given) if !given.is_empty() => given,
        _ => own.clone(),
    };
    call.respond(&CreateDelegationTokenResponse {
        error_code: ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
        principal_type: owner(request.owner_principal_type, &kind),
        principal_name: owner(request.owner_principal_name, &name),
        token_requester_principal_type: kind,
        token_requester_principal_name: name,
        issue_timestamp_ms: NO_TIME,
        expiry_timestamp_ms: NO_TIME,
        max_timestamp_ms: NO_TIME,
        ..Default::default()
    })
}

pub(super) fn renew_token(call: &Call<'_>) -> Step {
    call.respond(&RenewDelegationTokenResponse {
        error_code: ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
        expiry_timestamp_ms: NO_TIME,
        ..Default::default()
    })
}

pub(super) fn expire_token(call: &Call<'_>) -> Step {
    call.respond(&ExpireDelegationTokenResponse {
        error_code: ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
        expiry_timestamp_ms: NO_TIME,
        ..Default::default()
    })
}

pub(super) fn describe_tokens(call: &Call<'_>) -> Step {
    call.respond(&DescribeDelegationTokenResponse {
        error_code: ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
        ..Default::default()
    })
}

/// Nobody has credentials: all of them are none, and whoever is named has none.
pub(super) fn credentials(request: DescribeUserScramCredentialsRequest, call: &Call<'_>) -> Step {
    let mut results: Vec<DescribeUserScramCredentialsResult> = Vec::new();
    let mut users: Vec<Text> = request
        .users
        .into_iter()
        .flatten()
        .map(|it| it.name)
        .collect();
    users.sort();
    for named in users.chunk_by(|a, b| a == b) {
        let user = &named[0];
        let (error_code, text) = match named.len() {
            1 => (
                ErrorCode::RESOURCE_NOT_FOUND,
                format!("Attempt to describe a user credential that does not exist: {user}"),
            ),
            _ => (
                ErrorCode::DUPLICATE_RESOURCE,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single request: {user}"
                ),
            ),
        };
        results.push(DescribeUserScramCredentialsResult {
            user: user.clone(),
            error_code,
            error_message: Some(text.into()),
            credential_infos: Vec::new(),
        });
    }
    call.respond(&DescribeUserScramCredentialsResponse {
        results,
        ..Default::default()
    })
}

/// There is no login that credentials would be for, so none are kept; and none are there to be removed.
pub(super) fn set_credentials(request: AlterUserScramCredentialsRequest, call: &Call<'_>) -> Step {
    let deletions = request.deletions.into_iter().map(|it| {
        let text = "Attempt to delete a user credential that does not exist";
        (it.name, ErrorCode::RESOURCE_NOT_FOUND, text)
    });
    let upsertions = request.upsertions.into_iter().map(|it| {
        let text = "there is no login with SCRAM";
        (it.name, ErrorCode::UNSUPPORTED_SASL_MECHANISM, text)
    });
    let mut results: Vec<AlterUserScramCredentialsResult> = Vec::new();
    for (user, error_code, text) in deletions.chain(upsertions) {
        results.push(AlterUserScramCredentialsResult {
            user,
            error_code,
            error_message: Some(text.into()),
        });
    }
    results.sort_by(|a, b| a.user.cmp(&b.user));
    results.dedup_by(|a, b| a.user == b.user);
    call.respond(&AlterUserScramCredentialsResponse {
        results,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ApiKey, script::Script};

    /// A broker without an authorizer (`SECURITY_DISABLED`) and a listener without SASL, in Kafka's words.
    #[test]
    fn a_broker_without_security_says_so() {
        let mut script = Script::open();
        script.send(ApiKey::DescribeAcls, 3, &DescribeAclsRequest::default());
        let acls: DescribeAclsResponse = script.response(ApiKey::DescribeAcls, 3);
        assert_eq!(
            (acls.error_code.0, acls.error_message.as_deref()),
            (54, Some("No Authorizer is configured."))
        );
        let creations = vec![AclCreation::default(); 3];
        script.send(ApiKey::CreateAcls, 1, &CreateAclsRequest { creations });
        let created: CreateAclsResponse = script.response(ApiKey::CreateAcls, 1);
        let codes: Vec<_> = created.results.iter().map(|it| it.error_code.0).collect();
        assert_eq!(codes, [54, 54, 54]);
        script.send(
            ApiKey::SaslHandshake,
            1,
            &SaslHandshakeRequest {
                mechanism: "PLAIN".into(),
            },
        );
        let refused: SaslHandshakeResponse = script.response(ApiKey::SaslHandshake, 1);
        assert_eq!((refused.error_code.0, refused.mechanisms.len()), (34, 0));
        script.send(
            ApiKey::DescribeDelegationToken,
            3,
            &DescribeDelegationTokenRequest::default(),
        );
        let tokens: DescribeDelegationTokenResponse =
            script.response(ApiKey::DescribeDelegationToken, 3);
        assert_eq!(tokens.error_code.0, 64);
    }

    #[test]
    fn nobody_has_credentials() {
        let mut script = Script::open();
        let named = |names: &[&str]| DescribeUserScramCredentialsRequest {
            users: Some(
                names
                    .iter()
                    .map(|name| ScramUserName {
                        name: (*name).into(),
                    })
                    .collect(),
            ),
        };
        let mut ask = |names: &[&str]| {
            script.send(ApiKey::DescribeUserScramCredentials, 0, &named(names));
            let answer: DescribeUserScramCredentialsResponse =
                script.response(ApiKey::DescribeUserScramCredentials, 0);
            let codes = answer.results.iter().map(|it| it.error_code.0);
            codes.collect::<Vec<_>>()
        };
        assert_eq!(ask(&[]), [0; 0]);
        assert_eq!(ask(&["b", "a", "b"]), [91, 92]);
    }
}
