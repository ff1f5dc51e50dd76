//! The live page: one HTML file with its style and its script.

use std::sync::LazyLock;

use axum::http::header;
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

/// Returns the page. Its policy lets the browser run this script, and fetch from this host alone.
pub async fn page() -> Response {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let page = PAGE.replacen("<script>", &format!("<script nonce=\"{nonce}\">"), 1);
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, &policy)];
    (headers, page).into_response()
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
