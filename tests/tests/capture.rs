//! What a packet capture shows of a conversation: with keys no more than that there is one.
//!
//! tcpdump listens on the loopback interface at the test's own two ports; that takes root. (What a
//! relay on the way learns is in `locked/secrecy.rs`.)

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Process, Setup, System, test, trials};
use nix::sys::signal::Signal;

/// Sent in clear behind everything else: when it is in the capture, all before it is.
const END: &[u8] = b"here the capture ends";

fn main() -> ExitCode {
    trials::run(&[
        test!(without_keys_a_packet_capture_shows_operation_and_operand needs tcpdump),
        test!(with_keys_a_packet_capture_shows_neither_operation_nor_operand needs tcpdump),
    ])
}

/// Root, the program, and a kernel that lets it listen.
fn tcpdump() -> Result<()> {
    trials::root()?;
    let tried = Command::new(trials::program("tcpdump", "tcpdump")?).args(["-i", "lo", "-L"]).output()?;
    ensure!(tried.status.success(), "tcpdump: {}", String::from_utf8_lossy(&tried.stderr));
    Ok(())
}

/// What went over the wire at both access, from a worker's registration to the answer of a request.
fn captured(setup: Setup) -> Result<Vec<u8>> {
    let mut system = setup.start()?;
    let file = system.folder().join("capture.pcap");
    let mut tcpdump = listen(&system, &file)?;
    system.start_worker(1)?;
    let sent = system.run(&["send", "pow", "1234567.25", "2"])?;
    ensure!(sent.code == Some(0), "{sent:?}");
    for endpoint in [system.frontend(), system.backend()] {
        TcpStream::connect(endpoint.trim_start_matches("tcp://"))?.write_all(END)?;
    }
    let captured = wait_for("all of it is captured", || {
        let captured = fs::read(&file).ok()?;
        (count(&captured, END) >= 2).then_some(captured)
    })?;
    tcpdump.signal(Signal::SIGTERM)?;
    tcpdump.wait()?;
    ensure!(tcpdump.stderr().contains("\n0 packets dropped by kernel"), "{}", tcpdump.stderr());
    Ok(captured)
}

/// Starts the capture at the ports of this system, and waits until it has begun.
fn listen(system: &System, file: &Path) -> Result<Process> {
    let ports = [system.frontend(), system.backend()].map(|endpoint| endpoint.rsplit(':').next().unwrap_or_default());
    let filter = format!("port {} or port {}", ports[0], ports[1]);
    let program: PathBuf = trials::program("tcpdump", "tcpdump")?;
    let mut command = Command::new(program);
    // -Z: it stays root, and may write into the folder. -s, -B: room for thousands of packets, however
    // slowly they are written.
    command.args(["-i", "lo", "-n", "-s", "4096", "-B", "16384", "-U", "--immediate-mode", "-Z", "root", "-w"]);
    command.arg(file).arg(filter);
    let tcpdump = Process::spawn(system.folder(), "tcpdump", command)?;
    wait_for("tcpdump listens", || tcpdump.stderr().contains("listening on lo").then_some(()))
        .with_context(|| tcpdump.stderr())?;
    Ok(tcpdump)
}

/// Whether each of these is to be seen. The operation with the length that MessagePack writes
/// before it: three letters alone might come up by chance.
fn seen(captured: &[u8]) -> [(&'static str, bool); 7] {
    let has = |what: &[u8]| count(captured, what) > 0;
    [
        ("the message", has(b"Submit")),
        ("the dispatch", has(b"Dispatch")),
        ("the operation", has(b"\xa3pow")),
        ("the operand", has(&1_234_567.25_f64.to_be_bytes())),
        ("the result", has(&1_234_567.25_f64.powi(2).to_be_bytes())),
        ("the worker's name", has(b"worker-1")),
        ("an operation that is offered", has(b"is_prime")),
    ]
}

fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).filter(|window| *window == what).count()
}

fn without_keys_a_packet_capture_shows_operation_and_operand() -> Result<()> {
    let captured = captured(Setup::workers(0))?;
    for (what, seen) in seen(&captured) {
        ensure!(seen, "{what} is not even seen where nothing is encrypted");
    }
    Ok(())
}

fn with_keys_a_packet_capture_shows_neither_operation_nor_operand() -> Result<()> {
    let captured = captured(Setup::workers(0).secured())?;
    // The greetings are in clear: it was there, at both access.
    ensure!(count(&captured, b"CURVE\0\0\0\0\0\0\0\0") >= 4, "no greetings were captured");
    for (what, seen) in seen(&captured) {
        ensure!(!seen, "{what} can be read in the capture");
    }
    Ok(())
}
