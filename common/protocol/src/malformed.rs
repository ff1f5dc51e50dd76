//! Why bytes are not a message, in a form that is safe for a log and a terminal.

use std::fmt::{self, Write as _};

use thiserror::Error;

use crate::escape;

/// Why frames are not a message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// When the envelope is not one of the expected messages.
    #[error("not a message of this protocol: {0}")]
    NotAMessage(DecodeError),
    /// When it is the first message of a peer that has connected to the broker's other endpoint.
    #[error("{0}")]
    WrongEndpoint(&'static str),
    /// When bytes follow the message.
    #[error("bytes follow the message")]
    Trailing,
    /// When a body refers to a missing attachment.
    #[error("attachment {index} of {count} is referred to")]
    NoSuchAttachment {
        /// The index referred to.
        index: u32,
        /// The number of attachments.
        count: usize,
    },
    /// When two bodies refer to the same attachment: a small message would become a large one for its
    /// receiver.
    #[error("attachment {index} is referred to twice")]
    SharedAttachment {
        /// The index referred to.
        index: u32,
    },
}

/// The largest number of characters of an error that are displayed.
const MAX_ERROR: usize = 200;

/// Why an envelope can't be decoded. Displays as one line of bounded length: the text may quote what
/// the peer sent, with line breaks and megabytes.
#[derive(Debug)]
pub struct DecodeError(pub(crate) rmp_serde::decode::Error);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Line<'a, 'b> {
            out: &'a mut fmt::Formatter<'b>,
            left: usize,
        }
        impl fmt::Write for Line<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for c in text.chars() {
                    self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
                    escape::write_char(self.out, c)?;
                }
                Ok(())
            }
        }
        let mut line = Line { out: f, left: MAX_ERROR };
        match (write!(line, "{}", self.0), line.left) {
            (Err(_), 0) => f.write_str(" .."),
            (written, _) => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Frames, Message};
    use crate::{Bytes, FromClient, FromWorker, Registration, VERSION};

    #[test]
    fn a_peer_at_the_wrong_endpoint_learns_which_one_it_is() {
        let hello = FromClient::<Bytes>::Hello { version: VERSION, name: "c".into() }.encode();
        let error = FromWorker::decode(&hello).unwrap_err().to_string();
        assert_eq!(error, "this is the workers' endpoint (backend); clients connect to the frontend");
        let register = FromWorker::<Bytes>::from(Registration { name: "w".into(), ..Registration::default() });
        let error = FromClient::decode(&register.encode()).unwrap_err().to_string();
        assert_eq!(error, "this is the clients' endpoint (frontend); workers connect to the backend");
    }

    #[test]
    fn an_error_is_one_short_line_whatever_the_peer_sent() {
        let error = |name: &str| {
            let envelope = rmp_serde::to_vec(name).unwrap().into();
            FromClient::decode(&Frames { envelope, attachments: vec![] }).unwrap_err().to_string()
        };
        let forged =
            error("x\n2026-01-01T00:00:00.000000Z DEBUG reply worker-1 w1 c1#1\u{1b}[2J\u{2028}\u{85}\u{202e}");
        assert!(
            forged.contains("`x\\n2026")
                && !forged.contains(|c: char| c.is_control() || "\u{2028}\u{202e}".contains(c)),
            "{forged}"
        );
        assert!(error(&"é".repeat(1 << 20)).ends_with("éé .."));
        assert!(error(&"\n".repeat(1 << 20)).len() < 10 * MAX_ERROR);
        assert!(error("Unheard").contains("unknown variant `Unheard`, expected one of"), "{}", error("Unheard"));
    }
}
