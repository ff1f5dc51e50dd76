//! A line that is a JSON object, back to the text that it was made of (`docs/log.md`).

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// Returns the line that an object was made of. `None` for what the broker would not write.
///
/// A name with an underscore is not in the line, where its value stands alone.
pub(super) fn line_of(object: &[u8]) -> Option<String> {
    let Fields(mut fields) = serde_json::from_slice(object).ok()?;
    let mut take = |name: &str| {
        let at = fields.iter().position(|(key, _)| key == name)?;
        Some(fields.remove(at).1)
    };
    let (time, level) = (take("time")?, take("level")?);
    let mut line = format!("{time} {level:<5} ");
    match (take("event"), take("message")) {
        (Some(event), Some(message)) => line.extend([&event, ": ", &message]),
        (Some(word), None) | (None, Some(word)) => line.push_str(&word),
        (None, None) => return None,
    }
    for (key, value) in &fields {
        line.push(' ');
        match key.as_str() {
            key if key.contains('_') => {}
            // The line's own level has the name.
            "log-level" => line.push_str("level="),
            key => line.extend([key, "="]),
        }
        line.push_str(value);
    }
    Some(line)
}

/// The fields of an object in their order, and their values as text.
struct Fields(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of the log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some((key, value)) = map.next_entry()? {
            match value {
                Value::String(text) => fields.push((key, text)),
                Value::Number(number) => fields.push((key, number.to_string())),
                // Not the broker's.
                _ => {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    return Ok(Fields(Vec::new()));
                }
            }
        }
        Ok(Fields(fields))
    }
}
