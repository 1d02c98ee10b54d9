//! Reads JSON that came from a stranger: each value with its place, so that a refusal can name it.

use std::{fmt, ops::RangeInclusive};

use serde_json::Value;

use super::LabelError;

/// A value and where it stands.
#[derive(Clone)]
pub struct Node<'a> {
    pub value: &'a Value,
    pub place: String,
}

impl<'a> Node<'a> {
    pub fn root(value: &'a Value) -> Node<'a> {
        Node { value, place: String::new() }
    }

    /// `place problem`
    pub fn wrong(&self, problem: impl fmt::Display) -> LabelError {
        let place = if self.place.is_empty() { "the template".to_owned() } else { self.place.clone() };
        LabelError::Place { place, problem: problem.to_string() }
    }

    /// A member that is there and not null.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let dot = if self.place.is_empty() { "" } else { "." };
        Some(Node { value, place: format!("{}{dot}{key}", self.place) })
    }

    /// The first of several spellings of one member.
    pub fn first(&self, keys: &[&str]) -> Option<Node<'a>> {
        keys.iter().find_map(|key| self.get(key))
    }

    /// The same, of several places.
    pub fn first_of(places: &[&Node<'a>], keys: &[&str]) -> Option<Node<'a>> {
        places.iter().find_map(|place| place.first(keys))
    }

    pub fn need(&self, key: &str) -> Result<Node<'a>, LabelError> {
        self.get(key).ok_or_else(|| {
            let dot = if self.place.is_empty() { "" } else { "." };
            LabelError::Place { place: format!("{}{dot}{key}", self.place), problem: "is missing".into() }
        })
    }

    pub fn object(self) -> Result<Node<'a>, LabelError> {
        if self.value.is_object() { Ok(self) } else { Err(self.wrong("must be an object")) }
    }

    /// A list of no more than `most` entries.
    pub fn list(&self, most: usize) -> Result<Vec<Node<'a>>, LabelError> {
        let list = self.value.as_array().ok_or_else(|| self.wrong("must be a list"))?;
        if list.len() > most {
            return Err(self.wrong(format!("has {} entries; {most} are allowed", list.len())));
        }
        let node = |(at, value)| Node { value, place: format!("{}[{at}]", self.place) };
        Ok(list.iter().enumerate().map(node).collect())
    }

    /// A number, which may be written as text.
    pub fn number(&self, range: RangeInclusive<f32>) -> Result<f32, LabelError> {
        let read = match self.value {
            Value::String(text) => text.trim().parse::<f64>().ok(),
            other => other.as_f64(),
        };
        let number = read.map(|number| number as f32).filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            self.wrong(format!("must be a number from {from} to {to}, not {}", shown(self.value)))
        })
    }

    pub fn whole(&self, range: RangeInclusive<u32>) -> Result<u32, LabelError> {
        let number = self.number(*range.start() as f32..=*range.end() as f32)?;
        if number.fract() == 0.0 { Ok(number as u32) } else { Err(self.wrong("must be a whole number")) }
    }

    /// A text of no more than `most` characters; a number counts as one.
    pub fn text(&self, most: usize) -> Result<String, LabelError> {
        let text = match self.value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(self.wrong("must be a text")),
        };
        if text.contains('\0') {
            return Err(self.wrong("must not hold the character zero"));
        }
        match text.chars().count() {
            count if count > most => Err(self.wrong(format!("has {count} characters; {most} are allowed"))),
            _ => Ok(text),
        }
    }

    pub fn flag(&self) -> Result<bool, LabelError> {
        match self.value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            _ => Err(self.wrong("must be true or false")),
        }
    }

    /// One word of a table, in any case.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, LabelError> {
        let text = self.text(64)?;
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format!("must be one of {}, not {}", known.join(", "), shown(self.value)))
        })
    }
}

/// A value as a refusal quotes it.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
