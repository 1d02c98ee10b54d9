//! A raw WebSocket as the sockets' contract shows it: what its clients are told, and what they may say.

use serde_json::{Map, Value, json};

use super::{of_channel, reference};

/// The raw WebSocket of a dialect, which describes it itself.
pub struct Channel {
    /// Its name in the document; operations are named by it.
    pub name: &'static str,
    /// Its path below the server's address; parameters stand in braces.
    pub address: &'static str,
    /// What it is for, and how it ends.
    pub about: &'static str,
    /// The parameters of the path, each with what it is.
    pub parameters: &'static [(&'static str, &'static str)],
    /// What clients are told without having said anything.
    pub told: Vec<Message>,
    /// What clients may say, each with what it is answered.
    pub asks: Vec<(Message, Message)>,
}

/// One message over a raw WebSocket.
pub struct Message {
    name: &'static str,
    summary: &'static str,
    content_type: &'static str,
    payload: Value,
}

impl Message {
    /// A message in JSON; `payload` is its schema.
    pub fn json(name: &'static str, summary: &'static str, payload: Value) -> Message {
        Message { name, summary, content_type: "application/json", payload }
    }

    /// A message that is its name and nothing else.
    pub fn word(name: &'static str, summary: &'static str) -> Message {
        let payload = json!({ "type": "string", "const": name });
        Message { name, summary, content_type: "text/plain", payload }
    }

    fn document(&self) -> Value {
        json!({
            "name": self.name,
            "summary": self.summary,
            "contentType": self.content_type,
            "payload": self.payload,
        })
    }
}

impl Channel {
    pub(super) fn document(&self) -> Value {
        let (asked, answers) =
            (self.asks.iter().map(|(ask, _)| ask), self.asks.iter().map(|(_, answer)| answer));
        let messages = self.told.iter().chain(asked).chain(answers);
        let messages: Map<String, Value> =
            messages.map(|message| (message.name.to_owned(), message.document())).collect();
        let parameters = self.parameters.iter();
        let parameters: Map<String, Value> =
            parameters.map(|(name, about)| ((*name).to_owned(), json!({ "description": about }))).collect();
        let mut document = json!({
            "address": self.address,
            "servers": [reference("servers", "plain")],
            "description": self.about,
            "messages": messages,
        });
        if !parameters.is_empty() {
            document["parameters"] = parameters.into();
        }
        document
    }

    /// What goes over it, each way, by name.
    pub(super) fn operations(&self) -> Vec<(String, Value)> {
        let channel = reference("channels", self.name);
        let message = |message: &Message| of_channel(self.name, message.name);
        let told: Vec<Value> = self.told.iter().map(message).collect();
        let tell = json!({ "action": "send", "channel": channel, "summary": self.about, "messages": told });
        let mut operations = vec![(format!("tell_{}", self.name), tell)];
        operations.extend(self.asks.iter().map(|(ask, answer)| {
            let hear = json!({
                "action": "receive",
                "channel": channel,
                "summary": ask.summary,
                "messages": [message(ask)],
                "reply": { "channel": channel, "messages": [message(answer)] },
            });
            (format!("hear_{}_{}", self.name, ask.name), hear)
        }));
        operations
    }
}

/// The schema of an object of which every key is always there, `null` where its own schema allows that.
pub fn whole(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}
