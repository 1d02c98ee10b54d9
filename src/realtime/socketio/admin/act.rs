//! What the page may have done: sockets join and leave rooms in their own turn and with their own rights, or go.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use socketioxide::{SocketIo, extract::SocketRef};
use tokio::sync::mpsc;

use super::{
    NAMESPACES, rooms,
    shown::{self, Room},
};
use crate::{
    job::{Code, JobId, Rejection},
    realtime::{
        hub::{Door, Hub, Past},
        socketio::{
            client::Client,
            message::{Answer, Wish},
            transport::{Aliases, Link},
        },
    },
};

/// The events that carry an [`Action`], as the page sends them.
pub const ACTIONS: [&str; 3] = ["join", "leave", "_disconnect"];
/// Sockets that are acted upon side by side.
const AT_ONCE: usize = 16;
/// How long a client may take to hear that it is sent away, before its connection is cut.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is to be done to the sockets of a namespace: to one of this name, to those in a room of this name, or to all.
pub struct Action {
    namespace: String,
    which: Option<String>,
    deed: Deed,
}

enum Deed {
    Join(JobId, Door),
    Leave(JobId, Door),
    Disconnect {
        /// From all namespaces, and the connection with it.
        close: bool,
    },
}

/// An action, with who asked for it.
pub struct Order {
    pub io: SocketIo,
    pub admin: SocketRef,
    pub event: &'static str,
    pub action: Result<Action, Rejection>,
    pub answer: Option<Answer>,
}

impl Action {
    /// Reads the arguments of one of [`ACTIONS`].
    pub fn read(event: &str, arguments: &[Value]) -> Result<Action, Rejection> {
        let bad = |message: &str| Rejection::new(Code::InvalidRequest, message);
        let namespace = arguments.first().and_then(Value::as_str);
        let namespace = namespace.ok_or_else(|| bad("The first argument is a namespace, such as \"/\"."))?;
        let which = match arguments.get(2) {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.clone()).filter(|name| !name.is_empty()),
            Some(_) => return Err(bad("The third argument is the name of a socket or of a room.")),
        };
        let second = arguments.get(1);
        let deed = match event {
            "_disconnect" => Deed::Disconnect { close: second == Some(&Value::Bool(true)) },
            _ => {
                let (job, door) = room(second.and_then(Value::as_str).unwrap_or_default())?;
                if event == "join" { Deed::Join(job, door) } else { Deed::Leave(job, door) }
            }
        };
        Ok(Action { namespace: namespace.to_owned(), which, deed })
    }
}

/// The job and the door of a room's name.
fn room(name: &str) -> Result<(JobId, Door), Rejection> {
    let (door, job) = match name.split_once(':') {
        Some(("job", job)) => (Door::Job, job),
        Some(("automation", job)) => (Door::Automation, job),
        _ => {
            let message = "Rooms that can be joined and left are job:<id> and automation:<id>.";
            return Err(Rejection::new(Code::InvalidRequest, message));
        }
    };
    Ok((job.parse()?, door))
}

/// Carries out what is asked for, one order after the other.
pub struct Hands {
    pub hub: Arc<Hub>,
    pub aliases: Arc<Aliases>,
    /// Whether the page shows what happens.
    pub tells: bool,
}

impl Hands {
    pub async fn work(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(Order { io, admin, event, action, answer }) = orders.recv().await {
            let done = match action {
                Ok(action) => self.act(&io, action).await,
                Err(rejection) => Err(rejection),
            };
            let told = match &done {
                Ok((sockets, refused)) => {
                    tracing::info!(event, sockets, refused, "done for the Admin UI");
                    json!({ "ok": true, "sockets": sockets, "refused": refused })
                }
                Err(Rejection { code, message }) => {
                    tracing::warn!(event, %message, "not done for the Admin UI");
                    json!({ "ok": false, "error": { "code": code.word(), "message": message } })
                }
            };
            if let Some(answer) = answer {
                let _ = answer.give(&told);
            } else if let (Err(rejection), true) = (done, self.tells) {
                // The page waits for no answer; its list of events is where a person finds one.
                let name = self.aliases.of(admin.ns(), admin.id.as_str());
                let arguments = json!(["refused", { "action": event, "message": rejection.message }]);
                let _ =
                    admin.emit("event_sent", &(admin.ns(), name, arguments, shown::date(chrono::Utc::now())));
            }
        }
    }

