//! A worker that renders parts of the Mandelbrot set. Its client is
//! `client/examples/mandelbrot.rs`.
//!
//! ```sh
//! cargo run --release -p giostra-worker --example mandelbrot_worker -- --pool mandelbrot --threads 2
//! ```

use giostra_worker::{Job, Worker};
use giostra_worker_cli::args::Args;
use serde::Deserialize;
use serde_bytes::ByteBuf;

/// A part of the picture.
#[derive(Clone, Copy, Deserialize)]
struct Tile {
    /// The point of the plane at its upper left corner.
    left: f64,
    top: f64,
    /// The distance between two pixels.
    step: f64,
    /// The size in pixels.
    width: u32,
    height: u32,
    /// The number of steps after which a point that has not escaped belongs to the set.
    iterations: u32,
}

/// The most pixels of a tile. Smaller tiles can be computed side by side.
const MAX_PIXELS: u64 = 1 << 20;

/// The number of points that are computed along each side of a pixel.
const SAMPLES: u32 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::of_process();
    args.log_to_stderr()?;
    Worker::with_options(args.options()?).long_operation("render", render).run()?;
    Ok(())
}

/// Returns three bytes for each pixel, red, green and blue, row by row.
fn render(tile: Tile, job: &Job<'_>) -> Result<ByteBuf, String> {
    if u64::from(tile.width) * u64::from(tile.height) > MAX_PIXELS {
        return Err(format!("{} x {} pixels are too many; {MAX_PIXELS} are the most", tile.width, tile.height));
    }
    let mut pixels = Vec::new();
    for row in 0..tile.height {
        if job.is_cancelled() {
            break;
        }
        for column in 0..tile.width {
            pixels.extend(pixel(tile, column, row));
        }
        job.progress(u64::from(row) + 1, tile.height.into());
    }
    Ok(ByteBuf::from(pixels))
}

/// Returns the mean colour of some points within a pixel.
fn pixel(tile: Tile, column: u32, row: u32) -> [u8; 3] {
    let mut sum = [0; 3];
    for sample in 0..SAMPLES * SAMPLES {
        let within = |i: u32| (f64::from(i) + 0.5) / f64::from(SAMPLES) - 0.5;
        let x = tile.left + (f64::from(column) + within(sample % SAMPLES)) * tile.step;
        let y = tile.top - (f64::from(row) + within(sample / SAMPLES)) * tile.step;
        let colour = escape(x, y, tile.iterations).map_or([0; 3], colour);
        sum.iter_mut().zip(colour).for_each(|(sum, part)| *sum += u32::from(part));
    }
    sum.map(|part| (part / (SAMPLES * SAMPLES)) as u8)
}

/// Returns the number of steps of z -> z^2 + c after which the point has escaped, made continuous:
/// the normalised iteration count of Linas Vepstas.
fn escape(cx: f64, cy: f64, iterations: u32) -> Option<f64> {
    let (mut x, mut y) = (0.0_f64, 0.0_f64);
    for step in 0..iterations {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > 256.0 {
            let beyond = ((xx + yy).ln() / 2.0 / 2.0_f64.ln()).log2();
            return Some(f64::from(step) + 1.0 - beyond);
        }
        (x, y) = (xx - yy + cx, 2.0 * x * y + cy);
    }
    None
}

/// Returns a colour from dark blue over white to orange and back, repeatedly.
fn colour(escape: f64) -> [u8; 3] {
    const STOPS: [[f64; 3]; 5] =
        [[0.0, 7.0, 100.0], [32.0, 107.0, 203.0], [237.0, 255.0, 255.0], [255.0, 170.0, 0.0], [0.0, 2.0, 0.0]];
    let place = (escape.max(0.0) / 64.0).fract() * STOPS.len() as f64;
    let (stop, part) = (place as usize % STOPS.len(), place.fract());
    let next = STOPS[(stop + 1) % STOPS.len()];
    [0, 1, 2].map(|i| (STOPS[stop][i] + part * (next[i] - STOPS[stop][i])) as u8)
}
