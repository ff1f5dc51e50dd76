//! The live page, the snapshot as JSON, and metrics, by HTTP: to look at, for nothing here changes
//! the broker.
//!
//! All of it runs in one thread of its own, by [axum](https://docs.rs/axum) on [hyper](https://docs.rs/hyper). What it knows of the broker
//! comes through [`snapshots`].

mod metrics;
mod page;
mod places;
mod snapshots;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};
use futures_util::{Stream, stream};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use places::{Answer, Place, Places};
use snapshots::{EVERY, Publisher, Snapshots};

use crate::error::Error;

/// The most connections at a time. When they are there, the one that has been idle for longest
/// gives way to the next.
pub const MAX_CONNECTIONS: usize = 64;

/// How many of them may be pages that are open: the others are left for metrics and for whoever
/// asks whether the broker is well.
pub const MAX_PAGES: usize = 48;

/// How long a request's headers may take to come, and a connection may do nothing between two
/// requests.
const HEADERS: Duration = Duration::from_secs(10);

/// The most bytes of a request's headers.
const HEADER_BYTES: usize = 16 << 10;

/// How long a host may take to acknowledge what was sent to it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

const FOUND: &str = "\
/             the live page
/events       its snapshots, as server-sent events
/status.json  one snapshot: what giostra status --json prints
/metrics      for Prometheus
/healthz      200 as long as the broker answers
";

/// The HTTP server. It ends when this is dropped.
#[derive(Debug)]
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it gets its snapshots from.
    pub(crate) publisher: Publisher,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Listens. `hosts` are names of this host, besides its addresses and `localhost`.
    pub fn start(address: SocketAddr, hosts: Vec<String>) -> Result<Self, Error> {
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|reason| Error::Http { address, reason })?;
        let address = listener.local_addr()?;
        let (publisher, snapshots) = snapshots::channel()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = router(snapshots, hosts);
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
    let places = Places::new(MAX_CONNECTIONS);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEADER_BYTES);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There is no descriptor left, or the like; it would fail again at once.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !places.make_room() {
            turn_away(&stream);
            continue;
        }
        // Otherwise whose host is gone would keep its place.
        let _ = setsockopt(&stream, TcpUserTimeout, &(UNACKNOWLEDGED.as_millis() as u32));
        let router = TowerToHyperService::new(router.clone());
        let http = http.clone();
        places.seat(async move |place: Place| {
            let place = Arc::new(place);
            let answer = service_fn(move |request| {
                place.begin();
                let (place, answer) = (Arc::clone(&place), router.call(request));
                async move { answer.await.map(|response| response.map(|body| Answer::new(body, place))) }
            });
            let _ = http.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 21\r\n\r\ntoo many connections\n",
    );
}

#[derive(Clone)]
struct Shared {
    snapshots: Snapshots,
    hosts: Arc<[String]>,
    /// Places for those who read the events.
    pages: Arc<Semaphore>,
    /// When this began, in seconds since 1970.
    started: f64,
}

fn router(snapshots: Snapshots, hosts: Vec<String>) -> Router {
    let started = SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_millis() as f64 / 1e3);
    let pages = Arc::new(Semaphore::new(MAX_PAGES));
    let shared = Shared { snapshots, hosts: hosts.into(), pages, started };
    Router::new()
        .route("/", get(page::page))
        .route("/events", get(events))
        .route("/status.json", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .fallback(async || (StatusCode::NOT_FOUND, FOUND))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Serves only who means this host: not a page of somebody else's that has its own name point here
/// (DNS rebinding), nor one that asks from elsewhere.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let host = match host(&request) {
        Ok(host) => host,
        Err(()) => return (StatusCode::BAD_REQUEST, "there is no such Host\n").into_response(),
    };
    if let Some(host) = &host
        && !is_ours(host.host(), &shared.hosts)
    {
        let why = format!("'{}' is not a name of this host; --http-host adds one\n", host.host().escape_default());
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    if !is_same_origin(request.headers(), host.as_ref()) || is_of_another_site(&request) {
        return (StatusCode::FORBIDDEN, "another site's pages are not served\n").into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whom the request is meant for, if it says so.
fn host(request: &Request) -> Result<Option<Authority>, ()> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.clone()));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => Authority::try_from(host.as_bytes()).map(Some).map_err(drop),
        _ => Err(()),
    }
}

