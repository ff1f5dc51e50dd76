//! `giostra map`: sends a request for each line of stdin, and prints the results on stdout.
//!
//! This is the loop between stdin, the broker and stdout. The conversion between lines and requests is
//! in `map/line.rs`, the answers of earlier runs are in `map/journal.rs`, and output that is there
//! already is handled in `map/output.rs`. Memory is bounded by the numbers of lines and bytes that are
//! unanswered or wait to be printed.

mod args;
mod detach;
mod entry;
mod failures;
mod journal;
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

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{of_client, output_error, report_error};
use super::input::{Input, Next};
use super::line::{Ended, Format, Kind, body};
use super::random::wait_for_workers;
use super::send::explain;
pub use args::Map;
use detach::Detach;
use entry::{Done, Known, Line, Open};
pub use failures::Failures;
use journal::{Journal, Record, Records, hash};
use output::Output;
use progress::Progress;
use retries::{Retries, pause};
use sequence::Sequence;

/// Sends the lines of stdin, and succeeds if every line has a result.
pub fn run(client: &mut Client, map: &Map, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let mut batch = Batch::open(client, map, common, shutdown)?;
    let ended = batch.run();
    // Answers that have arrived are kept, however the run ended. An error of that comes second.
    let flushed = batch.flush();
    batch.progress.finish(batch.client.duplicated());
    if ended.is_err() {
        let ids: Vec<_> = batch.open.keys().copied().collect();
        // If this can't be sent, the broker cancels them when the connection ends.
        let _ = batch.client.cancel(ids);
    }
    if let Some(detach) = batch.detach.take()
        && flushed.is_ok()
        && is_interrupted(&ended)
    {
        return batch.hand_over(detach);
    }
    batch.report(&ended);
    ended.and(flushed)?;
    Ok(Exit::success_if(batch.progress.all_well()))
}

fn is_interrupted(ended: &anyhow::Result<()>) -> bool {
    matches!(ended.as_ref().err().and_then(of_client), Some(Error::Interrupted))
}

struct Batch<'a> {
    client: &'a mut Client,
    map: &'a Map,
    common: &'a CommonArgs,
    kind: Kind,
    format: Format,
    input: Input,
    journal: Option<Journal>,
    /// The journal's records of earlier runs, until they have been read.
    records: Option<Records>,
    /// The journal's answers to lines that have not been read.
    known: FxHashMap<u64, Known>,
    open: FxHashMap<RequestId, Open>,
    /// Lines that failed, until they are retried.
    retries: Retries<(Open, Bytes)>,
    budget: InFlightBudget,
    sequence: Sequence<Done>,
    failures: Failures,
    /// What is to be handed over at a signal.
    detach: Option<Detach>,
    output: Output,
    progress: Progress,
    /// Whether all lines have been read.
    read: bool,
}

