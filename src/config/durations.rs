//! Lists of durations, each written as one alone is: `["5s", "5m"]`.

use std::time::Duration;

use humantime_serde::re::humantime::{format_duration, parse_duration};
use serde::{Deserialize, Deserializer, Serialize as _, Serializer, de::Error as _};

pub fn serialize<S: Serializer>(durations: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    let texts: Vec<String> =
        durations.iter().map(|duration| format_duration(*duration).to_string()).collect();
    texts.serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.iter().map(|text| {
        parse_duration(text)
            .map_err(|error| D::Error::custom(format!("{text:?} is no duration such as \"5m\": {error}")))
    });
    parsed.collect()
}
