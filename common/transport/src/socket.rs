//! libzmq's sockets with the options that Giostra rests on, and whole messages in and out of them.
//!
//! All options are set here, before bind and connect. No send and no receive blocks.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Once;
use std::time::Duration;

use giostra_protocol::Bytes;
use giostra_protocol::codec::{ATTACH_FROM, Frames};
use giostra_protocol::{Identity, MAX_BATCH, MAX_MESSAGE_BYTES};
use zmq::{Context, DONTWAIT, Error, SNDMORE, Socket, SocketType};

use crate::ffi::{self, retrying};

pub use crate::ffi::descriptor;
use crate::keys::{Credentials, KeyPair};

/// How long a closing socket goes on sending what was given to it.
pub const LINGER: Duration = Duration::from_secs(1);

/// The first and the longest pause between two attempts to connect; libzmq doubles it in between.
const RECONNECT: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(200)];

/// How long an attempt to connect may take: an unplugged host answers nothing at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time between two heartbeats of ZMTP over an idle connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// How long a peer may leave a heartbeat unanswered, or data unacknowledged by its TCP, before its
/// connection is closed. A broker may choose another time for its clients
/// ([`Entry::client_timeout`]); it watches its workers by pings of its own, far sooner.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Messages that libzmq holds for one worker, or from one peer, before it takes no more.
const HIGH_WATER_MARK: i32 = 1000;

/// Messages that libzmq holds for one client. Few, since it counts no bytes, and one message may
/// hold the replies of a whole turn: what is more waits in the broker, where its bytes are counted.
const CLIENT_HIGH_WATER_MARK: i32 = 16;

/// The most bytes that libzmq hands to TCP at once; messages beyond that it hands over by
/// themselves. By default it is 8 KiB, less than the replies of one turn of a busy broker. Each
/// connection has a buffer of this size, of which only what was used takes memory.
const OUT_BATCH: i32 = 64 << 10;

/// What CURVE adds to each frame: a command's name, a nonce, an authentication code and flags
/// (`curve_encoding_t::encode` in libzmq 4.3.5). libzmq's limit on a frame's size includes it.
const CURVE_OVERHEAD: usize = 8 + 8 + 16 + 1;

/// What became of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// When libzmq took it. That is no delivery.
    Taken,
    /// When the peer has not taken enough of the earlier ones.
    Full,
    /// When there is no such peer any more.
    Gone,
}

/// Who connects to a ROUTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// When they are clients. ZMTP's heartbeat closes connections that are dead without saying so.
    Clients,
    /// When they are workers, which the broker pings itself.
    Workers,
}

impl Peers {
    /// What ZAP calls the door through which they come.
    pub fn domain(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Workers => "workers",
        }
    }
}

/// What a ROUTER demands of whoever connects.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The ROUTER's own keys. With them peers need keys, too, and whoever answers at
    /// [`ZAP_ENDPOINT`] decides about each.
    pub keys: Option<KeyPair>,
    /// How long a peer may take to say who it is.
    pub handshake: Duration,
    /// How long a client may be silent, as [`SILENCE`] is for others.
    pub client_timeout: Duration,
    /// The largest frame, in bytes; whoever sends a larger one loses its connection.
    pub max_message: usize,
}

/// Where libzmq asks about peers' keys, [as ZAP settles](https://rfc.zeromq.org/spec/27/).
pub const ZAP_ENDPOINT: &str = "inproc://zeromq.zap.01";

