//! The kafka front end.
