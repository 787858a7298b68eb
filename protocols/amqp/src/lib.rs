//! The amqp front end.