/// A ROUTER that hears of a peer's leaving as `disconnected`, a message from that peer.
pub fn router(context: &Context, disconnected: &[u8], peers: Peers, entry: &Entry) -> zmq::Result<Socket> {
    draw_routing_ids();
    let mut socket = context.socket(SocketType::ROUTER)?;
    set_common(&mut socket)?;
    set_max_frame(&socket, entry.max_message, entry.keys.is_some())?;
    socket.set_handshake_ivl(millis(entry.handshake))?;
    socket.set_router_mandatory(true)?;
    ffi::set_bytes(&mut socket, zmq_sys::ZMQ_DISCONNECT_MSG, disconnected)?;
    if let Some(keys) = &entry.keys {
        socket.set_curve_server(true)?;
        socket.set_curve_secretkey(keys.secret.as_bytes())?;
        socket.set_zap_domain(peers.domain())?;
    }
    if peers == Peers::Clients {
        set_silence(&mut socket, entry.client_timeout)?;
        socket.set_sndhwm(CLIENT_HIGH_WATER_MARK)?;
    }
    Ok(socket)
}

/// Has libzmq number a ROUTER's peers from a number that nobody can guess.
///
/// It draws that with rand(3), which it does not seed: the numbers were the same in each process. A
/// peer that calls itself by the number of one to come ends the process when that one comes
/// (`zmq_assert (ok)` in `add_out_pipe`, libzmq 4.3.5).
fn draw_routing_ids() {
    static ONCE: Once = Once::new();
    let seed = RandomState::new().build_hasher().finish();
    ONCE.call_once(|| ffi::seed_rand(seed as u32));
}

/// A DEALER that says `hello` first at every connection, and hears of its breaking as `hiccup`, a
/// message from the peer. With credentials it speaks to that broker alone.
pub fn dealer(
    context: &Context,
    hello: &[u8],
    hiccup: &[u8],
    linger: Duration,
    credentials: Option<&Credentials>,
) -> zmq::Result<Socket> {
    let mut socket = context.socket(SocketType::DEALER)?;
    set_common(&mut socket)?;
    set_silence(&mut socket, SILENCE)?;
    set_max_frame(&socket, MAX_MESSAGE_BYTES, credentials.is_some())?;
    socket.set_ipv6(true)?;
    // No high-water marks: what may be under way is bounded by windows of our own. For sending that is
    // simpler. For receiving it is necessary: libzmq 4.3.5 counts a hiccup message when it is read
    // but not when it is written (`send_hiccup_msg` in pipe.cpp), so that after one the count of
    // messages in the pipe can fall below zero. It is unsigned: the pipe then counts as full for
    // ever, and nothing is received any more.
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_linger(millis(linger))?;
    socket.set_reconnect_ivl(millis(RECONNECT[0]))?;
    socket.set_reconnect_ivl_max(millis(RECONNECT[1]))?;
    socket.set_connect_timeout(millis(CONNECT_TIMEOUT))?;
    if let Some(Credentials { own, broker }) = credentials {
        socket.set_curve_serverkey(broker.as_bytes())?;
        socket.set_curve_publickey(own.public.as_bytes())?;
        socket.set_curve_secretkey(own.secret.as_bytes())?;
    }
    ffi::set_bytes(&mut socket, zmq_sys::ZMQ_HELLO_MSG, hello)?;
    ffi::set_bytes(&mut socket, zmq_sys::ZMQ_HICCUP_MSG, hiccup)?;
    Ok(socket)
}

/// Binds a socket. At the path of a Unix socket it removes whatever is there: see
/// [`Lock::of_unix_socket`](crate::lock::Lock::of_unix_socket).
pub fn bind(socket: &Socket, endpoint: &str) -> zmq::Result<()> {
    // Only where it is asked for: a socket for both would report an IPv4 address as an IPv6 one.
    socket.set_ipv6(endpoint.contains('['))?;
    socket.bind(endpoint)
}

/// The endpoint a socket is bound to, with the port that the system picked.
pub fn bound_endpoint(socket: &Socket) -> zmq::Result<String> {
    socket.get_last_endpoint()?.map_err(|_| Error::EINVAL)
}

/// The next message and who sent it, if there is one.
pub fn receive_from(socket: &Socket) -> zmq::Result<Option<(Identity, Frames)>> {
    Ok(receive_with_metadata(socket, |_, _| ())?.map(|(from, frames, ())| (from, frames)))
}

