//! How what a Socket.IO client may say ([`Ask`]) is read from the arguments of an event.
//!
//! Every refusal is `{ok: false, error: {code, message}}`, with the codes of the REST API; who asked for no
//! acknowledgement gets it as a `system:notification`.

use std::{convert::Infallible, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;
use socketioxide::{
    SendError,
    adapter::LocalAdapter,
    extract::AckSender,
    handler::{FromMessageParts, Value as Packet},
    socket::Socket,
};

use crate::{
    event::Ask,
    job::{Code, JobId, Order, Rejection},
    realtime::hub::{Door, Past},
};

/// Arguments that are looked at; what comes behind them is read and dropped.
const MAX_ARGUMENTS: usize = 4;

/// All arguments of an event, however many the client sent.
#[derive(Debug)]
pub struct Arguments(pub Vec<Value>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Arguments;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("the arguments of an event")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Arguments, A::Error> {
                let mut arguments = Vec::new();
                while arguments.len() < MAX_ARGUMENTS {
                    match seq.next_element()? {
                        Some(argument) => arguments.push(argument),
                        None => return Ok(Arguments(arguments)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Arguments(arguments))
            }
        }
        // A tuple of any length: the parser hands all arguments to tuples only.
        deserializer.deserialize_tuple(MAX_ARGUMENTS, Each)
    }
}

/// The acknowledgement that a client waits for.
pub struct Answer {
    socket: Arc<Socket>,
    id: i64,
}

impl Answer {
    /// Gives the answer.
    pub fn give(&self, answer: &Value) -> Result<(), SendError> {
        // The library's sender is good for one attempt; a full buffer takes more.
        let Ok(sender) = AckSender::from_message_parts(
            &self.socket,
            &mut Packet::Str(Default::default(), None),
            &Some(self.id),
        );
        sender.send(answer)
    }
}

/// The acknowledgement if the client asked for one.
pub struct Asked(pub Option<Answer>);

impl FromMessageParts<LocalAdapter> for Asked {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket>,
        _: &mut Packet,
        ack_id: &Option<i64>,
    ) -> Result<Self, Infallible> {
        Ok(Asked(ack_id.map(|id| Answer { socket: socket.clone(), id })))
    }
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Subscribe {
        job: JobId,
        door: Door,
        past: Past,
    },
    Unsubscribe {
        job: JobId,
        door: Door,
    },
    /// A job is to be acted upon.
    Order {
        job: JobId,
        order: Order,
    },
    /// A `pong`.
    Ping,
}

impl Wish {
    /// Reads what came with something that may be asked for.
    pub fn read(ask: Ask, arguments: &[Value]) -> Result<Wish, Rejection> {
        let event = ask.name();
        let order = |order| Ok(Wish::Order { job: job_id(event, arguments)?, order });
        match ask {
            Ask::Subscribe => subscription(event, Door::Job, arguments),
            Ask::SubscribeAutomation => subscription(event, Door::Automation, arguments),
            Ask::Unsubscribe => Ok(Wish::Unsubscribe { job: job_id(event, arguments)?, door: Door::Job }),
            Ask::UnsubscribeAutomation => {
                Ok(Wish::Unsubscribe { job: job_id(event, arguments)?, door: Door::Automation })
            }
            Ask::Cancel => order(Order::Cancel),
            Ask::Pause => order(Order::Pause),
            Ask::Resume => order(Order::Resume),
            Ask::Retry => order(Order::Retry),
            Ask::Ping => Ok(Wish::Ping),
        }
    }
}

/// A job id, and perhaps `{after: seq}`.
fn subscription(event: &str, door: Door, arguments: &[Value]) -> Result<Wish, Rejection> {
    let job = job_id(event, arguments)?;
    let past = match arguments.get(1).and_then(|options| options.get("after")) {
        None => Past::Default,
        Some(after) => match after.as_i64().and_then(|seq| i32::try_from(seq).ok()).filter(|seq| *seq >= 0) {
            Some(seq) => Past::After(seq),
            None => {
                let message = format!("{event}'s option `after` is a seq: a whole number from 0.");
                return Err(Rejection::new(Code::InvalidRequest, message));
            }
        },
    };
    Ok(Wish::Subscribe { job, door, past })
}

fn job_id(event: &str, arguments: &[Value]) -> Result<JobId, Rejection> {
    match arguments.first() {
        Some(Value::String(id)) => id.parse(),
        other => {
            let what = other.map_or("nothing", kind_of);
            let message = format!("{event} takes a job id as its first argument, a string; it got {what}.");
            Err(Rejection::new(Code::MalformedId, message))
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn read(arguments: Value) -> Result<Wish, Code> {
        let Value::Array(arguments) = arguments else { panic!("arguments are an array") };
        Wish::read(Ask::Subscribe, &arguments).map_err(|rejection| rejection.code)
    }

    #[test]
    fn a_subscription_is_a_job_id_and_perhaps_a_seq() {
        let job = ID.parse().unwrap();
        assert_eq!(read(json!([ID])), Ok(Wish::Subscribe { job, door: Door::Job, past: Past::Default }));
        assert_eq!(
            read(json!([ID, {"after": 7}])),
            Ok(Wish::Subscribe { job, door: Door::Job, past: Past::After(7) })
        );
        assert_eq!(
            read(json!([ID, null])),
            Ok(Wish::Subscribe { job, door: Door::Job, past: Past::Default })
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            json!([]),
            json!([5]),
            json!([null]),
            json!([{"id": ID}]),
            json!(["x"]),
            json!([format!("{ID}0")]),
        ] {
            assert_eq!(read(bad.clone()), Err(Code::MalformedId), "{bad}");
        }
        for after in [json!(-1), json!("5"), json!(1.5), json!(4_000_000_000_u64)] {
            assert_eq!(read(json!([ID, {"after": after}])), Err(Code::InvalidRequest));
        }
    }
}
