//! `giostra map`: a request for each line of stdin, the results on stdout.
//!
//! What a line is as a request, and its answer as a line, is in `map/line.rs`; what has been
//! answered before in `map/journal.rs`; what stands in the output already in `map/output.rs`. Here
//! is the loop between stdin, the broker and stdout. Memory is bounded: so many lines, and so many
//! bytes, are under way or wait for their turn to be printed.

mod args;
mod failures;
mod input;
mod journal;
mod line;
mod output;
mod progress;
mod retries;
mod sequence;
#[cfg(test)]
mod simulation;

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, anyhow, bail, ensure};
use giostra_client::budget::InFlightBudget;
use giostra_client::{Client, Error};
use giostra_common::stdio;
use giostra_protocol::{Bytes, Failure, Outcome, Reply, RequestId, code};
use giostra_transport::shutdown::Shutdown;
use rustc_hash::FxHashMap;
use serde_json::json;

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{of_client, output_error, report_error};
use super::random::wait_for_workers;
use super::send::explain;
pub use args::Map;
use failures::Failures;
use input::{Input, Next};
use journal::{Journal, Record, Records, hash};
use line::{Ended, Format, Kind, body};
use output::Output;
use progress::Progress;
use retries::{Retries, pause};
use sequence::Sequence;

/// Answers the lines of stdin, and succeeds if every line has a result.
pub fn run(client: &mut Client, map: &Map, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let mut batch = Batch::open(client, map, common, shutdown)?;
    let ended = batch.run();
    // What is there is kept, however it ended. If it can't be, that is not worse than what came before.
    let flushed = batch.flush();
    batch.progress.finish(batch.client.duplicated());
    if ended.is_err() {
        let ids: Vec<_> = batch.asked.keys().copied().collect();
        // One that can't say so is about to lose its connection, by which the broker knows, too.
        let _ = batch.client.cancel(ids);
    }
    batch.tell(&ended);
    ended.and(flushed)?;
    Ok(Exit::success_if(batch.progress.all_well()))
}

struct Batch<'a> {
    client: &'a mut Client,
    map: &'a Map,
    common: &'a CommonArgs,
    operation: &'a str,
    kind: Kind,
    format: Format,
    input: Input,
    journal: Option<Journal>,
    /// What the journal holds from earlier runs, until it has been read.
    records: Option<Records>,
    /// Of what the journal holds, the answers to lines that have not been read.
    known: FxHashMap<u64, Known>,
    asked: FxHashMap<RequestId, Asked>,
    /// Lines that failed, until they are asked again.
    retries: Retries<(Asked, Bytes)>,
    budget: InFlightBudget,
    sequence: Sequence<Done>,
    failures: Failures,
    output: Output,
    progress: Progress,
    /// Whether all lines have been read.
    read: bool,
}

/// An answer from the journal.
struct Known {
    hash: u32,
    failed: bool,
    /// `None` if it was printed.
    ended: Option<Ended>,
}

/// A line that was read.
struct Line {
    /// Counted from 1.
    number: u64,
    /// Its bytes, with the line break.
    length: usize,
    /// As it was, if it is to be kept when it fails.
    text: Option<Bytes>,
    /// For the journal.
    hash: u32,
}

impl Line {
    /// Bytes of what is kept of it.
    fn kept(&self) -> usize {
        self.text.as_ref().map_or(0, Bytes::len)
    }
}

/// A line that is unanswered.
struct Asked {
    line: Line,
    /// Bytes of the request, and of what is kept of the line.
    bytes: usize,
    /// The request, if it may be asked again, and how often.
    body: Option<Bytes>,
    left: u32,
}

/// A line that is answered.
struct Done {
    line: Line,
    failed: bool,
    /// `None` if it was printed.
    ended: Option<Ended>,
    /// Bytes of the answer, and of what is kept of the line, as far as there has to be room for
    /// them.
    held: usize,
}

