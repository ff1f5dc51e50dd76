//! Any program as a worker (`giostra-worker --exec`): what programs do that do not behave, and that
//! nothing is left of them.

mod bench;
mod cost;
mod ending;
mod lines;
mod process;
mod unable;
