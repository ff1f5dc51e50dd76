//! `giostra-broker`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    giostra_broker::program::main()
}
