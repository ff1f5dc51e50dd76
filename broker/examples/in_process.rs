//! A broker, a worker and a client in one process, as in a test of one's own.

use std::error::Error;
use std::thread;

use giostra_broker::Broker;
use giostra_client::{Client, Options};
use giostra_worker::{Shutdown, Worker};

fn main() -> Result<(), Box<dyn Error>> {
    let broker = Broker::start(giostra_broker::Options::default())?;

    let shutdown = Shutdown::new()?;
    let worker = Worker::new(broker.backend())
        .operation("shout", |text: String| -> Result<_, String> { Ok(text.to_uppercase()) });
    let until = shutdown.clone();
    let worker = thread::spawn(move || worker.run_until(&until));

    let mut client = Client::connect(Options::new(broker.frontend()))?;
    println!("{}", client.compute::<String>("shout", &("ciao",))?);

    shutdown.request();
    worker.join().expect("the worker did not panic")?;
    Ok(())
}
