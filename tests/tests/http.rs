//! HTTP that means no good, or knows no better: the broker says no, keeps its memory, and goes on.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Process, Setup, System};
use nix::sys::signal::Signal;

/// As many connections as the broker serves at a time.
const PLACES: usize = 64;

/// How many of them may be open pages.
const PAGES: usize = 48;

/// How long the broker lets headers take.
const HEADERS: Duration = Duration::from_secs(10);

/// How long anything may take that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much larger the broker may have become: what its allocator keeps.
const MARGIN: u64 = 32 << 20;

#[test]
fn only_requests_that_name_this_host_are_served() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let port = system.http().rsplit(':').next().context("a port")?.to_string();
    let asked = |headers: &str| ask(&system, &format!("GET /healthz HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"));
    for ours in ["127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1:80", "localhost:1"] {
        assert_eq!(status(&asked(&format!("Host: {ours}\r\n"))?), 200, "{ours}");
    }
    for other in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1.evil", "evil.example:80"] {
        assert_eq!(status(&asked(&format!("Host: {other}\r\n"))?), 403, "{other}");
    }
    for none in ["", "a b", "[::1", "user@", "ü"] {
        let status = status(&asked(&format!("Host: {none}\r\n"))?);
        ensure!([400, 403].contains(&status), "'{none}': {status}");
    }
    assert_eq!(status(&asked("Host: localhost\r\nHost: evil.example\r\n")?), 400);
    assert_eq!(status(&asked("Host: evil.example\r\nHost: localhost\r\n")?), 400);

    let origin = |origin: &str| format!("Host: localhost:{port}\r\nOrigin: {origin}\r\n");
    assert_eq!(status(&asked(&origin(&format!("http://localhost:{port}")))?), 200);
    for other in
        ["null", "http://evil.example", "http://localhost", &format!("http://127.0.0.1:{port}"), "", "*", "\u{fc}"]
    {
        assert_eq!(status(&asked(&origin(other))?), 403, "{other}");
    }
    // A browser says of a picture or a script whose page wants it; a link one may follow.
    let fetch = |headers: &str| asked(&format!("Host: localhost:{port}\r\n{headers}\r\n"));
    for (site, expected) in [("same-origin", 200), ("same-site", 200), ("none", 200), ("cross-site", 403)] {
        assert_eq!(status(&fetch(&format!("Sec-Fetch-Site: {site}"))?), expected, "{site}");
    }
    let followed = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: ";
    assert_eq!(status(&fetch(&format!("{followed}document"))?), 200);
    assert_eq!(status(&fetch(&format!("{followed}iframe"))?), 403);
    // Before HTTP/1.1 nobody said whom he meant; and an absolute address counts more than the header.
    assert_eq!(status(&ask(&system, "GET /healthz HTTP/1.0\r\n\r\n")?), 200);
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&ask(&system, absolute)?), 403);
    check(&mut system)
}

#[test]
fn the_page_is_read_only() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let paths = ["/", "/events", "/status.json", "/metrics", "/healthz"];
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        for path in paths {
            let asked = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
            );
            let said = ask(&system, &asked)?;
            assert_eq!(status(&said), 405, "{method} {path}: {said}");
            ensure!(!said.to_lowercase().contains("access-control-allow"), "{said}");
        }
    }
    for (path, expected) in
        [("/../etc/passwd", 404), ("/%2e%2e/etc/passwd", 404), ("//", 404), ("/status.json/", 404), ("/?q", 200)]
    {
        let said = ask(&system, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))?;
        assert_eq!(status(&said), expected, "{path}: {said}");
    }
    let head = ask(&system, "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    ensure!(status(&head) == 200 && head.ends_with("\r\n\r\n"), "{head}");
    for header in [
        "content-security-policy: default-src 'none';",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "cache-control: no-store",
        "cross-origin-resource-policy: same-origin",
    ] {
        ensure!(head.contains(header), "{header} in {head}");
    }
    check(&mut system)
}

