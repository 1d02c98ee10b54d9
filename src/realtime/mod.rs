//! How clients hear of what happens: the hub that all doors hang on, sessions that outlive connections, Socket.IO, and
//! raw WebSockets with what dialects make of the journal for them.

pub mod feed;
pub mod hub;
pub mod projector;
pub mod session;
pub mod socketio;
pub mod websocket;
