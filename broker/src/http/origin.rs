//! Which requests are served: those meant for this host, and not sent by another site's page.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Refuses requests that another site caused: a page whose own name points here (DNS rebinding), or
/// one that asks across origins. Adds headers that keep browsers from sharing the answer.
pub(super) async fn guard(State(names): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = match host(&request) {
        Ok(host) => host,
        Err(()) => return (StatusCode::BAD_REQUEST, "there is no such Host\n").into_response(),
    };
    if let Some(host) = &host
        && !is_ours(host.host(), &names)
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

/// Returns the host that a request is meant for, if it says so.
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
        // A proxy may have ended TLS.
        let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        matches!((of, host), (Some(of), Some(host)) if of.eq_ignore_ascii_case(host.as_str()))
    })
}

/// Whether a browser says that another site's page asks. It sends no `Origin` with a picture or a
/// script. Following a link from another site is allowed: only the user sees the page.
fn is_of_another_site(request: &Request) -> bool {
    let says = |name: &str, value: &str| request.headers().get_all(name).iter().any(|said| said == value);
    says("sec-fetch-site", "cross-site") && !(says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_to_a_name_of_this_host_are_served() {
        let names = ["broker.example".to_string()];
        for ours in ["127.0.0.1", "[::1]", "10.1.2.3", "localhost", "LOCALHOST", "localhost.", "Broker.example"] {
            assert!(is_ours(ours, &names), "{ours}");
        }
        for other in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "127.1.evil"] {
            assert!(!is_ours(other, &names), "{other}");
        }
    }

    #[test]
    fn requests_from_another_origin_are_not_served() {
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