#[test]
fn non_http_input_gets_one_line_or_no_answer() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let ok = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let cases: [(&str, Vec<u8>); 11] = [
        ("zeros", vec![0; 5000]),
        ("a zero in the path", b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a zero in a header", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_vec()),
        ("ZeroMQ's greeting", [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL"[..], &[0; 48]].concat()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("garbage behind a request", [ok.as_bytes(), b"\x01\x02\x03 garbage\r\n\r\n"].concat()),
        (
            "two lengths",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec(),
        ),
        ("a length that is none", b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_vec()),
        (
            "a chunk that is none",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        ),
        (
            "an endless chunk",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        ),
    ];
    for (name, bytes) in cases {
        let said = send(&system, &bytes)?;
        ensure!(said.is_empty() || said.starts_with("HTTP/1.1 "), "{name}: {said}");
    }
    // Requests one behind the other are answered one after the other.
    let said = ask(
        &system,
        &[&ok.repeat(50), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"].concat(),
    )?;
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 51, "{said}");
    // A body that nobody asked for does not hinder the answer, however it comes.
    let chunked = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(status(&ask(&system, chunked)?), 200);
    check(&mut system)
}

#[test]
fn endless_headers_cost_no_memory() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    check(&mut system)?;
    let before = system.broker().rss()?;
    let endless = [
        ("a line without an end", "GET /".to_string() + &"a".repeat(1 << 20)),
        ("one header", format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(1 << 20))),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: abcdefgh\r\n".repeat(80_000))),
    ];
    for round in 0..10 {
        for (name, bytes) in &endless {
            let said = send(&system, bytes.as_bytes())?;
            ensure!(said.is_empty() || [400, 414, 431].contains(&status(&said)), "{name} in round {round}: {said}");
        }
    }
    let after = system.broker().rss()?;
    ensure!(after < before + MARGIN, "{before} bytes before, {after} after");
    check(&mut system)
}

#[test]
fn a_peer_that_sends_headers_slowly_is_cut_off() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let mut slow = connect(&system)?;
    slow.set_read_timeout(Some(Duration::from_millis(500)))?;
    let began = Instant::now();
    let ended = wait_for("it is cut off", || {
        // Each time one byte more: it never is quite silent.
        if slow.write_all(b"G").is_err() {
            return Some(());
        }
        match slow.read(&mut [0; 1024]) {
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => None,
            Ok(more) if more > 0 => None,
            _ => Some(()),
        }
    });
    ended?;
    let took = began.elapsed();
    ensure!(took > HEADERS / 2 && took < HEADERS + PATIENCE, "after {took:?}");
    check(&mut system)
}

#[test]
fn silent_connections_delay_nobody() -> Result<()> {
    let mut system = Setup::workers(2).watched().start()?;
    let before = system.broker().rss()?;
    let batch = system.begin(&["random", "200000", "--json"])?;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(&system)?);
    }
    // Those that came first give way, and none is told why: they have asked for nothing.
    for stream in &mut silent[..200 - PLACES] {
        stream.set_read_timeout(Some(PATIENCE))?;
        let ended = stream.read(&mut [0; 12]);
        ensure!(matches!(ended, Ok(0)), "{ended:?}");
    }
    assert_eq!(system.get("/healthz")?, "ok\n");
    system.random(&["1000"])?;
    batch.finish()?.all_well()?;
    ensure!(system.broker().rss()? < before + MARGIN);
    drop(silent);
    check(&mut system)
}

#[test]
fn each_request_of_a_burst_beyond_the_slots_is_answered() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    // Stopped, so that all of them are there when the broker looks.
    system.broker().signal(Signal::SIGSTOP)?;
    let mut burst = Vec::new();
    for path in ["/healthz", "/", "/metrics", "/status.json", "/nowhere"].into_iter().cycle().take(2 * PLACES - 8) {
        let mut stream = connect(&system)?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
        burst.push((path, stream));
    }
    system.broker().signal(Signal::SIGCONT)?;
    for (number, (path, stream)) in burst.iter_mut().enumerate() {
        let mut said = String::new();
        stream.read_to_string(&mut said).with_context(|| format!("{path}, number {number}"))?;
        let expected = if *path == "/nowhere" { 404 } else { 200 };
        ensure!(status(&said) == expected, "{path}, number {number}: {said}");
    }
    check(&mut system)
}

