//! Builds libzmq 4.3.5 from the source that `zeromq-src` ships, with the libsodium that `libsodium-sys-stable` has
//! built (Cargo hands over where it is: <https://doc.rust-lang.org/cargo/reference/build-scripts.html#the-links-manifest-key>).

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let [lib, include] = ["DEP_SODIUM_LIB", "DEP_SODIUM_INCLUDE"]
        .map(|name| env::var(name).unwrap_or_else(|_| panic!("libsodium-sys-stable did not set {name}")));
    // libzmq's own warnings are for its authors: `-w` last in the flags wins over what zeromq-src asks for.
    let flags = env::var("CXXFLAGS").unwrap_or_default();
    // Sound in a build script: no other thread has been started.
    unsafe { env::set_var("CXXFLAGS", format!("{flags} -w")) };
    zeromq_src::Build::new()
        .with_libsodium(Some(zeromq_src::LibLocation::new(lib, include)))
        .enable_draft(true)
        .build();
}