fn is_ours(host: &str, names: &[String]) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = host.strip_suffix('.').unwrap_or(host);
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

fn is_same_origin(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        // TLS may end at a proxy.
        let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        matches!((of, host), (Some(of), Some(host)) if of.eq_ignore_ascii_case(host.as_str()))
    })
}

/// Whether a browser says that another site's page asks, which sends no `MessageMetadata` with a
/// picture or a script. Whoever follows a link to the page from elsewhere is let in: he sees it
/// himself.
fn is_of_another_site(request: &Request) -> bool {
    let says = |name: &str, value: &str| request.headers().get_all(name).iter().any(|said| said == value);
    says("sec-fetch-site", "cross-site") && !(says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document"))
}

async fn events(State(shared): State<Shared>) -> Response {
    let Ok(place) = Arc::clone(&shared.pages).try_acquire_owned() else {
        let why = "too many pages are open\n";
        // What has no place among the pages is to take none from the others.
        let headers = [(header::RETRY_AFTER, "1"), (header::CONNECTION, "close")];
        return (StatusCode::SERVICE_UNAVAILABLE, headers, why).into_response();
    };
    // nginx buffers what it passes on, and so would hand the events over in bundles, unless it is told
    // not to.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    (unbuffered, Sse::new(snapshots_for(shared.snapshots, place))).into_response()
}

/// What a page is sent as long as it holds its place.
fn snapshots_for(snapshots: Snapshots, place: OwnedSemaphorePermit) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((snapshots, ticks, None, place), async |(snapshots, mut ticks, last, place)| {
        ticks.tick().await;
        let next = snapshots.after(last.as_deref()).await;
        let event = match &next {
            Some(snapshot) => Event::default().data(snapshot.json()),
            None => Event::default().comment("the broker does not answer"),
        };
        Some((Ok(event), (snapshots, ticks, next, place)))
    })
}

async fn status(State(shared): State<Shared>) -> Response {
    match shared.snapshots.get().await {
        Some(snapshot) => {
            ([(header::CONTENT_TYPE, "application/json")], Body::from(snapshot.json().to_string())).into_response()
        }
        None => silent(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let Some(snapshot) = shared.snapshots.get().await else { return silent() };
    match metrics::text(&snapshot.status, shared.started) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn health(State(shared): State<Shared>) -> Response {
    match shared.snapshots.get().await {
        Some(_) => "ok\n".into_response(),
        None => silent(),
    }
}

fn silent() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the broker does not answer\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_calls_this_host_by_a_name_of_its_own_is_served() {
        let names = ["broker.example".to_string()];
        for ours in ["127.0.0.1", "[::1]", "10.1.2.3", "localhost", "LOCALHOST", "localhost.", "Broker.example"] {
            assert!(is_ours(ours, &names), "{ours}");
        }
        for other in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "127.1.evil"] {
            assert!(!is_ours(other, &names), "{other}");
        }
    }

    #[test]
    fn who_asks_from_another_origin_is_not_served() {
        let host: Authority = "127.0.0.1:8080".parse().unwrap();
        let asked = |origin: &str| {
            let headers = [(header::ORIGIN, HeaderValue::from_str(origin).unwrap())].into_iter().collect();
            is_same_origin(&headers, Some(&host))
        };
        assert!(is_same_origin(&HeaderMap::new(), Some(&host)) && is_same_origin(&HeaderMap::new(), None));
        assert!(asked("http://127.0.0.1:8080") && asked("https://127.0.0.1:8080"));
        for other in ["null", "", "http://evil.example", "http://127.0.0.1:8081", "http://127.0.0.1", "127.0.0.1:8080"]
        {
            assert!(!asked(other), "{other}");
        }
    }
}