impl<'a> Batch<'a> {
    fn open(client: &'a mut Client, map: &'a Map, common: &'a CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let operation = &*map.operation;
        let kind = match common.json {
            true if map.text => bail!("with --json a line says itself what is a text; --text is for words"),
            true if map.line => bail!("with --json a line is a JSON value; --line is for texts"),
            true => Kind::Json,
            false if map.line => Kind::Line,
            false if map.text => Kind::Texts,
            false => Kind::Words,
        };
        // Before anything is touched.
        stdio::check_stdin().context("can't read stdin")?;
        output::refuse_a_circle()?;
        let format = Format { json: common.json, number: map.number, ordered: !map.unordered };
        let run = [
            (journal::FORMAT_KEY, json!(journal::FORMAT)),
            ("operation", json!(operation)),
            ("pool", json!(common.pool)),
            ("json", json!(format.json)),
            ("text", json!(map.text)),
            ("line", json!(map.line)),
            ("number", json!(format.number)),
            ("unordered", json!(map.unordered)),
        ];
        let opened = map.journal.as_deref().map(|path| Journal::open(path, &run.into())).transpose()?;
        let (mut journal, records) = opened.unzip();
        let earlier = records.as_ref().map_or(&[][..], |records| &records.starts);
        let (output, start) = Output::open(shutdown, earlier)?;
        if let (Some(journal), Some(start)) = (&mut journal, start.filter(|start| !earlier.contains(start))) {
            journal.note_start(start);
        }
        let failures = Failures::new(map.failed.as_deref(), map.journal.as_deref())?;
        wait_for_workers(client, map.wait_workers)?;
        let input = Input::open()?;
        Ok(Self {
            client,
            map,
            common,
            operation,
            kind,
            format,
            progress: Progress::new(input.length(), !map.quiet),
            input,
            journal,
            records,
            known: HashMap::default(),
            asked: HashMap::default(),
            retries: Retries::new(),
            budget: InFlightBudget::new(map.window as usize, InFlightBudget::BYTES),
            sequence: Sequence::new(format.ordered, map.window),
            failures,
            output,
            read: false,
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        self.replay()?;
        loop {
            // All that is here already, before asking for more: the next requests then travel together, too.
            while let Some(reply) = self.client.take_reply() {
                self.settle(&reply)?;
            }
            self.ask_again()?;
            self.ask()?;
            self.flush()?;
            if self.read && self.asked.is_empty() && self.retries.len() == 0 {
                return self.finish();
            }
            self.wait()?;
        }
    }

    /// Takes in what the journal holds, and reads and prints along with it the lines that have been
    /// answered up to the first that has not.
    fn replay(&mut self) -> anyhow::Result<()> {
        let Some(mut records) = self.records.take() else { return Ok(()) };
        while let Some(Record { number, hash, ended }) = records.next()? {
            let failed = matches!(ended, Ended::Failed(_));
            let ended = if self.format.ordered {
                Some(ended)
            } else {
                self.format.write(&mut self.output.buffer, number, &ended);
                None
            };
            self.known.insert(number, Known { hash, failed, ended });
            while self.known.contains_key(&(self.input.taken() + 1)) {
                match self.input.next()? {
                    Next::Line(text) => self.take(&text)?,
                    Next::Later => {
                        self.flush()?;
                        self.client.wait(&[self.input.fd()], None)?;
                    }
                    Next::End => return self.finish(),
                }
            }
            self.flush_if_full()?;
        }
        self.flush()
    }

    /// Asks for as many lines as there are, and as there is room for.
    fn ask(&mut self) -> anyhow::Result<()> {
        self.budget.pass(Instant::now);
        while self.wants_lines() {
            match self.input.next()? {
                Next::Line(text) => self.take(&text)?,
                Next::Later => return Ok(()),
                Next::End => self.read = true,
            }
            self.flush_if_full()?;
        }
        Ok(())
    }

    fn wants_lines(&self) -> bool {
        !self.read && self.budget.is_left() && self.sequence.has_room(self.input.taken() + 1)
    }

    /// Asks for a line, unless the journal knows its answer or it makes no request.
    fn take(&mut self, text: &Bytes) -> anyhow::Result<()> {
        let line = Line {
            number: self.input.taken(),
            length: text.len() + 1,
            // A copy: the text keeps its neighbours in memory.
            text: self.failures.are_kept().then(|| Bytes::copy_from_slice(text)),
            hash: if self.journal.is_some() { hash(text) } else { 0 },
        };
        if let Some(known) = self.known.remove(&line.number) {
            return self.recognise(line, known);
        }
        let body = match body(self.operation, text, self.kind) {
            Ok(body) => body,
            Err(failure) => return self.end(line, Ended::Failed(failure), 0),
        };
        let bytes = body.len() + line.kept();
        let again = (self.map.retry > 0).then(|| body.clone());
        match self.client.submit_within(body, self.common.timeout) {
            Ok(id) => {
                self.budget.ask(bytes);
                self.asked.insert(id, Asked { line, bytes, body: again, left: self.map.retry });
                Ok(())
            }
            Err(error @ Error::TooLarge(_)) => {
                self.end(line, Ended::Failed(Failure::new(code::INVALID, error.to_string())), 0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A line of which the journal knows how it ended.
    fn recognise(&mut self, line: Line, known: Known) -> anyhow::Result<()> {
        let number = line.number;
        ensure!(line.hash == known.hash, "line {number} of the input is not the one that the journal knows");
        self.progress.knew(line.length, known.failed);
        self.print(Done { line, failed: known.failed, ended: known.ended, held: 0 })
    }

    /// A request is answered: that ends its line, or it is asked again.
    fn settle(&mut self, reply: &Reply) -> anyhow::Result<()> {
        let Some(mut asked) = self.asked.remove(&reply.id) else { return Ok(()) };
        self.progress.replied(reply);
        if let Outcome::Error(failure) = &reply.outcome {
            if failure.code == code::NO_BROKER && self.is_without_broker() {
                return Err(anyhow!("{}", explain(failure, self.common)));
            }
            let again = asked.body.clone().filter(|_| asked.left > 0 && failure.code != code::INVALID);
            if let Some(body) = again {
                asked.left -= 1;
                let pause = pause(self.map.retry - asked.left, rand::random());
                self.retries.add(Instant::now() + pause, (asked, body));
                return Ok(());
            }
        }
        let ended = Ended::of(reply, self.format.json);
        let held = ended.bytes() + asked.line.kept();
        self.budget.answer(asked.bytes, held);
        self.end(asked.line, ended, held)
    }

    /// Asks again for the lines whose pause is over.
    fn ask_again(&mut self) -> anyhow::Result<()> {
        if self.retries.len() == 0 {
            return Ok(());
        }
        let now = Instant::now();
        while let Some((asked, body)) = self.retries.take_due(now) {
            self.progress.retried += 1;
            let id = self.client.submit_within(body, self.common.timeout)?;
            self.asked.insert(id, asked);
        }
        Ok(())
    }

    /// Whether there has been no broker for so long that it is not waited for any more. A request
    /// may end for want of one sooner, by its time limit.
    fn is_without_broker(&self) -> bool {
        self.client.without_broker_since().is_some_and(|since| since.elapsed() >= self.common.broker_timeout)
    }

    /// A line has ended now.
    fn end(&mut self, line: Line, ended: Ended, held: usize) -> anyhow::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.note(line.number, line.hash, &ended);
        }
        let failed = match &ended {
            Ended::Result(_) => false,
            Ended::Failed(failure) => {
                if let Some(what) = self.failures.add(line.number, explain(failure, self.common)) {
                    self.progress.report(what);
                }
                true
            }
        };
        self.progress.ended(line.length, failed);
        self.print(Done { line, failed, ended: Some(ended), held })
    }

    /// Prints what was done, and what waited for it; or lets it wait for its turn.
    fn print(&mut self, done: Done) -> anyhow::Result<()> {
        let Self { sequence, failures, output, budget, format, .. } = self;
        sequence.end(done.line.number, done, |Done { line, failed, ended, held }| {
            budget.hand_on(held);
            if let Some(ended) = ended {
                format.write(&mut output.buffer, line.number, &ended);
            }
            match line.text {
                Some(text) if failed => failures.keep(&text),
                _ => Ok(()),
            }
        })
    }

    /// Writes what is to be written, to the journal first.
    fn flush(&mut self) -> anyhow::Result<()> {
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.flush()
        {
            // What it does not hold is not printed.
            self.output.buffer.clear();
            return Err(error);
        }
        self.output.flush()?;
        self.failures.flush()
    }

    fn flush_if_full(&mut self) -> anyhow::Result<()> {
        if self.output.is_full() {
            self.flush()?;
            // Ctrl-C is heard also where nothing is asked for.
            self.client.turn()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let asked = &self.asked;
        let bytes_of = |id| asked.get(&id).map_or(0, |asked: &Asked| asked.line.length);
        self.progress.tick(self.client, &self.common.broker, bytes_of);
        let input = self.wants_lines().then(|| self.input.fd());
        let now = Instant::now();
        let until = [self.progress.poll_timeout(), self.budget.poll_timeout(|| now), self.retries.next()];
        let until = until.into_iter().flatten().min();
        Ok(self.client.wait(input.as_slice(), until)?)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        if let Some(number) = self.known.keys().max() {
            bail!("the input ends after line {}, and the journal knows line {number} of it", self.input.taken());
        }
        self.output.finish()
    }

    /// The summary, and how to go on, unless nobody listens any more.
    fn tell(&self, ended: &anyhow::Result<()>) {
        let broken = ended.as_ref().err();
        if let Some(what) = self.failures.rest().filter(|_| self.map.quiet) {
            report_error(what);
        }
        if self.map.quiet || broken.is_some_and(|error| output_error(error).is_some()) {
            return;
        }
        report_error(&self.progress);
        if let Some(Error::Interrupted) = broken.and_then(of_client) {
            let open = self.asked.len() + self.retries.len();
            report_error(match &self.map.journal {
                Some(_) => format!("{open} lines were unanswered; the same command goes on"),
                None => format!("{open} lines were unanswered; with --journal it could go on"),
            });
        }
    }
}
