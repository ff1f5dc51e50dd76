//! libzmq's sockets with the options that Giostra relies on, and whole messages in and out of them.
//!
//! All options are set here, before bind and connect. No send and no receive blocks.

mod messages;
mod poll;
mod quiet;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Once;
use std::time::Duration;

use giostra_protocol::MAX_MESSAGE_BYTES;
use zmq::{Context, Error, Socket, SocketType};

use crate::ffi;
use crate::keys::{KeyPair, PublicKey};

pub use self::messages::*;
pub use self::poll::{Sleeper, poll, push, run_io, sleep, sleep_for_news};
pub use self::quiet::QuietSocket;
pub use crate::ffi::descriptor;

/// How long a closed socket continues to send its pending messages.
pub const LINGER: Duration = Duration::from_secs(1);

/// The first and the longest pause between two attempts to connect. libzmq doubles the pause with
/// each attempt.
const RECONNECT: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(200)];

/// How long an attempt to connect may take. A host that is down does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time between two ZMTP heartbeats over an idle connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// How long a peer may leave a heartbeat unanswered, or data unacknowledged by its TCP, before its
/// connection is closed. A broker may choose another time for its clients
/// ([`RouterOptions::client_timeout`]), and detects lost workers sooner, by its own pings.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of messages that libzmq queues for one worker, or from one peer.
const HIGH_WATER_MARK: i32 = 1000;

/// The number of messages that libzmq queues for one client. It is small because libzmq counts no
/// bytes, and one message may hold all replies of one turn of the broker's loop. Further messages
/// wait in the broker, which counts their bytes.
const CLIENT_HIGH_WATER_MARK: i32 = 16;

/// The most bytes that libzmq batches into one write; larger messages are written by themselves.
/// libzmq's default of 8 KiB is less than the replies of one turn of a busy broker. Each connection
/// has a buffer of this size, but only pages that were used take memory.
const OUT_BATCH: i32 = 64 << 10;

/// The bytes that CURVE adds to each frame: a command name, a nonce, an authentication code and
/// flags (`curve_encoding_t::encode` in libzmq 4.3.5). libzmq's limit on frame sizes includes them.
const CURVE_OVERHEAD: usize = 8 + 8 + 16 + 1;

/// The kind of peers that connect to a ROUTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// When they are clients. ZMTP's heartbeat closes their connections when their hosts are gone.
    Clients,
    /// When they are workers. The broker pings them itself.
    Workers,
}

impl Peers {
    /// Returns the ZAP domain of their ROUTER.
    pub fn domain(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Workers => "workers",
        }
    }
}

/// What a ROUTER requires of its peers.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// The ROUTER's own keys. With them, peers need keys, too, and the ZAP handler at
    /// [`ZAP_ENDPOINT`] decides about each peer.
    pub keys: Option<KeyPair>,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a client may leave heartbeats unanswered; see [`PEER_TIMEOUT`].
    pub client_timeout: Duration,
    /// The largest frame, in bytes. A larger one ends its sender's connection.
    pub max_message: usize,
}

/// The endpoint that libzmq asks about peers' keys, as [ZAP](https://rfc.zeromq.org/spec/27/)
/// specifies.
pub const ZAP_ENDPOINT: &str = "inproc://zeromq.zap.01";

/// Creates a ROUTER. When a peer's connection ends, the ROUTER receives `disconnected` as a message
/// from that peer.
pub fn router(context: &Context, disconnected: &[u8], peers: Peers, options: &RouterOptions) -> zmq::Result<Socket> {
    randomize_routing_ids();
    let mut socket = context.socket(SocketType::ROUTER)?;
    set_common(&mut socket)?;
    set_max_frame(&socket, options.max_message, options.keys.is_some())?;
    socket.set_handshake_ivl(millis(options.handshake))?;
    socket.set_router_mandatory(true)?;
    ffi::set_bytes(&mut socket, zmq_sys::ZMQ_DISCONNECT_MSG, disconnected)?;
    if let Some(keys) = &options.keys {
        socket.set_curve_server(true)?;
        socket.set_curve_secretkey(keys.secret.as_bytes())?;
        socket.set_zap_domain(peers.domain())?;
    }
    if peers == Peers::Clients {
        set_peer_timeout(&mut socket, options.client_timeout)?;
        socket.set_sndhwm(CLIENT_HIGH_WATER_MARK)?;
    }
    Ok(socket)
}

/// Makes the routing ids that libzmq gives to a ROUTER's peers unpredictable.
///
/// libzmq counts them up from a number of rand(3), which it does not seed: the ids would be the same
/// in each process. A peer that chooses the id of a later peer as its own crashes the process when
/// that peer connects (`zmq_assert (ok)` in `add_out_pipe`, libzmq 4.3.5).
fn randomize_routing_ids() {
    static ONCE: Once = Once::new();
    let seed = RandomState::new().build_hasher().finish();
    ONCE.call_once(|| ffi::seed_rand(seed as u32));
}

