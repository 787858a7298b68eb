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
