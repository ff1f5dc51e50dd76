//! This machine: versions, the limit of open files, the clock.

use giostra_protocol::VERSION;
use giostra_transport::{descriptors, time};
use nix::sys::resource::{Resource, getrlimit};

use super::Finding;
use crate::written::grouped;

/// The usual limit of a shell: enough for some hundred connections.
const FEW_FILES: u64 = 1024;

/// Looks at the versions of this program, of the protocol and of libzmq.
pub fn versions() -> Finding {
    let (major, minor, patch) = zmq::version();
    let program = format!("giostra {}, protocol {VERSION}, libzmq {major}.{minor}.{patch}", env!("CARGO_PKG_VERSION"));
    let has = |what| zmq::has(what).unwrap_or(false);
    match (has("curve"), has("draft")) {
        (true, true) => Finding::fine("versions", format!("{program} with keys (CURVE) and its draft options")),
        (curve, draft) => {
            let lacks = [(curve, "keys (CURVE)"), (draft, "its draft options")];
            let lacks: Vec<_> = lacks.iter().filter(|(has, _)| !has).map(|(_, what)| *what).collect();
            let text = format!("{program} without {}", lacks.join(" and "));
            Finding::failure("versions", text, "build it with the zmq-sys of Giostra's repository")
        }
    }
}

/// Looks at the limit of open files.
pub fn files() -> Finding {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    let text = match (soft, hard) {
        (soft, hard) if soft == hard => format!("{} may be open at a time", grouped(soft)),
        (soft, hard) => format!("{} may be open at a time, {} if asked for (ulimit -n)", grouped(soft), grouped(hard)),
    };
    match descriptors::check_connection() {
        Err(error) => Finding::failure("files", format!("{text}: {error}"), ""),
        Ok(()) if soft < FEW_FILES => {
            Finding::warning("files", text, "a broker needs one for each connection: raise it where one is started")
        }
        Ok(()) => Finding::fine("files", text),
    }
}

/// Looks at the clock. Nothing depends on it but the times in logs.
pub fn clock() -> Finding {
    match time::clock_is_synchronised() {
        Some(true) => Finding::fine("clock", "synchronised"),
        Some(false) => Finding::warning(
            "clock",
            "the system says that no time server keeps it right",
            "deadlines don't depend on it, but logs of several hosts can't be compared by their times",
        ),
        None => Finding::fine("clock", "the system does not say whether it is synchronised"),
    }
}
