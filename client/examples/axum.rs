//! A web service whose requests are computed by workers: HTTP in, Giostra out.
//!
//! ```sh
//! just up                                             # a broker and three workers
//! cargo run -p giostra-client --example axum          # in another terminal
//! curl http://127.0.0.1:3000/is_prime/1000003         # true
//! curl http://127.0.0.1:3000/sleep/30                 # Ctrl-C: the request is cancelled
//! ```
//!
//! All handlers share one connection to the broker. If the browser closes its connection, axum drops
//! the handler, and with it the answer that it awaits: that cancels the request.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Parser;
use giostra_client::{CallError, Options, SharedClient, code};
use tokio::net::TcpListener;
use tokio::runtime;

/// Serves computations over HTTP.
#[derive(Parser)]
struct Args {
    /// The broker's frontend
    #[arg(long, env = "GIOSTRA_FRONTEND", default_value = "tcp://127.0.0.1:5555")]
    broker: String,
    /// The address to listen at
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Time limit of a request in seconds
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

#[derive(Clone)]
struct Service {
    client: SharedClient,
    timeout: Duration,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let client = SharedClient::connect(Options::new(args.broker).name("web"))?;
    let service = Service { client, timeout: Duration::from_secs(args.timeout) };
    let router = Router::new()
        .route("/is_prime/{n}", get(is_prime))
        .route("/div/{a}/{b}", get(div))
        .route("/sleep/{seconds}", get(sleep))
        .with_state(service);
    // The same as #[tokio::main].
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(args.listen).await?;
        println!("http://{}", listener.local_addr()?);
        axum::serve(listener, router).await?;
        Ok(())
    })
}

async fn is_prime(State(service): State<Service>, Path(n): Path<i64>) -> Result<String, Failed> {
    let is_prime: bool = service.client.compute_within("is_prime", &[n], service.timeout).await?;
    Ok(format!("{is_prime}\n"))
}

async fn div(State(service): State<Service>, Path((a, b)): Path<(f64, f64)>) -> Result<String, Failed> {
    let quotient: f64 = service.client.compute_within("div", &(a, b), service.timeout).await?;
    Ok(format!("{quotient}\n"))
}

async fn sleep(State(service): State<Service>, Path(seconds): Path<f64>) -> Result<String, Failed> {
    let slept: f64 = service.client.compute_within("sleep", &[seconds], service.timeout).await?;
    Ok(format!("{slept}\n"))
}

/// A call without a result, as an HTTP response.
struct Failed(CallError);

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            CallError::Failed(failure) => match &*failure.code {
                code::INVALID => StatusCode::BAD_REQUEST,
                code::FAILED => StatusCode::UNPROCESSABLE_ENTITY,
                code::EXPIRED => StatusCode::GATEWAY_TIMEOUT,
                code::NO_WORKER | code::NO_BROKER => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            CallError::Client(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{}\n", self.0)).into_response()
    }
}
