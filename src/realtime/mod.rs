//! How clients hear of it: one ordered stream a process ([`hub`]) and the doors through which clients take part.

pub mod hub;
pub mod socketio;
