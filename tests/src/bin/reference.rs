//! What Giostra is measured against: libzmq's own `zmq_proxy` between a ROUTER and a DEALER, with echo workers.
//!
//! `reference proxy FRONTEND BACKEND`, `reference echo BACKEND`, `reference client FRONTEND COUNT WINDOW`: the client sends
//! bodies of the size that `giostra random` sends, one message a request, with at most WINDOW unanswered, and prints the
//! requests a second. It keeps no books at all: no in-flight table, no check of the results, no log.

use std::time::Instant;

use anyhow::{Result, bail};
use giostra_common::compute::{Call, Value};
use zmq::{Context, DONTWAIT, SocketType};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["proxy", frontend, backend] => proxy(frontend, backend),
        ["echo", backend] => echo(backend),
        ["client", frontend, count, window] => client(frontend, count.parse()?, window.parse()?),
        _ => bail!("proxy FRONTEND BACKEND | echo BACKEND | client FRONTEND COUNT WINDOW"),
    }
}

fn proxy(frontend: &str, backend: &str) -> Result<()> {
    let context = Context::new();
    let clients = context.socket(SocketType::ROUTER)?;
    let workers = context.socket(SocketType::DEALER)?;
    for socket in [&clients, &workers] {
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
    }
    clients.bind(frontend)?;
    workers.bind(backend)?;
    eprintln!(
        "listening {} {}",
        clients.get_last_endpoint()?.unwrap_or_default(),
        workers.get_last_endpoint()?.unwrap_or_default()
    );
    zmq::proxy(&clients, &workers)?;
    Ok(())
}

/// A worker that returns what it gets, frame by frame.
fn echo(backend: &str) -> Result<()> {
    let context = Context::new();
    let socket = context.socket(SocketType::DEALER)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.connect(backend)?;
    eprintln!("ready");
    let mut frame = zmq::Message::new();
    loop {
        socket.recv(&mut frame, 0)?;
        let more = if frame.get_more() { zmq::SNDMORE } else { 0 };
        socket.send(std::mem::replace(&mut frame, zmq::Message::new()), more)?;
    }
}

fn client(frontend: &str, count: u64, window: u64) -> Result<()> {
    let context = Context::new();
    let socket = context.socket(SocketType::DEALER)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.connect(frontend)?;
    let body = Call { operation: "add".into(), arguments: vec![Value::Int(25), Value::Int(50)] }.to_body();
    let mut frame = zmq::Message::new();
    // The connection and all workers are warm before the clock starts.
    for _ in 0..100 {
        socket.send(&*body, 0)?;
    }
    for _ in 0..100 {
        socket.recv(&mut frame, 0)?;
    }
    let began = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        while sent < count && sent - answered < window {
            socket.send(&*body, 0)?;
            sent += 1;
        }
        socket.recv(&mut frame, 0)?;
        answered += 1;
        while answered < sent && socket.recv(&mut frame, DONTWAIT).is_ok() {
            answered += 1;
        }
    }
    println!("{}", count as f64 / began.elapsed().as_secs_f64());
    Ok(())
}
