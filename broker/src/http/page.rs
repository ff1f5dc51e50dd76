//! The live page: one HTML file with its style and its script.

use std::sync::{Arc, LazyLock};

use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};

/// The parts of its script, in order.
const SCRIPTS: [&str; 13] = [
    include_str!("page/helpers.js"),
    include_str!("page/model.js"),
    include_str!("page/ring.js"),
    include_str!("page/heat.js"),
    include_str!("page/pools.js"),
    include_str!("page/figures.js"),
    include_str!("page/plots.js"),
    include_str!("page/tables.js"),
    include_str!("page/hosts.js"),
    include_str!("page/jobs.js"),
    include_str!("page/events.js"),
    include_str!("page/drawing.js"),
    include_str!("page/stream.js"),
];

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("page/page.html").replacen("/* style */\n", include_str!("page/page.css"), 1);
    page.replacen("/* scripts */\n", &SCRIPTS.join("\n"), 1)
});

/// The page of one broker.
#[derive(Clone, Debug)]
pub(crate) struct Page(Arc<str>);

impl Page {
    /// Makes the page, with links to the pages of these other brokers.
    ///
    /// # Errors
    /// What is wrong with one of their addresses.
    pub(crate) fn new(peers: &[String]) -> Result<Self, String> {
        let links = peers.iter().map(|peer| Ok(link(&address(peer)?))).collect::<Result<Vec<_>, String>>()?;
        let list = match &links[..] {
            [] => String::new(),
            links => format!("<nav aria-label=\"Other brokers\">{}</nav>", links.join(" ")),
        };
        Ok(Self(PAGE.replacen("<!-- peers -->", &list, 1).into()))
    }

    /// Returns the page. Its policy lets the browser run this script, and fetch from this host alone.
    pub(crate) fn response(&self) -> Response {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let page = self.0.replacen("<script>", &format!("<script nonce=\"{nonce}\">"), 1);
        let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, &policy)];
        (headers, page).into_response()
    }
}

/// Checks that this is the address of a page.
///
/// # Errors
/// If it has no scheme `http` or `https`, or no host.
pub fn check_address(text: &str) -> Result<(), String> {
    address(text).map(drop)
}

fn address(text: &str) -> Result<Uri, String> {
    let example = "write the address of another broker's page, like http://b:8080";
    let uri: Uri = text.parse().map_err(|error| format!("{error}: {example}"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(uri),
        _ => Err(example.into()),
    }
}

/// Returns a link, whose text is the host and the port. Of a URI, HTML reads the quote and the
/// ampersand alone as something else.
fn link(address: &Uri) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let host = address.authority().map_or("", |authority| authority.as_str());
    format!("<a href=\"{}\">{}</a>", escaped(&address.to_string()), escaped(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_the_page_are_those_of_the_status() {
        let figures = include_str!("page/figures.js");
        let list = figures.split_once("const TOTALS = [").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
        let mut shown: Vec<_> = list.split(", ").map(|key| key.trim_matches('"').to_string()).collect();
        let totals = serde_json::to_value(giostra_protocol::Totals::default()).unwrap();
        let mut fields: Vec<_> = totals.as_object().unwrap().keys().cloned().collect();
        shown.sort();
        fields.sort();
        assert_eq!(shown, fields);
    }

    #[test]
    fn the_pages_of_other_brokers_are_linked_and_nothing_else_can_be() {
        let peers = ["http://b:8080", "https://c/giostra/?a=1&b=2"].map(String::from);
        let page = Page::new(&peers).unwrap().0;
        assert!(
            page.contains("<a href=\"http://b:8080/\">b:8080</a> <a href=\"https://c/giostra/?a=1&amp;b=2\">c</a>")
        );
        assert!(!page.contains("<!-- peers -->") && !Page::new(&[]).unwrap().0.contains("<nav"));
        for bad in ["b:8080", "javascript:alert(1)", "ftp://b", "http://", "http://b/\"><script>", "/"] {
            assert!(Page::new(&[bad.to_string()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_page_is_whole_has_one_script_and_fetches_nothing_from_elsewhere() {
        assert!(PAGE.contains("prefers-reduced-motion") && PAGE.contains("new EventSource"));
        assert!(!PAGE.contains("/* style */") && !PAGE.contains("/* scripts */"), "its parts are put in");
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("</script").count()), (1, 1));
        assert!(PAGE.contains("<script>"));
        for elsewhere in ["src=\"http", "href=\"http", "url(http", "@import", "fetch(\"http"] {
            assert!(!PAGE.contains(elsewhere), "{elsewhere}");
        }
    }
}
