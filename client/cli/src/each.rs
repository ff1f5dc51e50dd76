//! What is seen at each of several brokers, side by side.

use std::thread;
use std::time::Duration;

use giostra_client::{Client, Error, Options};
use serde_json::{Value, json};

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{code_of_client, explain_client, object};
use super::table::Room;
use super::watch::{Watched, cut};

/// The longest time to wait for each broker: those that are there are not to wait for one that is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same of each of several brokers, each with a client of its own.
pub struct Each<W>(Vec<One<W>>);

struct One<W> {
    broker: String,
    client: Client,
    of: W,
    /// Whether it did not answer last time.
    is_gone: bool,
}

impl<W: Watched> One<W> {
    /// Asks the broker. One that was gone is not waited for again.
    fn ask(&mut self) -> Result<W::Seen, Error> {
        if self.is_gone {
            self.client.turn()?;
            if self.client.without_broker_since().is_some() {
                return Err(Error::NoBroker { endpoint: self.broker.clone(), waited: PATIENCE, why: None });
            }
        }
        let answer = self.of.ask(&mut self.client);
        self.is_gone = matches!(answer, Err(Error::NoBroker { .. }));
        answer
    }
}

/// What was seen at a broker, or why nothing was.
pub struct Seen<T> {
    broker: String,
    answer: Result<T, Error>,
}

impl<T> Seen<T> {
    /// Returns the lines of what was seen, under the broker's name; behind an empty one unless they are
    /// the first.
    fn lines<W: Watched<Seen = T>>(&self, place: usize, room: Room) -> Vec<String> {
        let between = (place > 0).then(String::new);
        let lines = match &self.answer {
            Ok(seen) => W::lines(seen, room),
            Err(error) => vec![explain_client(error)],
        };
        between.into_iter().chain([self.broker.clone()]).chain(lines).collect()
    }
}

impl<W: Watched + Send> Each<W>
where
    W::Seen: Send,
{
    /// Connects to each broker of these options.
    ///
    /// # Errors
    /// If a client can't be made.
    pub fn new(options: &Options, of: impl Fn() -> W) -> Result<Self, Error> {
        let one = |mut options: Options| {
            options.broker_timeout = options.broker_timeout.min(PATIENCE);
            Ok(One { broker: options.broker.clone(), client: Client::connect(options)?, of: of(), is_gone: false })
        };
        options.each().into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Shows what there is. Succeeds if all brokers answer, or once Ctrl-C ends the watch.
    pub fn show(mut self, client: &mut Client, watch: Option<Duration>, common: &CommonArgs) -> anyhow::Result<Exit> {
        match watch {
            Some(interval) => self.watch(client, interval, common),
            None => self.print(client, common).map(|seen| Exit::success_if(seen.iter().all(|one| one.answer.is_ok()))),
        }
    }
}

impl<W: Watched + Send> Watched for Each<W>
where
    W::Seen: Send,
{
    type Seen = Vec<Seen<W::Seen>>;

    /// Asks all brokers at once, so that of several that are gone only one is waited for.
    fn ask(&mut self, _: &mut Client) -> Result<Self::Seen, Error> {
        let answers: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = self.0.iter_mut().map(|one| scope.spawn(|| one.ask())).collect();
            asked.into_iter().map(|asked| asked.join().expect("asking does not panic")).collect()
        });
        if answers.iter().any(|answer| matches!(answer, Err(Error::Interrupted))) {
            return Err(Error::Interrupted);
        }
        let brokers = self.0.iter().map(|one| one.broker.clone());
        Ok(brokers.zip(answers).map(|(broker, answer)| Seen { broker, answer }).collect())
    }

    fn lines(seen: &Self::Seen, room: Room) -> Vec<String> {
        seen.iter().enumerate().flat_map(|(place, one)| one.lines::<W>(place, room)).collect()
    }

    /// Each has the same part of the screen.
    fn fitted(seen: &Self::Seen, room: Room) -> Vec<String> {
        let rows = room.size.map_or(usize::MAX, |(_, height)| height.saturating_sub(1) / seen.len().max(1));
        // One row stays above the cursor of each part, and the last of all is the cursor's.
        let part = |(place, one): (usize, &Seen<_>)| cut(one.lines::<W>(place, room), rows.saturating_add(1));
        seen.iter().enumerate().flat_map(part).collect()
    }

    fn json(seen: &Self::Seen) -> serde_json::Result<Value> {
        let one = |Seen { broker, answer }: &Seen<W::Seen>| match answer {
            Ok(seen) => W::json_of(broker, seen),
            Err(error) => Ok(json!({"broker": broker, "error": object(code_of_client(error), &explain_client(error))})),
        };
        Ok(json!({"brokers": seen.iter().map(one).collect::<serde_json::Result<Vec<_>>>()?}))
    }
}
