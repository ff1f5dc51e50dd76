//! Builds libzmq 4.3.5 from the source that `zeromq-src` ships, with the libsodium that
//! `libsodium-sys-stable` has built (Cargo hands over where it is: <https://doc.rust-lang.org/cargo/reference/build-scripts.html#the-links-manifest-key>),
//! and on Linux with mailboxes and a poller of our own in the place of libzmq's.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// What libzmq's own build finds on every Linux of today, and `zeromq-src` does not look for.
/// Without the first, threads wake each other through a pair of sockets, which costs several times
/// as much; without the last four, keepalive options do nothing. Those that end in `CLOEXEC` keep
/// descriptors from the programs that a worker runs.
const LINUX: [&str; 10] = [
    "ZMQ_HAVE_EVENTFD",
    "ZMQ_HAVE_EVENTFD_CLOEXEC",
    "ZMQ_HAVE_SOCK_CLOEXEC",
    "HAVE_ACCEPT4",
    "ZMQ_HAVE_O_CLOEXEC",
    "ZMQ_IOTHREAD_POLLER_USE_EPOLL_CLOEXEC",
    "ZMQ_HAVE_SO_KEEPALIVE",
    "ZMQ_HAVE_TCP_KEEPCNT",
    "ZMQ_HAVE_TCP_KEEPIDLE",
    "ZMQ_HAVE_TCP_KEEPINTVL",
];

/// What `zeromq-src` defines on Linux. The poller has to be compiled with the same: these decide the
/// layout of libzmq's classes.
const ZEROMQ_SRC: [&str; 12] = [
    "ZMQ_BUILD_DRAFT_API",
    "ZMQ_USE_CV_IMPL_STL11",
    "ZMQ_STATIC",
    "ZMQ_USE_BUILTIN_SHA1",
    "ZMQ_HAVE_WS",
    "ZMQ_USE_LIBSODIUM",
    "ZMQ_HAVE_CURVE",
    "ZMQ_HAVE_LINUX",
    "ZMQ_POLL_BASED_ON_POLL",
    "ZMQ_HAVE_IPC",
    "HAVE_STRNLEN",
    "ZMQ_HAVE_UIO",
];

/// The headers that take the place of libzmq's.
const OURS: [&str; 2] = ["mailbox.hpp", "poller.hpp"];

/// The standard library's headers that most of libzmq's files include. Parsing them is a third of the
/// time that its compilation takes, so they are compiled once, before the files. A compiler that
/// can't use the result reads the header itself.
const HEADERS: &str = "common.hpp";

fn main() {
    // For the build script of giostra-transport, which refuses crates.io's zmq-sys.
    println!("cargo:giostra=1");
    for file in ["build.rs", HEADERS].iter().chain(&OURS).chain(&["mailbox.cpp", "poller.cpp"]) {
        println!("cargo:rerun-if-changed={file}");
    }
    let [lib, include] = ["DEP_SODIUM_LIB", "DEP_SODIUM_INCLUDE"]
        .map(|name| env::var(name).unwrap_or_else(|_| panic!("libsodium-sys-stable did not set {name}")));
    let on_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    let mut flags = env::var("CXXFLAGS").unwrap_or_default();
    // libzmq's assertions name their files, and this folder is called after a hash of the build.
    let map = format!("-ffile-prefix-map={}=zmq-sys", out("").display());
    if cc::Build::new().cpp(true).is_flag_supported(&map).unwrap_or(false) {
        flags += &format!(" {map}");
    }
    flags += &precompile_headers();
    if on_linux {
        LINUX.iter().for_each(|name| flags += &format!(" -D{name}=1"));
        for header in OURS {
            fs::copy(header, out(header)).expect("Cargo has made its folder");
            flags += &format!(" -include {}", out(header).display());
        }
    }
    // libzmq's own warnings are for its authors: `-w` last in the flags wins over what zeromq-src asks
    // for. Sound in a build script: no other thread has been started.
    unsafe { env::set_var("CXXFLAGS", format!("{flags} -w")) };
    zeromq_src::Build::new()
        .with_libsodium(Some(zeromq_src::LibLocation::new(lib, &include)))
        .enable_draft(true)
        .build();
    if on_linux {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++11").files(["mailbox.cpp", "poller.cpp"]);
        ZEROMQ_SRC.iter().for_each(|name| _ = build.define(name, "1"));
        for folder in [out("source/src"), out("source/include"), out(""), include.into()] {
            build.include(folder);
        }
        build.compile("zmq-ours");
    }
}

fn out(path: &str) -> PathBuf {
    Path::new(&env::var_os("OUT_DIR").expect("set by Cargo")).join(path)
}

/// Compiles [`HEADERS`] with the flags of libzmq's own files, and returns the flag by which those
/// include it. Only GCC looks for a compiled header beside the one that it is to include.
fn precompile_headers() -> String {
    let compiler = cc::Build::new().cpp(true).std("c++11").get_compiler();
    let header = out(HEADERS);
    fs::copy(HEADERS, &header).expect("Cargo has made its folder");
    if !compiler.is_like_gnu() || header.to_string_lossy().contains(char::is_whitespace) {
        return String::new();
    }
    let mut command = compiler.to_command();
    command.args(["-w", "-x", "c++-header"]).arg(&header).arg("-o").arg(header.with_extension("hpp.gch"));
    match command.status() {
        Ok(status) if status.success() => format!(" -include {}", header.display()),
        _ => String::new(),
    }
}