/// The same, and what `see` makes of the sender.
pub fn receive_with_metadata<T>(
    socket: &Socket,
    see: impl FnOnce(&Identity, &mut MessageMetadata) -> T,
) -> zmq::Result<Option<(Identity, Frames, T)>> {
    let mut frame = zmq::Message::new();
    if !receive_frame(socket, &mut frame, DONTWAIT)? {
        return Ok(None);
    }
    let identity = Identity(Bytes::copy_from_slice(&frame));
    let seen = see(&identity, &mut MessageMetadata(frame));
    Ok(Some((identity, receive_rest(socket)?, seen)))
}

/// Where a message came from.
pub struct MessageMetadata(zmq::Message);

impl MessageMetadata {
    /// What ZAP's handler has called the peer, if there is one.
    pub fn user(&mut self) -> Option<&str> {
        self.0.gets("User-Id")
    }

    /// The descriptor of the connection. It may be closed by now, and be something else's.
    pub fn descriptor(&mut self) -> Option<RawFd> {
        self.0.gets("__fd")?.parse().ok()
    }
}

/// The next message, if there is one.
pub fn receive(socket: &Socket) -> zmq::Result<Option<Frames>> {
    let mut envelope = zmq::Message::new();
    if !receive_frame(socket, &mut envelope, DONTWAIT)? {
        return Ok(None);
    }
    receive_attachments(socket, envelope).map(Some)
}

/// The next message's frames, whatever they are, if there is one.
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

/// Sends frames to the only peer, or to that which has asked.
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
    match retrying(|| socket.send(&*to.0, DONTWAIT | SNDMORE)) {
        Ok(()) => send(socket, envelope, attachments),
        Err(Error::EAGAIN) => Ok(Sent::Full),
        Err(Error::EHOSTUNREACH) => Ok(Sent::Gone),
        Err(error) => Err(error),
    }
}

/// Sends a message of one frame to a peer, without copying it.
pub fn send_shared_to(socket: &mut Socket, to: &Identity, envelope: &Bytes) -> zmq::Result<Sent> {
    match retrying(|| socket.send(&*to.0, DONTWAIT | SNDMORE)) {
        Ok(()) => {}
        Err(Error::EAGAIN) => return Ok(Sent::Full),
        Err(Error::EHOSTUNREACH) => return Ok(Sent::Gone),
        Err(error) => return Err(error),
    }
    ffi::send_shared(socket, envelope, DONTWAIT)?;
    Ok(Sent::Taken)
}

/// Sends a message to the only peer.
pub fn send(socket: &mut Socket, envelope: &[u8], attachments: &[Bytes]) -> zmq::Result<Sent> {
    let more = |following: usize| if following > 0 { SNDMORE } else { 0 };
    match retrying(|| socket.send(envelope, DONTWAIT | more(attachments.len()))) {
        Ok(()) => {}
        Err(Error::EAGAIN) => return Ok(Sent::Full),
        Err(Error::EHOSTUNREACH) => return Ok(Sent::Gone),
        Err(error) => return Err(error),
    }
    // A high-water mark counts messages: once the first frame was taken, so are the others.
    for (i, attachment) in attachments.iter().enumerate() {
        ffi::send_shared(socket, attachment, DONTWAIT | more(attachments.len() - i - 1))?;
    }
    Ok(Sent::Taken)
}

fn set_common(socket: &mut Socket) -> zmq::Result<()> {
    socket.set_linger(millis(LINGER))?;
    socket.set_sndhwm(HIGH_WATER_MARK)?;
    socket.set_rcvhwm(HIGH_WATER_MARK)?;
    socket.set_backlog(4096)?;
    ffi::set_bytes(socket, zmq_sys::ZMQ_OUT_BATCH_SIZE, &OUT_BATCH.to_ne_bytes())?;
    set_unacknowledged(socket, SILENCE)
}

