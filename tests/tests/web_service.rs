//! The example of a web service (`client/examples/axum.rs`) as a process, with a real broker and
//! workers, asked over HTTP.

use std::io::Write;
use std::net::TcpStream;

use anyhow::{Context, Result};
use giostra_tests::process::wait_for;
use giostra_tests::{Process, Setup, System};

/// Starts the web service. Returns it and its address.
fn web_service(system: &System, args: &[&str]) -> Result<(Process, String)> {
    let args = [&["--broker", system.frontend(), "--listen", "127.0.0.1:0"], args].concat();
    let service = Process::start(system.folder(), "web", "examples/axum", &args)?;
    let address = wait_for("the web service listens", || {
        service.stdout().strip_prefix("http://")?.strip_suffix('\n').map(ToOwned::to_owned)
    })?;
    Ok((service, address))
}

/// Returns the status and the body of the response.
fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let request = ureq::get(format!("http://{address}{path}")).config().http_status_as_error(false).build();
    let mut response = request.call().with_context(|| path.to_owned())?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

#[test]
fn a_web_service_answers_with_results_and_its_errors_are_status_codes() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let (_service, address) = web_service(&system, &["--timeout", "1"])?;
    assert_eq!(get(&address, "/is_prime/1000003")?, (200, "true\n".into()));
    assert_eq!(get(&address, "/div/1/2")?, (200, "0.5\n".into()));
    assert_eq!(get(&address, "/div/1/0")?, (422, "failed: division by zero\n".into()));
    assert_eq!(get(&address, "/is_prime/-1")?.0, 200);
    assert_eq!(get(&address, "/sleep/-1")?.0, 400);
    let (status, body) = get(&address, "/sleep/30")?;
    assert_eq!(status, 504, "{body}");
    assert!(body.starts_with("expired: "), "{body}");
    // Without a broker a request ends by its time limit.
    system.kill_broker()?;
    let (status, body) = get(&address, "/div/1/2")?;
    assert_eq!(status, 503, "{body}");
    assert!(body.starts_with("no-broker: "), "{body}");
    Ok(())
}

#[test]
fn a_closed_http_connection_cancels_its_request() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let (_service, address) = web_service(&system, &[])?;
    let mut connection = TcpStream::connect(&address)?;
    connection.write_all(b"GET /sleep/50 HTTP/1.1\r\nHost: here\r\n\r\n")?;
    wait_for("the request is in flight", || (system.status().ok()?["in_flight"] == 1).then_some(()))?;
    drop(connection);
    wait_for("the request is cancelled", || (system.status().ok()?["totals"]["cancelled"] == 1).then_some(()))?;
    // The service goes on. The worker computes to the end all the same, so another one takes over.
    system.start_worker(2)?;
    system.kill_worker(1)?;
    assert_eq!(get(&address, "/is_prime/7")?, (200, "true\n".into()));
    Ok(())
}
