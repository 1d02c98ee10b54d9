//! The Socket.IO door: namespace `/`, rooms `job:<id>` and `automation:<id>`, for clients of version 2, 3 and 4.
//!
//! Three things that the library's documented style would lose events by are done differently here. Handlers are
//! registered in a connect *middleware*, for a client's first message may arrive before the connect handler runs. A
//! message is taken up in the order in which it came (the library runs handlers' futures side by side), so the
//! handler itself only queues it and one task a socket works the queue off. And a full packet buffer is not an
//! error to be logged: the hub feeds that socket from the journal, and an answer waits for room.
//!
//! The hub knows who is in which room; the library's own rooms are not used.

mod client;
mod message;

use std::sync::Arc;

use socketioxide::{
    SocketIo, TransportType, extract::SocketRef, handler::ConnectHandler, layer::SocketIoLayer,
};

use super::hub::Hub;
use crate::config;
use client::Client;

/// Builds the layer that answers `/socket.io/`, and the handle that closes all sockets.
pub fn layer(hub: Arc<Hub>, settings: &config::Realtime) -> (SocketIoLayer, SocketIo) {
    let (layer, io) = SocketIo::builder()
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .max_payload(settings.max_message as u64)
        .ws_max_message_size(settings.max_message)
        .ws_max_frame_size(settings.max_message)
        .ws_read_buffer_size(4096)
        .max_buffer_size(settings.max_buffered_packets)
        .transports([TransportType::Polling, TransportType::Websocket])
        .build_layer();
    let limits = client::Limits { queued_messages: settings.max_queued_messages };
    let connected = |socket: SocketRef| async move {
        if let Some(client) = socket.extensions.get::<Arc<Client>>() {
            client.enter(socket);
        }
    };
    let prepare = move |socket: SocketRef| {
        Client::prepare(&socket, hub.clone(), limits);
        std::future::ready(Ok::<(), std::convert::Infallible>(()))
    };
    io.ns("/", connected.with(prepare));
    (layer, io)
}