/// Limits the bytes of a frame, encrypted or not.
fn set_max_frame(socket: &Socket, most: usize, encrypted: bool) -> zmq::Result<()> {
    let overhead = if encrypted { CURVE_OVERHEAD } else { 0 };
    socket.set_maxmsgsize((most + overhead).try_into().unwrap_or(i64::MAX))
}

/// Closes the connections to peers that are silent for so long: frozen, or gone without a FIN.
fn set_silence(socket: &mut Socket, silence: Duration) -> zmq::Result<()> {
    socket.set_heartbeat_ivl(millis(HEARTBEAT_INTERVAL.min(silence / 3)))?;
    socket.set_heartbeat_timeout(millis(silence))?;
    set_unacknowledged(socket, silence)
}

/// Limits how long sent data may go unacknowledged by the other host's TCP, or wait for a peer that
/// does not read (`TCP_USER_TIMEOUT` in tcp(7)).
///
/// libzmq sends no heartbeat while a message waits in its full connection. Without this limit, only
/// TCP would notice a host that is gone, after a quarter of an hour.
fn set_unacknowledged(socket: &mut Socket, silence: Duration) -> zmq::Result<()> {
    ffi::set_bytes(socket, zmq_sys::ZMQ_TCP_MAXRT, &millis(silence).to_ne_bytes())
}

fn millis(duration: Duration) -> i32 {
    duration.as_millis().try_into().unwrap_or(i32::MAX)
}

fn receive_rest(socket: &Socket) -> zmq::Result<Frames> {
    let mut envelope = zmq::Message::new();
    receive_frame(socket, &mut envelope, 0)?;
    receive_attachments(socket, envelope)
}

/// The frames behind the envelope; libzmq delivers messages whole, so that they are there. Those
/// over the limit are let go: what refers to them is malformed.
fn receive_attachments(socket: &Socket, envelope: zmq::Message) -> zmq::Result<Frames> {
    let mut more = envelope.get_more();
    let mut attachments = Vec::new();
    while more {
        let mut frame = zmq::Message::new();
        receive_frame(socket, &mut frame, 0)?;
        more = frame.get_more();
        if attachments.len() < MAX_BATCH {
            attachments.push(taken(frame));
        }
    }
    Ok(Frames { envelope: taken(envelope), attachments })
}

/// A frame that stays here for a while. A small one is copied: it may stand in a buffer of libzmq's
/// with others, all of which would be kept as long as any of them.
fn taken(message: zmq::Message) -> Bytes {
    if message.len() < ATTACH_FROM { Bytes::copy_from_slice(&message) } else { owned(message) }
}

fn owned(message: zmq::Message) -> Bytes {
    struct Owner(zmq::Message);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(message))
}

