//! The live page, the status as JSON, and metrics, by HTTP. Nothing here changes the broker.
//!
//! All of it runs in one thread, by [axum](https://docs.rs/axum) on
//! [hyper](https://docs.rs/hyper). What it knows of the broker comes through [`snapshots`].

mod metrics;
mod origin;
pub(crate) mod page;
mod slots;
mod snapshots;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, stream};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::error::Error;
use page::Page;
use slots::{Answer, Slot, Slots};
use snapshots::{EVERY, Publisher, Snapshots};

/// The maximum number of connections. When all are taken, the one that has been idle for longest is
/// closed for the next.
const MAX_CONNECTIONS: usize = 64;

/// The maximum number of open pages among them: the others are left for metrics and health checks.
const MAX_PAGES: usize = 48;

/// How long a request's headers may take, and how long a connection may be idle between requests.
const HEADERS: Duration = Duration::from_secs(10);

/// How long a new connection waits while all others are being answered, before it is turned away.
const BUSY: Duration = Duration::from_millis(500);

/// How often it looks for a slot meanwhile.
const RETRY: Duration = Duration::from_millis(5);

/// The maximum size of a request's headers, in bytes.
const HEADER_BYTES: usize = 16 << 10;

/// How long a peer's TCP may take to acknowledge data.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

const NOT_FOUND: &str = "\
/             the live page
/events       its snapshots, as server-sent events
/status.json  one snapshot: what giostra status --json prints
/metrics      for Prometheus
/healthz      200 as long as the broker answers
";

/// The HTTP server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Http {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Takes snapshots from the server's loop.
    pub(crate) publisher: Publisher,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Listens. `hosts` are names of this host, besides its addresses and `localhost`.
    /// `peers` are the addresses of other brokers' pages.
    pub(crate) fn start(address: SocketAddr, hosts: Vec<String>, peers: &[String]) -> Result<Self, Error> {
        Self::listen(address, hosts, peers).map_err(|reason| Error::Http { address, reason })
    }

    fn listen(address: SocketAddr, hosts: Vec<String>, peers: &[String]) -> io::Result<Self> {
        let page = Page::new(peers).map_err(io::Error::other)?;
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (publisher, snapshots) = snapshots::channel()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = router(snapshots, hosts, page);
        let serve = move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, router) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("http".into()).spawn(serve)?;
        Ok(Self { address, publisher, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let slots = Slots::new(MAX_CONNECTIONS);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEADER_BYTES);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Usually for want of a descriptor: it would fail again at once.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !free_slot(&slots).await {
            turn_away(&stream);
            continue;
        }
        // A peer whose host is gone would otherwise keep its slot.
        let _ = setsockopt(&stream, TcpUserTimeout, &(UNACKNOWLEDGED.as_millis() as u32));
        let router = TowerToHyperService::new(router.clone());
        let http = http.clone();
        slots.serve(async move |slot: Slot| {
            let slot = Arc::new(slot);
            let answer = service_fn(move |request| {
                slot.begin();
                let (slot, answer) = (Arc::clone(&slot), router.call(request));
                async move { answer.await.map(|response| response.map(|body| Answer::new(body, slot))) }
            });
            let _ = http.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Makes sure that a slot is free; `false` if every connection is being answered for too long.
async fn free_slot(slots: &Slots) -> bool {
    if slots.are_full() {
        // In a burst, connections whose requests have arrived read them now: they are not idle.
        yield_now().await;
    }
    let began = Instant::now();
    while !slots.free_one() {
        if began.elapsed() > BUSY {
            return false;
        }
        sleep(RETRY).await;
    }
    true
}

fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 21\r\n\r\ntoo many connections\n",
    );
}

#[derive(Clone)]
struct Shared {
    snapshots: Snapshots,
    /// One permit for each page that may still be opened.
    pages: Arc<Semaphore>,
    /// The time of the broker's start, in seconds since 1970.
    started: f64,
}

fn router(snapshots: Snapshots, hosts: Vec<String>, page: Page) -> Router {
    let started = SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_millis() as f64 / 1e3);
    let pages = Arc::new(Semaphore::new(MAX_PAGES));
    Router::new()
        .route("/", get(async move || page.response()))
        .route("/events", get(events))
        .route("/status.json", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .fallback(async || (StatusCode::NOT_FOUND, NOT_FOUND))
        .layer(middleware::from_fn_with_state(hosts.into(), origin::guard))
        .with_state(Shared { snapshots, pages, started })
}

async fn events(State(shared): State<Shared>) -> Response {
    let Ok(permit) = Arc::clone(&shared.pages).try_acquire_owned() else {
        let why = "too many pages are open\n";
        // Closed, so that it takes no slot from health checks.
        let headers = [(header::RETRY_AFTER, "1"), (header::CONNECTION, "close")];
        return (StatusCode::SERVICE_UNAVAILABLE, headers, why).into_response();
    };
    // nginx would otherwise buffer the events and pass them on in bundles.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    (unbuffered, Sse::new(snapshots_for(shared.snapshots, permit))).into_response()
}

/// Returns the events of a page, which holds its permit as long as it reads them.
fn snapshots_for(snapshots: Snapshots, permit: OwnedSemaphorePermit) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((snapshots, ticks, None, permit), async |(snapshots, mut ticks, last, permit)| {
        ticks.tick().await;
        let next = snapshots.after(last.as_deref()).await;
        let event = match &next {
            Some(snapshot) => Event::default().data(snapshot.json()),
            None => Event::default().comment(NO_ANSWER),
        };
        Some((Ok(event), (snapshots, ticks, next, permit)))
    })
}

async fn status(State(shared): State<Shared>) -> Result<Response, NoAnswer> {
    let snapshot = shared.snapshots.get().await.ok_or(NoAnswer)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], snapshot.json().to_string()).into_response())
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, NoAnswer> {
    let snapshot = shared.snapshots.get().await.ok_or(NoAnswer)?;
    Ok(match metrics::text(&snapshot.status, shared.started) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    })
}

async fn health(State(shared): State<Shared>) -> Result<&'static str, NoAnswer> {
    shared.snapshots.get().await.map(|_| "ok\n").ok_or(NoAnswer)
}

const NO_ANSWER: &str = "the broker does not answer";

/// When the server's loop does not answer.
struct NoAnswer;

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{NO_ANSWER}\n")).into_response()
    }
}
