//! Bytes of the broker's memory for each pending request, by the size of its body.
//!
//! `cargo bench -p giostra-tests --bench memory [-- COUNT]`

use anyhow::Result;
use giostra_tests::performance::pending::bytes_each;

fn main() -> Result<()> {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse::<u64>().ok()).unwrap_or(500_000);
    println!("{count} requests pending, no worker; what the broker's resident memory grew by");
    for size in [8, 32, 1024] {
        let grown = bytes_each(count, size)?;
        println!("body of {size:>4} bytes: {grown:.0} bytes a request, {:.0} besides the body", grown - size as f64);
    }
    Ok(())
}
