//! The mqtt front end.
