//! Whole messages in and out of sockets, without blocking.

use std::os::fd::RawFd;

use giostra_protocol::codec::{ATTACH_FROM, Frames};
use giostra_protocol::{Bytes, Identity, MAX_BATCH};
use zmq::{DONTWAIT, Error, SNDMORE, Socket};

use crate::ffi::{self, retrying};

/// The result of sending a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// When libzmq accepted the message. It may still be lost.
    Taken,
    /// When too many earlier messages to the peer are still queued.
    Full,
    /// When the peer is no longer connected.
    Gone,
}

/// Receives the next message and its sender, if there is one.
pub fn receive_from(socket: &Socket) -> zmq::Result<Option<(Identity, Frames)>> {
    Ok(receive_with_metadata(socket, |_, _| ())?.map(|(from, frames, ())| (from, frames)))
}

/// Receives the next message and its sender, if there is one, and applies `inspect` to the message's
/// metadata.
pub fn receive_with_metadata<T>(
    socket: &Socket,
    inspect: impl FnOnce(&Identity, &mut MessageMetadata) -> T,
) -> zmq::Result<Option<(Identity, Frames, T)>> {
    let mut frame = zmq::Message::new();
    if !receive_frame(socket, &mut frame, DONTWAIT)? {
        return Ok(None);
    }
    let identity = Identity(Bytes::copy_from_slice(&frame));
    let inspected = inspect(&identity, &mut MessageMetadata(frame));
    Ok(Some((identity, receive_rest(socket)?, inspected)))
}

/// What libzmq knows of a message's origin.
pub struct MessageMetadata(zmq::Message);

impl MessageMetadata {
    /// Returns the user id that the ZAP handler gave the peer, if there is one.
    pub fn user(&mut self) -> Option<&str> {
        self.0.gets("User-Id")
    }

    /// Returns the number of the connection's descriptor, which belongs to libzmq: it may be closed
    /// already, and reused.
    pub fn descriptor(&mut self) -> Option<RawFd> {
        self.0.gets("__fd")?.parse().ok()
    }
}

/// Receives the next message, if there is one.
pub fn receive(socket: &Socket) -> zmq::Result<Option<Frames>> {
    let mut envelope = zmq::Message::new();
    if !receive_frame(socket, &mut envelope, DONTWAIT)? {
        return Ok(None);
    }
    receive_attachments(socket, envelope).map(Some)
}

/// Receives all frames of the next message, if there is one, without a limit.
pub fn receive_frames(socket: &Socket) -> zmq::Result<Option<Vec<Vec<u8>>>> {
    let mut frame = zmq::Message::new();
    if !receive_frame(socket, &mut frame, DONTWAIT)? {
        return Ok(None);
    }
    let mut frames = vec![frame.to_vec()];
    while frame.get_more() {
        receive_frame(socket, &mut frame, 0)?;
        frames.push(frame.to_vec());
    }
    Ok(Some(frames))
}

/// Sends a message of these frames, over a socket that needs no peer identity.
pub fn send_frames(socket: &Socket, frames: &[&[u8]]) -> zmq::Result<()> {
    let last = frames.len().saturating_sub(1);
    for (i, frame) in frames.iter().enumerate() {
        let more = if i < last { SNDMORE } else { 0 };
        retrying(|| socket.send(*frame, DONTWAIT | more))?;
    }
    Ok(())
}

/// Sends a message to a peer.
pub fn send_to(socket: &mut Socket, to: &Identity, envelope: &[u8], attachments: &[Bytes]) -> zmq::Result<Sent> {
    match begin(socket, &to.0, true)? {
        Sent::Taken => send(socket, envelope, attachments),
        not_sent => Ok(not_sent),
    }
}

/// Sends a message of one frame to a peer, without copying it.
pub fn send_shared_to(socket: &mut Socket, to: &Identity, envelope: &Bytes) -> zmq::Result<Sent> {
    let sent = begin(socket, &to.0, true)?;
    if sent == Sent::Taken {
        ffi::send_shared(socket, envelope, DONTWAIT)?;
    }
    Ok(sent)
}

/// Sends a message over a socket that needs no peer identity.
pub fn send(socket: &mut Socket, envelope: &[u8], attachments: &[Bytes]) -> zmq::Result<Sent> {
    let sent = begin(socket, envelope, !attachments.is_empty())?;
    if sent == Sent::Taken {
        for (i, attachment) in attachments.iter().enumerate() {
            let more = if i + 1 < attachments.len() { SNDMORE } else { 0 };
            ffi::send_shared(socket, attachment, DONTWAIT | more)?;
        }
    }
    Ok(sent)
}

/// Sends a message's first frame. If libzmq takes it, it takes the others, too: a high-water mark
/// counts messages, not frames.
fn begin(socket: &Socket, frame: &[u8], more: bool) -> zmq::Result<Sent> {
    match retrying(|| socket.send(frame, DONTWAIT | if more { SNDMORE } else { 0 })) {
        Ok(()) => Ok(Sent::Taken),
        Err(Error::EAGAIN) => Ok(Sent::Full),
        Err(Error::EHOSTUNREACH) => Ok(Sent::Gone),
        Err(error) => Err(error),
    }
}

fn receive_rest(socket: &Socket) -> zmq::Result<Frames> {
    let mut envelope = zmq::Message::new();
    receive_frame(socket, &mut envelope, 0)?;
    receive_attachments(socket, envelope)
}

/// Receives the frames behind the envelope: they are there, since libzmq delivers whole messages.
/// Frames over the limit are dropped; a body that refers to one is malformed.
fn receive_attachments(socket: &Socket, envelope: zmq::Message) -> zmq::Result<Frames> {
    let mut more = envelope.get_more();
    let mut attachments = Vec::new();
    while more {
        let mut frame = zmq::Message::new();
        receive_frame(socket, &mut frame, 0)?;
        more = frame.get_more();
        if attachments.len() < MAX_BATCH {
            attachments.push(to_bytes(frame));
        }
    }
    Ok(Frames { envelope: to_bytes(envelope), attachments })
}

/// Converts a frame to bytes that may be kept. A small one is copied: it may share a buffer of
/// libzmq's with other frames, which would live as long as any of them.
fn to_bytes(message: zmq::Message) -> Bytes {
    struct Owner(zmq::Message);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    if message.len() < ATTACH_FROM { Bytes::copy_from_slice(&message) } else { Bytes::from_owner(Owner(message)) }
}

/// Receives a frame. Returns whether there was one.
fn receive_frame(socket: &Socket, frame: &mut zmq::Message, flags: i32) -> zmq::Result<bool> {
    match retrying(|| socket.recv(frame, flags)) {
        Ok(()) => Ok(true),
        Err(Error::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}
