//! How clients hear of what happens: the hub that all doors hang on, sessions that outlive connections, and Socket.IO.

pub mod hub;
pub mod session;
pub mod socketio;