/// Whether a frame was there.
fn receive_frame(socket: &Socket, frame: &mut zmq::Message, flags: i32) -> zmq::Result<bool> {
    match retrying(|| socket.recv(frame, flags)) {
        Ok(()) => Ok(true),
        Err(Error::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sleeps until one of `sockets` may have a message, one of `descriptors` is readable, or the
/// timeout has passed. A signal may end the sleep early.
///
/// It makes about half as many system calls as libzmq's own poll, which polls without a timeout
/// first and queries each socket again afterwards. Here each socket is queried once, before the
/// poll: a send may have consumed the notice of a message, after which the socket's descriptor does
/// not become readable for it.
pub fn sleep(sockets: &[&Socket], descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> zmq::Result<()> {
    let mut all = descriptors.to_vec();
    for socket in sockets {
        if retrying(|| socket.get_events())?.contains(zmq::POLLIN) {
            return Ok(());
        }
        all.push(descriptor(socket)?);
    }
    ffi::poll_readable(&all, timeout)
}

/// Sleeps until one of the items is ready or the timeout has passed. `None` sleeps without a limit.
/// A signal ends the sleep early.
pub fn poll(items: &mut [zmq::PollItem<'_>], timeout: Option<Duration>) -> zmq::Result<()> {
    // Rounded up: a sleep that ends before the time would be followed by useless short ones.
    let timeout = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i64::MAX));
    match zmq::poll(items, timeout) {
        Ok(_) | Err(Error::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry {
        keys: None,
        handshake: Duration::from_secs(30),
        client_timeout: SILENCE,
        max_message: MAX_MESSAGE_BYTES,
    };

    #[test]
    fn libzmq_is_the_one_with_curve_and_draft_options() {
        assert_eq!(zmq::version(), (4, 3, 5));
        assert_eq!((zmq::has("curve"), zmq::has("draft")), (Some(true), Some(true)));
    }

    fn await_message<T>(mut receive: impl FnMut() -> zmq::Result<Option<T>>) -> T {
        let began = std::time::Instant::now();
        loop {
            if let Some(message) = receive().unwrap() {
                return message;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "no message came");
            std::thread::yield_now();
        }
    }

    #[test]
    fn hello_comes_first_attachments_arrive_and_a_closed_peer_is_heard_of() {
        let context = Context::new();
        let mut router = router(&context, b"gone", Peers::Clients, &ENTRY).unwrap();
        bind(&router, "tcp://127.0.0.1:*").unwrap();
        let mut dealer = dealer(&context, b"hello", b"hiccup", LINGER, None).unwrap();
        dealer.connect(&bound_endpoint(&router).unwrap()).unwrap();
        let large = Bytes::from(vec![7; 1 << 20]);
        assert_eq!(send(&mut dealer, b"x", &[large.clone(), Bytes::new()]).unwrap(), Sent::Taken);

        let (peer, hello) = await_message(|| receive_from(&router));
        assert_eq!(&hello.envelope[..], b"hello");
        let (_, message) = await_message(|| receive_from(&router));
        assert_eq!((&message.envelope[..], &message.attachments[..]), (&b"x"[..], &[large, Bytes::new()][..]));

        assert_eq!(send_to(&mut router, &peer, b"back", &[]).unwrap(), Sent::Taken);
        assert_eq!(&await_message(|| receive(&dealer)).envelope[..], b"back");

        drop(dealer);
        let (left, notice) = await_message(|| receive_from(&router));
        assert_eq!((left, &notice.envelope[..]), (peer.clone(), &b"gone"[..]));
        // libzmq lets go of a peer when all that came from it has been read.
        await_message(|| {
            receive_from(&router)?;
            Ok((send_to(&mut router, &peer, b"?", &[])? == Sent::Gone).then_some(()))
        });
    }

    #[test]
    fn a_dealer_goes_on_receiving_after_its_connection_broke_however_much_there_is() {
        let context = Context::new();
        let first = router(&context, b"gone", Peers::Workers, &ENTRY).unwrap();
        bind(&first, "tcp://127.0.0.1:*").unwrap();
        let endpoint = bound_endpoint(&first).unwrap();
        let dealer = dealer(&context, b"hello", b"hiccup", LINGER, None).unwrap();
        dealer.connect(&endpoint).unwrap();
        await_message(|| receive_from(&first));
        first.set_linger(0).unwrap();
        drop(first);
        assert_eq!(&await_message(|| receive(&dealer)).envelope[..], b"hiccup");

        let mut second = router(&context, b"gone", Peers::Workers, &ENTRY).unwrap();
        // The first one is closed by another thread.
        await_message(|| Ok(bind(&second, &endpoint).ok()));
        let (peer, _) = await_message(|| receive_from(&second));
        // Each is read before the next is written, past the high-water mark and its half.
        for _ in 0..3 * HIGH_WATER_MARK {
            assert_eq!(send_to(&mut second, &peer, b"x", &[]).unwrap(), Sent::Taken);
            assert_eq!(&await_message(|| receive(&dealer)).envelope[..], b"x");
        }
    }
}
