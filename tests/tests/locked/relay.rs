//! Somebody on the way between two hosts, who passes on all bytes and keeps a copy.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;

/// What one connection bore: what came from who connected, and what came back.
pub type Record = [Vec<u8>; 2];

/// A TCP relay. It ends with the process; each connection ends with its ends.
pub struct Relay {
    /// Where it listens.
    pub endpoint: String,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Relay {
    /// One on the way to this endpoint.
    pub fn to(endpoint: &str) -> Result<Self> {
        let target = address(endpoint).to_string();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("tcp://{}", listener.local_addr()?);
        let records = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&records);
        thread::spawn(move || {
            for inner in listener.incoming().flatten() {
                let Ok(outer) = TcpStream::connect(&target) else { continue };
                let number = {
                    let mut records = kept.lock().unwrap();
                    records.push(Record::default());
                    records.len() - 1
                };
                for (way, from, to) in [(0, &inner, &outer), (1, &outer, &inner)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let kept = Arc::clone(&kept);
                    thread::spawn(move || pass_on(from, to, |bytes| kept.lock().unwrap()[number][way].extend(bytes)));
                }
            }
        });
        Ok(Self { endpoint, records })
    }

    /// What has passed so far, a connection each.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut buffer = [0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Either end may be gone already.
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}

/// What stands behind `tcp://`.
pub fn address(endpoint: &str) -> &str {
    endpoint.trim_start_matches("tcp://")
}