#[test]
fn however_many_pages_are_open_metrics_and_health_are_served() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let open = || -> Result<(TcpStream, String)> {
        let mut stream = connect(&system)?;
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut said = [0; 12];
        stream.read_exact(&mut said)?;
        Ok((stream, String::from_utf8_lossy(&said).into()))
    };
    let mut pages = (0..PAGES).map(|_| open()).collect::<Result<Vec<_>>>()?;
    ensure!(pages.iter().all(|(_, said)| said == "HTTP/1.1 200"), "{pages:?}");
    // Some places are left, for a connection that has ended may not be known to have.
    let more = (PAGES..PLACES - 8).map(|_| open()).collect::<Result<Vec<_>>>()?;
    ensure!(more.iter().all(|(_, said)| said == "HTTP/1.1 503"), "{more:?}");
    ensure!(system.get("/metrics")?.contains("giostra_workers"));
    assert_eq!(system.get("/healthz")?, "ok\n");
    // A page that is closed leaves its place to another.
    drop(more);
    pages.truncate(PAGES - 1);
    wait_for("there is room for a page", || open().is_ok_and(|(_, said)| said == "HTTP/1.1 200").then_some(()))?;
    drop(pages);
    check(&mut system)
}

#[test]
fn idle_unfinished_and_refused_connections_leave_room_for_the_health_check() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let ask_for_health = |kind: &str| -> Result<()> {
        // More than once: one that has just been served is idle, too.
        for _ in 0..3 {
            let said = ask(&system, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            ensure!(status(&said) == 200, "{kind}: {said}");
        }
        Ok(())
    };
    let pages = (0..PAGES).map(|_| begun(&system, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", 12));
    let pages = pages.collect::<Result<Vec<_>>>()?;
    for (kind, bytes, answer) in [
        ("silent", "", 0),
        ("unfinished", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", 0),
        ("idle", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 12),
        ("without a body", "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 12),
        ("refused as pages", "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", 12),
    ] {
        let all = (0..PLACES).map(|_| begun(&system, bytes, answer)).collect::<Result<Vec<_>>>()?;
        ask_for_health(kind)?;
        drop(all);
    }
    // Those that are being answered keep their places.
    for (mut page, _) in pages {
        page.read_exact(&mut [0; 1000]).context("a page was cut off")?;
    }
    check(&mut system)
}

/// A connection on which this was sent, and the beginning of the answer.
fn begun(system: &System, bytes: &str, answer: usize) -> Result<(TcpStream, String)> {
    let mut stream = connect(system)?;
    stream.write_all(bytes.as_bytes())?;
    let mut said = vec![0; answer];
    stream.read_exact(&mut said)?;
    Ok((stream, String::from_utf8_lossy(&said).into()))
}

#[test]
fn the_event_stream_asks_proxies_not_to_buffer() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let mut stream = connect(&system)?;
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head)?.to_lowercase();
    ensure!(head.contains("\r\nx-accel-buffering: no\r\n"), "{head}");
    // What is no stream may be held back.
    ensure!(!ask(&system, "GET /status.json HTTP/1.0\r\n\r\n")?.to_lowercase().contains("x-accel"));
    drop(stream);
    check(&mut system)
}

#[test]
fn a_watcher_that_does_not_read_costs_nobody_anything() -> Result<()> {
    let mut system = Setup::workers(20).watched().start()?;
    system.random(&["20000"])?;
    let before = system.broker().rss()?;
    let mut deaf = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&system)?;
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        deaf.push(stream);
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        system.random(&["20000"])?;
        assert_eq!(system.get("/healthz")?, "ok\n");
    }
    let after = system.broker().rss()?;
    ensure!(after < before + MARGIN, "{before} bytes before, {after} after");
    // One that reads gets all as ever.
    let mut watcher = connect(&system)?;
    watcher.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut heard = Vec::new();
    let mut part = [0; 65536];
    wait_for("three snapshots come", || {
        let count = watcher.read(&mut part).expect("it is read");
        heard.extend_from_slice(&part[..count]);
        (heard.windows(6).filter(|window| window == b"data: ").count() >= 3).then_some(())
    })?;
    drop(deaf);
    check(&mut system)
}

