//! FindCoordinator: this broker coordinates everything. InitProducerId: a producer's identity.

use trivium_core::{Command, Reply, Text};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::{groups::*, producers::*},
};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) fn start(request: FindCoordinatorRequest, call: &Call<'_>) -> Step {
    let mut response = FindCoordinatorResponse::default();
    if call.version() >= 4 {
        let keys = request.coordinator_keys.into_iter();
        response.coordinators = keys
            .map(|key| coordinator(key, request.key_type, call))
            .collect();
    } else {
        let found = coordinator(request.key, request.key_type, call);
        (response.node_id, response.host, response.port) = (found.node_id, found.host, found.port);
        (response.error_code, response.error_message) = (found.error_code, found.error_message);
    }
    call.respond(&response)
}

fn coordinator(key: Text, key_type: i8, call: &Call<'_>) -> Coordinator {
    if key_type != GROUP && key_type != TRANSACTION {
        return Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some("there are coordinators of groups and of transactions only".into()),
            ..Default::default()
        };
    }
    let (host, port) = call.session.advertised();
    Coordinator {
        key,
        node_id: call.session.options.node_id,
        host,
        port,
        ..Default::default()
    }
}

/// The code for a transactional id: one of the few after which every client gives up and says so, where
/// others are taken for passing trouble and tried again for ever.
pub(crate) fn init_producer(request: InitProducerIdRequest, call: &mut Call<'_>) -> Step {
    if request.transactional_id.is_some() {
        return identity(Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED), call);
    }
    call.submit(0, |token| Command::InitProducer { token });
    Step::Wait(Box::new(InitProducer))
}

struct InitProducer;

impl Job for InitProducer {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let producer = answer.reply(|reply| match reply {
            Reply::Producer { id, epoch } => Some((id, epoch)),
            _ => None,
        });
        identity(producer.map_err(|refusal| ErrorCode::from(&refusal)), call)
    }
}

fn identity(producer: Result<(i64, i16), ErrorCode>, call: &Call<'_>) -> Step {
    let (error_code, (producer_id, producer_epoch)) = match producer {
        Ok(producer) => (ErrorCode::NONE, producer),
        Err(code) => (code, (-1, -1)),
    };
    call.respond(&InitProducerIdResponse {
        throttle_time_ms: 0,
        error_code,
        producer_id,
        producer_epoch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ApiKey, script::Script};

    #[test]
    fn this_broker_coordinates_groups_and_transactions() {
        for version in 0..=6 {
            let mut script = Script::open();
            let request = FindCoordinatorRequest {
                key: "g".into(),
                key_type: TRANSACTION,
                coordinator_keys: vec!["g".into()],
            };
            script.send(ApiKey::FindCoordinator, version, &request);
            let response: FindCoordinatorResponse =
                script.response(ApiKey::FindCoordinator, version);
            let found = response
                .coordinators
                .first()
                .map(|it| (it.node_id, &*it.host, it.port));
            let expected = (1, "127.0.0.1", 9092);
            assert_eq!(
                found.unwrap_or((response.node_id, &*response.host, response.port)),
                expected
            );
        }
        let mut script = Script::open();
        let share = FindCoordinatorRequest {
            key_type: 2,
            coordinator_keys: vec!["g".into()],
            ..Default::default()
        };
        script.send(ApiKey::FindCoordinator, 6, &share);
        let response: FindCoordinatorResponse = script.response(ApiKey::FindCoordinator, 6);
        assert_eq!(
            response.coordinators[0].error_code,
            ErrorCode::INVALID_REQUEST
        );
    }

    #[test]
    fn a_producer_gets_an_identity_but_no_transactions() {
        for version in 0..=5 {
            let mut script = Script::open();
            script.send(
                ApiKey::InitProducerId,
                version,
                &InitProducerIdRequest::default(),
            );
            let token = script.command(|command| match command {
                Command::InitProducer { token } => Some(token),
                _ => None,
            });
            script.done(token, Ok(Reply::Producer { id: 42, epoch: 0 }));
            let response: InitProducerIdResponse = script.response(ApiKey::InitProducerId, version);
            assert_eq!(
                (
                    response.producer_id,
                    response.producer_epoch,
                    response.error_code.0
                ),
                (42, 0, 0)
            );

            let transactional_id = Some(Text::from("t"));
            script.send(
                ApiKey::InitProducerId,
                version,
                &InitProducerIdRequest {
                    transactional_id,
                    ..Default::default()
                },
            );
            let response: InitProducerIdResponse = script.response(ApiKey::InitProducerId, version);
            assert_eq!((response.producer_id, response.error_code.0), (-1, 53));
        }
    }
}