    /// How many sockets did as they were told, and how many refused.
    async fn act(&self, io: &SocketIo, action: Action) -> Result<(usize, usize), Rejection> {
        let sockets = self.find(io, &action).await?;
        let outcomes: Vec<Result<(), Rejection>> = match action.deed {
            Deed::Join(job, door) => {
                each(&sockets, Wish::Subscribe { job, door, past: Past::Default }, "job:subscribe").await
            }
            Deed::Leave(job, door) => {
                each(&sockets, Wish::Unsubscribe { job, door }, "job:unsubscribe").await
            }
            Deed::Disconnect { close } => {
                disconnect(io, &sockets, close);
                sockets.iter().map(|_| Ok(())).collect()
            }
        };
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        let done = outcomes.len() - refused;
        match outcomes.into_iter().find_map(Result::err) {
            Some(rejection) if done == 0 => Err(rejection),
            _ => Ok((done, refused)),
        }
    }

    async fn find(&self, io: &SocketIo, action: &Action) -> Result<Vec<SocketRef>, Rejection> {
        let none = |message: String| Rejection::new(Code::InvalidRequest, message);
        let namespace = NAMESPACES.into_iter().find(|name| **name == action.namespace);
        let sockets = namespace.and_then(|name| io.of(name)).map(|namespace| namespace.sockets());
        let sockets =
            sockets.ok_or_else(|| none(format!("There is no namespace {:?}.", action.namespace)))?;
        let Some(which) = &action.which else { return Ok(sockets) };
        let named = sockets.iter().find(|socket| self.aliases.of(socket.ns(), socket.id.as_str()) == *which);
        if let Some(socket) = named {
            return Ok(vec![socket.clone()]);
        }
        let inside = |rooms: &[Room]| rooms.iter().any(|room| room.name() == *which);
        let rooms = rooms(&self.hub, &sockets).await;
        let found: Vec<SocketRef> = sockets
            .into_iter()
            .zip(rooms)
            .filter(|(_, rooms)| inside(rooms))
            .map(|(socket, _)| socket)
            .collect();
        match found.is_empty() {
            true => Err(none(format!("There is no socket and no room {which:?} in {}.", action.namespace))),
            false => Ok(found),
        }
    }
}

/// Has sockets do something in their turn.
async fn each(sockets: &[SocketRef], wish: Wish, event: &'static str) -> Vec<Result<(), Rejection>> {
    let mut outcomes = Vec::with_capacity(sockets.len());
    for portion in sockets.chunks(AT_ONCE) {
        let clients = portion.iter().map(|socket| socket.extensions.get::<Arc<Client>>());
        let asked: Vec<_> = clients.map(|client| ask(client, wish, event)).collect();
        outcomes.extend(join_all(asked).await);
    }
    outcomes
}

async fn ask(client: Option<Arc<Client>>, wish: Wish, event: &'static str) -> Result<(), Rejection> {
    match client {
        Some(client) => client.order(event, wish).await,
        None => Err(Rejection::new(Code::InvalidRequest, "Sockets of this namespace have no rooms.")),
    }
}

/// Sends sockets away. They hear of it, and the official client then stays away until its page connects anew.
fn disconnect(io: &SocketIo, sockets: &[SocketRef], close: bool) {
    let mut links = Vec::new();
    for socket in sockets {
        let link = socket.req_parts().extensions.get::<Arc<Link>>().cloned();
        let all: Vec<SocketRef> = match close {
            false => vec![socket.clone()],
            true => NAMESPACES.into_iter().filter_map(|name| io.of(name)?.get_socket(socket.id)).collect(),
        };
        let told = all.into_iter().all(|socket| socket.disconnect().is_ok());
        match link {
            // It is so far behind that it would not hear of it.
            Some(link) if !told => link.kill(),
            Some(link) if close => links.push(link),
            _ => {}
        }
    }
    if !links.is_empty() {
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            links.iter().for_each(|link| link.kill());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn actions_are_read_as_the_page_sends_them() {
        let read = |event, arguments: Value| Action::read(event, arguments.as_array().unwrap());
        let job = format!("automation:{ID}");
        let joined = read("join", json!(["/", job, "name"])).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(joined.deed, Deed::Join(_, Door::Automation)));
        assert_eq!((joined.namespace.as_str(), joined.which.as_deref()), ("/", Some("name")));
        let cleared =
            read("leave", json!(["/", format!("job:{ID}")])).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!((cleared.deed, cleared.which), (Deed::Leave(_, Door::Job), None)));
        let gone = read("_disconnect", json!(["/", true, ""])).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!((gone.deed, gone.which), (Deed::Disconnect { close: true }, None)));
        for (event, bad) in [
            ("join", json!([])),
            ("join", json!(["/", null])),
            ("join", json!(["/", "lobby"])),
            ("join", json!(["/", "job:7"])),
            ("leave", json!([7, job])),
            ("_disconnect", json!(["/", false, 7])),
        ] {
            assert!(read(event, bad.clone()).is_err(), "{event} {bad}");
        }
    }
}