#[test]
fn a_client_that_hangs_up_midway_leaves_nothing_behind() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let files = |system: &mut System| Ok(fs::read_dir(format!("/proc/{}/fd", system.broker().id()))?.count());
    let before: Result<usize> = files(&mut system);
    let before = before?;
    for round in 0..500 {
        let mut stream = connect(&system)?;
        let asked = [
            "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /status.json HTT",
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ];
        let _ = stream.write_all(asked[round % 3].as_bytes());
    }
    wait_for("its files are closed", || files(&mut system).is_ok_and(|files| files <= before).then_some(()))?;
    check(&mut system)
}

#[test]
fn a_port_that_is_taken_or_open_to_others_is_refused_with_a_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    for (address, reason, advice) in [
        (&*taken, format!("can't listen at {taken}"), "--http takes another address"),
        ("0.0.0.0:0", "--http 0.0.0.0:0 can be reached from other hosts".into(), "--http-public"),
        ("[::]:0", "--http [::]:0 can be reached from other hosts".into(), "--http-public"),
    ] {
        let log = folder.path().join("log").display().to_string();
        let any = "tcp://127.0.0.1:*";
        let args = ["--frontend", any, "--backend", any, "--log-dir", &log, "--http", address];
        let mut broker =
            Process::start(folder.path(), &address.replace(['[', ']', ':', '.'], "-"), "giostra-broker", &args)?;
        let code = broker.wait()?.code();
        let said = broker.stderr();
        ensure!(code == Some(1) && said.contains(&reason) && said.contains(advice), "{code:?}: {said}");
    }
    Ok(())
}

#[test]
fn an_open_page_does_not_keep_the_broker_from_ending() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut system = Setup::workers(1).watched().start()?;
        let mut watcher = connect(&system)?;
        watcher.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        watcher.read_exact(&mut [0; 100])?;
        let mut idle = connect(&system)?;
        idle.write_all(b"GET / HT")?;
        let began = Instant::now();
        system.broker().signal(signal)?;
        assert_eq!(system.broker().wait()?.code(), Some(0));
        let took = began.elapsed();
        ensure!(took < PATIENCE / 3, "{took:?}");
        let _ = watcher.read_to_end(&mut Vec::new());
    }
    Ok(())
}

fn connect(system: &System) -> Result<TcpStream> {
    let stream = TcpStream::connect(system.http())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends it, and returns all that comes until the broker hangs up.
fn ask(system: &System, request: &str) -> Result<String> {
    let mut stream = connect(system)?;
    stream.write_all(request.as_bytes())?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into())
}

/// The same for what may break the connection at any time. It says that no more comes.
fn send(system: &System, bytes: &[u8]) -> Result<String> {
    let stream = connect(system)?;
    let mut writer = stream.try_clone()?;
    let bytes = bytes.to_vec();
    let writer = thread::spawn(move || {
        let _ = writer.write_all(&bytes);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let (mut said, mut reader) = (Vec::new(), stream);
    let ended = reader.read_to_end(&mut said);
    writer.join().expect("it does not panic");
    if let Err(error) = ended {
        ensure!(![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()), "it is left hanging");
    }
    Ok(String::from_utf8_lossy(&said).into())
}

/// The first answer's.
fn status(said: &str) -> u16 {
    said.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// The broker is alive and serves whom it should.
fn check(system: &mut System) -> Result<()> {
    system.random(&["500", "--timeout", "30s"])?;
    ensure!(system.broker().is_running());
    let stderr = system.broker().stderr();
    ensure!(!stderr.contains("panicked") && !stderr.contains("Assertion"), "{stderr}");
    wait_for("it answers", || system.get("/healthz").is_ok_and(|said| said == "ok\n").then_some(()))
}