impl<'a> Batch<'a> {
    fn open(client: &'a mut Client, map: &'a Map, common: &'a CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let kind = Kind::of(common.json, map.text, map.line)?;
        // Before any file is changed.
        stdio::check_stdin().context("can't read stdin")?;
        output::refuse_a_circle()?;
        let format = Format { json: common.json, number: map.number, ordered: !map.unordered };
        let opened = map.journal.as_deref().map(|path| Journal::open(path, &map.description(common))).transpose()?;
        let (mut journal, records) = opened.unzip();
        let earlier = records.as_ref().map_or(&[][..], |records| &records.starts);
        let detach = map.detach.then(|| Detach::new(shutdown)).transpose().context("can't open a pipe")?;
        let (output, start) = Output::open(detach.as_ref().map_or(shutdown, Detach::abandon), earlier)?;
        if let (Some(journal), Some(start)) = (&mut journal, start.filter(|start| !earlier.contains(start))) {
            journal.append_start(start);
        }
        let failures = Failures::new(map.failed.as_deref(), map.journal.as_deref())?;
        if map.detach {
            // Before hours of work.
            client.check_store().context("--detach")?;
        }
        wait_for_workers(client, &common.pool, map.wait_workers)?;
        let input = Input::open()?;
        Ok(Self {
            client,
            map,
            common,
            kind,
            format,
            progress: Progress::new(input.length(), !map.quiet),
            input,
            journal,
            records,
            known: HashMap::default(),
            open: HashMap::default(),
            retries: Retries::new(),
            budget: InFlightBudget::new(map.window as usize, InFlightBudget::BYTES),
            sequence: Sequence::new(format.ordered, map.window),
            failures,
            detach,
            output,
            read: false,
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        self.replay()?;
        loop {
            // All replies that have arrived are handled before more lines are sent, so that the next requests
            // travel together, too.
            while let Some(reply) = self.client.take_reply() {
                self.settle(&reply)?;
            }
            self.retry()?;
            self.send()?;
            self.flush()?;
            if self.read && self.open.is_empty() && self.retries.len() == 0 {
                return self.finish();
            }
            self.wait()?;
        }
    }

    /// Reads the journal. Lines that it answers are read and printed along with it, up to the first
    /// that it does not answer.
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

    /// Sends the lines that have been read, as far as there is room.
    fn send(&mut self) -> anyhow::Result<()> {
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

    /// Sends a line, unless the journal has its answer or it makes no valid request.
    fn take(&mut self, text: &Bytes) -> anyhow::Result<()> {
        let hash = if self.journal.is_some() { hash(text) } else { 0 };
        let mut line = Line::new(self.input.taken(), text, self.failures.are_kept(), hash);
        if let Some(known) = self.known.remove(&line.number) {
            return self.print_known(line, known);
        }
        let body = body(&self.map.operation, text, self.kind);
        if let Some(detach) = &mut self.detach {
            line.kept += detach.keep(line.number, body.as_ref().ok());
        }
        let body = match body {
            Ok(body) => body,
            Err(failure) => return self.end(line, Ended::Failed(failure), 0),
        };
        let bytes = body.len() + line.kept;
        let retries = self.map.retry;
        let kept = (retries > 0).then(|| body.clone());
        match self.client.submit_within(body, self.common.timeout) {
            Ok(id) => {
                self.budget.ask(bytes);
                self.open.insert(id, Open { line, bytes, body: kept, retries });
                Ok(())
            }
            Err(error @ Error::TooLarge(_)) => {
                self.end(line, Ended::Failed(Failure::new(code::INVALID, error.to_string())), 0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Prints a line that the journal answers.
    fn print_known(&mut self, line: Line, known: Known) -> anyhow::Result<()> {
        let number = line.number;
        ensure!(line.hash == known.hash, "line {number} of the input is not the one that the journal knows");
        self.progress.knew(line.length, known.failed);
        self.print(Done { line, failed: known.failed, ended: known.ended, held: 0 })
    }

    /// Handles a reply: ends its line, or retries it later.
    fn settle(&mut self, reply: &Reply) -> anyhow::Result<()> {
        let Some(mut open) = self.open.remove(&reply.id) else { return Ok(()) };
        self.progress.replied(reply);
        if let Outcome::Error(failure) = &reply.outcome {
            if failure.code == code::NO_BROKER && self.is_without_broker() {
                return Err(anyhow!("{}", explain(failure, self.common)));
            }
            let body = open.body.clone().filter(|_| open.retries > 0 && failure.code != code::INVALID);
            if let Some(body) = body {
                open.retries -= 1;
                let pause = pause(self.map.retry - open.retries, rand::random());
                self.retries.add(Instant::now() + pause, (open, body));
                return Ok(());
            }
        }
        let ended = Ended::of(&reply.outcome, self.format.json);
        let held = ended.bytes() + open.line.kept;
        self.budget.answer(open.bytes, held);
        self.end(open.line, ended, held)
    }

    /// Sends the lines whose pause is over again.
    fn retry(&mut self) -> anyhow::Result<()> {
        if self.retries.len() == 0 {
            return Ok(());
        }
        let now = Instant::now();
        while let Some((open, body)) = self.retries.take_due(now) {
            self.progress.retried += 1;
            let id = self.client.submit_within(body, self.common.timeout)?;
            self.open.insert(id, open);
        }
        Ok(())
    }

    /// Returns whether the broker has been missing for `--broker-timeout`. A request may fail for want
    /// of a broker sooner, by its own time limit.
    fn is_without_broker(&self) -> bool {
        self.client.without_broker_since().is_some_and(|since| since.elapsed() >= self.common.broker_timeout)
    }

    /// Ends a line.
    fn end(&mut self, line: Line, ended: Ended, held: usize) -> anyhow::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.append(line.number, line.hash, &ended);
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

    /// Prints a line's answer and those that waited for it, or keeps it until its turn.
    fn print(&mut self, done: Done) -> anyhow::Result<()> {
        let Self { sequence, failures, detach, output, budget, format, .. } = self;
        sequence.end(done.line.number, done, |Done { line, failed, ended, held }| {
            budget.hand_on(held);
            if let Some(ended) = ended {
                format.write(&mut output.buffer, line.number, &ended);
            }
            if let Some(detach) = detach {
                detach.printed(line.number);
            }
            match line.text {
                Some(text) if failed => failures.keep(&text),
                _ => Ok(()),
            }
        })
    }

    /// Writes the journal, then the output.
    fn flush(&mut self) -> anyhow::Result<()> {
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.flush()
        {
            // Answers that are not in the journal are not printed.
            self.output.buffer.clear();
            return Err(error);
        }
        self.output.flush()?;
        self.failures.flush()
    }

    fn flush_if_full(&mut self) -> anyhow::Result<()> {
        if self.output.is_full() {
            self.flush()?;
            // Notices Ctrl-C while no requests are sent.
            self.client.turn()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let open = &self.open;
        let bytes_of = |id| open.get(&id).map_or(0, |open: &Open| open.line.length);
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

    /// Hands the lines without a printed result over, and succeeds if no other has failed.
    fn hand_over(mut self, detach: Detach) -> anyhow::Result<Exit> {
        if !self.map.quiet {
            report_error(&self.progress);
        }
        let is_whole = detach.hand_over(&mut self.input, self.map, self.kind, self.common)?;
        Ok(Exit::success_if(is_whole && self.progress.all_well()))
    }

    /// Reports the summary, and how to resume. Nothing if the reader of stdout has gone.
    fn report(&self, ended: &anyhow::Result<()>) {
        let error = ended.as_ref().err();
        if let Some(rest) = self.failures.rest().filter(|_| self.map.quiet) {
            report_error(rest);
        }
        if self.map.quiet || error.is_some_and(|error| output_error(error).is_some()) {
            return;
        }
        report_error(&self.progress);
        if is_interrupted(ended) {
            let how = match &self.map.journal {
                Some(_) => "the same command resumes",
                None => "with --journal it could resume",
            };
            report_error(format_args!("{} lines were unanswered; {how}", self.open.len() + self.retries.len()));
        }
    }
}
