//! Renders a part of the Mandelbrot set, a request for each tile, and writes it as a picture. The
//! workers are those of `worker/examples/mandelbrot_worker.rs`.
//!
//! ```sh
//! cargo run --release -p giostra-client --example mandelbrot -- mandelbrot.png
//! ```

use std::fs::File;
use std::io::{BufWriter, Write, stderr};
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use giostra_client::{Client, Options};
use serde::Serialize;
use serde_bytes::ByteBuf;

/// Renders the Mandelbrot set on the workers of a pool.
#[derive(Parser)]
struct Args {
    /// File of the picture, a PNG
    #[arg(default_value = "mandelbrot.png")]
    file: PathBuf,
    /// The broker's frontend
    #[arg(long, env = "GIOSTRA_FRONTEND", default_value = "tcp://127.0.0.1:5555")]
    broker: String,
    /// Pool to send requests to
    #[arg(long, default_value = "mandelbrot")]
    pool: String,
    /// Width in pixels
    #[arg(long, default_value_t = 960)]
    width: u32,
    /// Height in pixels
    #[arg(long, default_value_t = 540)]
    height: u32,
    /// Real part of the picture's centre
    #[arg(long, default_value_t = -0.743_644_786, allow_negative_numbers = true)]
    x: f64,
    /// Imaginary part of the picture's centre
    #[arg(long, default_value_t = 0.131_825_253_6, allow_negative_numbers = true)]
    y: f64,
    /// Width of the picture in the complex plane
    #[arg(long, default_value_t = 0.000_029_336)]
    span: f64,
    /// Number of steps after which a point that has not escaped belongs to the set
    #[arg(long, default_value_t = 3000)]
    iterations: u32,
}

/// The arguments of a request: a part of the picture.
#[derive(Serialize)]
struct Tile {
    left: f64,
    top: f64,
    step: f64,
    width: u32,
    height: u32,
    iterations: u32,
}

/// The side of a tile, in pixels.
const SIDE: u32 = 60;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut client = Client::connect(Options::new(&args.broker).pool(&args.pool))?;
    let corners = corners(&args);
    let tiles = corners.iter().map(|&corner| tile(&args, corner));
    let began = Instant::now();
    let mut picture = vec![0; args.width as usize * args.height as usize * 3];
    let results = client.map::<ByteBuf, _>("render", tiles).unordered();
    for (count, (index, pixels)) in results.enumerate() {
        paint(&mut picture, &args, corners[index as usize], &pixels?);
        write!(stderr(), "\r{} of {} tiles", count + 1, corners.len())?;
    }
    eprintln!(" in {:.1?}", began.elapsed());
    save(&picture, &args)
}

/// The upper left pixel of each tile.
fn corners(args: &Args) -> Vec<(u32, u32)> {
    let rows = (0..args.height).step_by(SIDE as usize);
    rows.flat_map(|y| (0..args.width).step_by(SIDE as usize).map(move |x| (x, y))).collect()
}

fn tile(args: &Args, (x, y): (u32, u32)) -> Tile {
    let step = args.span / f64::from(args.width);
    Tile {
        left: args.x + (f64::from(x) - f64::from(args.width) / 2.0) * step,
        top: args.y - (f64::from(y) - f64::from(args.height) / 2.0) * step,
        step,
        width: SIDE.min(args.width - x),
        height: SIDE.min(args.height - y),
        iterations: args.iterations,
    }
}

fn paint(picture: &mut [u8], args: &Args, (x, y): (u32, u32), pixels: &[u8]) {
    let row = SIDE.min(args.width - x) as usize * 3;
    for (i, pixels) in pixels.chunks(row).enumerate() {
        let begin = ((y as usize + i) * args.width as usize + x as usize) * 3;
        picture[begin..begin + pixels.len()].copy_from_slice(pixels);
    }
}

fn save(picture: &[u8], args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(&args.file)?), args.width, args.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(picture)?;
    println!("{}", args.file.display());
    Ok(())
}