/// Creates a DEALER. It sends `hello` first over each connection, and receives `hiccup` as a message
/// when a connection breaks, also because the broker has answered nothing for `timeout`. With keys, its own and a broker's public one, it connects to that broker only.
pub fn dealer(
    context: &Context,
    hello: &[u8],
    hiccup: &[u8],
    linger: Duration,
    timeout: Duration,
    keys: Option<(&KeyPair, &PublicKey)>,
) -> zmq::Result<Socket> {
    let mut socket = context.socket(SocketType::DEALER)?;
    set_common(&mut socket)?;
    set_peer_timeout(&mut socket, timeout)?;
    set_max_frame(&socket, MAX_MESSAGE_BYTES, keys.is_some())?;
    socket.set_ipv6(true)?;
    // No high-water marks: windows of our own bound what is under way. For sending, this is simpler.
    // For receiving, it is necessary: libzmq 4.3.5 counts a hiccup message when it is read, but not
    // when it is written (`send_hiccup_msg` in pipe.cpp), so the number of messages in the pipe can
    // fall below zero. The number is unsigned: the pipe then counts as full for ever, and receives
    // nothing any more.
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_linger(millis(linger))?;
    socket.set_reconnect_ivl(millis(RECONNECT[0]))?;
    socket.set_reconnect_ivl_max(millis(RECONNECT[1]))?;
    socket.set_connect_timeout(millis(CONNECT_TIMEOUT))?;
    if let Some((own, broker)) = keys {
        socket.set_curve_serverkey(broker.as_bytes())?;
        socket.set_curve_publickey(own.public.as_bytes())?;
        socket.set_curve_secretkey(own.secret.as_bytes())?;
    }
    ffi::set_bytes(&mut socket, zmq_sys::ZMQ_HELLO_MSG, hello)?;
    ffi::set_bytes(&mut socket, zmq_sys::ZMQ_HICCUP_MSG, hiccup)?;
    Ok(socket)
}

/// Binds a socket. libzmq removes any file at the path of a Unix socket: take its lock first, by
/// [`Lock::of_unix_socket`](crate::lock::Lock::of_unix_socket).
pub fn bind(socket: &Socket, endpoint: &str) -> zmq::Result<()> {
    // Only for IPv6 endpoints: a dual-stack socket reports IPv4 peers with IPv6 addresses.
    socket.set_ipv6(endpoint.contains('['))?;
    socket.bind(endpoint)
}

/// Returns the endpoint that a socket is bound to, with the port that the system picked.
pub fn bound_endpoint(socket: &Socket) -> zmq::Result<String> {
    socket.get_last_endpoint()?.map_err(|_| Error::EINVAL)
}

fn set_common(socket: &mut Socket) -> zmq::Result<()> {
    socket.set_linger(millis(LINGER))?;
    socket.set_sndhwm(HIGH_WATER_MARK)?;
    socket.set_rcvhwm(HIGH_WATER_MARK)?;
    socket.set_backlog(4096)?;
    ffi::set_bytes(socket, zmq_sys::ZMQ_OUT_BATCH_SIZE, &OUT_BATCH.to_ne_bytes())?;
    set_tcp_timeout(socket, PEER_TIMEOUT)
}

/// Limits the bytes of a frame before encryption.
fn set_max_frame(socket: &Socket, max: usize, encrypted: bool) -> zmq::Result<()> {
    let overhead = if encrypted { CURVE_OVERHEAD } else { 0 };
    socket.set_maxmsgsize((max + overhead).try_into().unwrap_or(i64::MAX))
}

/// Closes connections whose peers answer nothing for `timeout`: frozen, or gone without a FIN.
fn set_peer_timeout(socket: &mut Socket, timeout: Duration) -> zmq::Result<()> {
    socket.set_heartbeat_ivl(millis(HEARTBEAT_INTERVAL.min(timeout / 3)))?;
    socket.set_heartbeat_timeout(millis(timeout))?;
    set_tcp_timeout(socket, timeout)
}

/// Limits how long sent data may stay unacknowledged by the other host, or wait for a peer that does
/// not read (`TCP_USER_TIMEOUT` in tcp(7)).
///
/// libzmq sends no heartbeat while a message waits for a full connection. Without this limit, only
/// TCP itself would notice that the host is gone, after a quarter of an hour.
fn set_tcp_timeout(socket: &mut Socket, timeout: Duration) -> zmq::Result<()> {
    ffi::set_bytes(socket, zmq_sys::ZMQ_TCP_MAXRT, &millis(timeout).to_ne_bytes())
}

fn millis(duration: Duration) -> i32 {
    duration.as_millis().try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use giostra_protocol::Bytes;

    use super::*;

    const OPTIONS: RouterOptions = RouterOptions {
        keys: None,
        handshake: Duration::from_secs(30),
        client_timeout: PEER_TIMEOUT,
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
        let mut router = router(&context, b"gone", Peers::Clients, &OPTIONS).unwrap();
        bind(&router, "tcp://127.0.0.1:*").unwrap();
        let mut dealer = dealer(&context, b"hello", b"hiccup", LINGER, PEER_TIMEOUT, None).unwrap();
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
        let first = router(&context, b"gone", Peers::Workers, &OPTIONS).unwrap();
        bind(&first, "tcp://127.0.0.1:*").unwrap();
        let endpoint = bound_endpoint(&first).unwrap();
        let dealer = dealer(&context, b"hello", b"hiccup", LINGER, PEER_TIMEOUT, None).unwrap();
        dealer.connect(&endpoint).unwrap();
        await_message(|| receive_from(&first));
        first.set_linger(0).unwrap();
        drop(first);
        assert_eq!(&await_message(|| receive(&dealer)).envelope[..], b"hiccup");

        let mut second = router(&context, b"gone", Peers::Workers, &OPTIONS).unwrap();
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
