//! `giostra map --detach`: at a signal, the lines whose results were not printed become a durable job.
//!
//! The first signal hands over these lines and the rest of the input: a file to its end, a pipe to its
//! end or the next signal, of a terminal only what was typed. Another signal then gives up. A line that
//! makes no request, or a larger one than the broker takes, is handed over as an empty request, which
//! no worker can read: so its place in the output stays.

use std::collections::{BTreeMap, btree_map};
use std::io::{self, IsTerminal as _, Write as _, stdin};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use giostra_client::{Client, Error, JobId, JobOptions};
use giostra_common::stdio::Retrying;
use giostra_protocol::{Bytes, MAX_JOB_REQUESTS};
use giostra_transport::shutdown::Shutdown;
use serde_json::json;

use super::args::Map;
use crate::common::CommonArgs;
use crate::failure::report_error;
use crate::input::{Input, Next};
use crate::jobs::job_options;
use crate::line::{Kind, body};
use crate::written::many;

/// What is handed over at a signal.
pub struct Detach {
    /// The requests of the lines whose results were not printed, by the lines' numbers.
    pending: BTreeMap<u64, Bytes>,
    /// The second signal: the input ends here.
    end_of_input: Shutdown,
    /// The third one: nothing is handed over.
    abandon: Shutdown,
}

impl Detach {
    /// Begins without lines. From now on, further signals after the first have a meaning.
    ///
    /// # Errors
    /// If the system has no pipe left.
    pub fn new(shutdown: &Shutdown) -> io::Result<Self> {
        let (end_of_input, abandon) = (Shutdown::new()?, Shutdown::new()?);
        end_of_input.set_next(abandon.clone());
        shutdown.set_next(end_of_input.clone());
        Ok(Self { pending: BTreeMap::new(), end_of_input, abandon })
    }

    /// The signal after which nothing is waited for any more.
    pub fn abandon(&self) -> &Shutdown {
        &self.abandon
    }

    /// Keeps the request of a line, if it makes one, until its result is printed. Returns its size.
    pub fn keep(&mut self, number: u64, body: Option<&Bytes>) -> usize {
        let body = body.cloned().unwrap_or_default();
        let size = body.len();
        self.pending.insert(number, body);
        size
    }

    /// Forgets a line whose result is printed.
    pub fn printed(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    /// Submits what is pending and what is left of the input. Returns whether all of it was.
    ///
    /// # Errors
    /// If it can't be submitted, and by another signal.
    pub fn hand_over(self, input: &mut Input, map: &Map, kind: Kind, common: &CommonArgs) -> anyhow::Result<bool> {
        let source = Source::of(input);
        report_error(source.announcement());
        let options = common.options("map", &self.abandon).context("can't hand the rest over")?;
        let mut client = Client::connect(options)?;
        client.await_broker()?;
        let mut rest = Rest {
            pending: self.pending.into_iter(),
            input,
            make: |line: &[u8]| body(&map.operation, line, kind).map_err(|failure| failure.to_string()),
            source,
            signals: (&self.end_of_input, &self.abandon),
            max_bytes: client.max_request_bytes(),
            lines: 0,
            is_cut_off: false,
        };
        let job = JobOptions { retries: map.retry, ..job_options(common) };
        let jobs = submit(&mut client, &job, &mut rest).context("can't hand the rest over")?;
        report(&jobs, rest.lines, common.json);
        Ok(!rest.is_cut_off)
    }
}

/// Submits as many jobs as it takes: one, but for very many lines.
fn submit(
    client: &mut Client,
    options: &JobOptions,
    rest: impl Iterator<Item = Result<Bytes, Error>>,
) -> Result<Vec<JobId>, Error> {
    let (mut jobs, mut rest) = (Vec::new(), rest.peekable());
    while rest.peek().is_some() {
        jobs.push(client.try_submit_job(options.clone(), rest.by_ref().take(MAX_JOB_REQUESTS as usize))?);
    }
    Ok(jobs)
}

fn report(jobs: &[JobId], lines: u64, json: bool) {
    let ids: Vec<_> = jobs.iter().map(ToString::to_string).collect();
    if json {
        // If it can't be written, the id is in the next line.
        let _ = writeln!(Retrying(io::stderr()), "{}", json!({"jobs": ids, "lines": lines}));
    }
    let json = if json { " --json" } else { "" };
    match &ids[..] {
        [] => report_error("no line was left to hand over: the output is complete"),
        [id] => report_error(format_args!(
            "{} handed over as job {id}: giostra collect {id}{json} >> FILE completes the output",
            many(lines, "line")
        )),
        several => report_error(format_args!(
            "{} handed over as jobs {}: giostra collect{json} of each, in this order, >> FILE completes the output",
            many(lines, "line"),
            several.join(" ")
        )),
    }
}

/// What stdin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// When it ends by itself, and soon.
    File,
    /// When nobody types after Ctrl-C.
    Terminal,
    /// When it may end, or never.
    Pipe,
}

impl Source {
    fn of(input: &Input) -> Self {
        match input.length() {
            Some(_) => Self::File,
            None if stdin().is_terminal() => Self::Terminal,
            None => Self::Pipe,
        }
    }

    fn announcement(self) -> &'static str {
        match self {
            Self::File | Self::Terminal => "handing the rest over as a job",
            Self::Pipe => {
                "handing the rest over as a job, to the end of the input or the next Ctrl-C; one more gives up"
            }
        }
    }
}

/// The requests that are handed over: of the pending lines, then of the rest of the input.
struct Rest<'a, F> {
    pending: btree_map::IntoIter<u64, Bytes>,
    input: &'a mut Input,
    /// Makes the request of a line, or says why not.
    make: F,
    source: Source,
    /// The second and the third signal.
    signals: (&'a Shutdown, &'a Shutdown),
    /// The largest request that the broker takes.
    max_bytes: u64,
    /// The number of lines so far.
    lines: u64,
    /// Whether the input could not be read to its end.
    is_cut_off: bool,
}

impl<F: FnMut(&[u8]) -> Result<Bytes, String>> Rest<'_, F> {
    /// Returns the request of the next line of the input; `None` at its end.
    fn read(&mut self) -> Option<Result<Bytes, Error>> {
        let (end_of_input, abandon) = self.signals;
        loop {
            if abandon.requested() {
                return Some(Err(Error::Interrupted));
            }
            let is_ended = self.source == Source::Pipe && end_of_input.requested();
            match self.input.next() {
                Ok(Next::Line(line)) => match (self.make)(&line) {
                    Ok(body) => return Some(Ok(body)),
                    Err(why) => {
                        report_error(format_args!("line {}: {why}", self.input.taken()));
                        return Some(Ok(Bytes::new()));
                    }
                },
                Ok(Next::Later) if is_ended || self.source == Source::Terminal => return None,
                Ok(Next::Later) => {
                    let ends = (self.source == Source::Pipe).then(|| end_of_input.as_fd());
                    let others: Vec<_> = ends.into_iter().chain([abandon.as_fd()]).collect();
                    if let Err(error) = self.input.wait(&others) {
                        return self.cut_off(format_args!("can't wait for stdin: {error}"));
                    }
                }
                Ok(Next::End) => return None,
                Err(error) => return self.cut_off(format_args!("{error:#}")),
            }
        }
    }

    /// Reports why the input ends here.
    fn cut_off(&mut self, why: std::fmt::Arguments<'_>) -> Option<Result<Bytes, Error>> {
        report_error(why);
        self.is_cut_off = true;
        None
    }
}

impl<F: FnMut(&[u8]) -> Result<Bytes, String>> Iterator for &mut Rest<'_, F> {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let body = match self.pending.next() {
            Some((_, body)) => body,
            None if self.is_cut_off => return None,
            None => match self.read()? {
                Ok(body) => body,
                error => return Some(error),
            },
        };
        self.lines += 1;
        Some(Ok(if body.len() as u64 > self.max_bytes { Bytes::new() } else { body }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    type Make = fn(&[u8]) -> Result<Bytes, String>;

    struct Signals(Shutdown, Detach);

    impl Signals {
        fn new() -> Self {
            let first = Shutdown::new().unwrap();
            let detach = Detach::new(&first).unwrap();
            Self(first, detach)
        }
    }

    fn make(line: &[u8]) -> Result<Bytes, String> {
        if line == b"bad" { Err("no request".into()) } else { Ok(Bytes::copy_from_slice(line)) }
    }

    fn rest<'a>(detach: &'a Detach, input: &'a mut Input, source: Source) -> Rest<'a, Make> {
        Rest {
            pending: detach.pending.clone().into_iter(),
            input,
            make,
            source,
            signals: (&detach.end_of_input, &detach.abandon),
            max_bytes: 5,
            lines: 0,
            is_cut_off: false,
        }
    }

    fn texts(rest: &mut Rest<'_, Make>) -> Vec<String> {
        rest.map(|body| String::from_utf8(body.unwrap().to_vec()).unwrap()).collect()
    }

    #[test]
    fn what_was_not_printed_comes_first_and_then_the_input_each_line_in_its_place() {
        let Signals(_, mut detach) = Signals::new();
        for number in [7, 3, 5, 4] {
            detach.keep(number, Some(&Bytes::from_static(b"line").slice(..number as usize % 4 + 1)));
        }
        detach.printed(4);
        let mut input = Input::reading(&b"more\nbad\ntoo long\nlast"[..]).unwrap();
        let mut rest = rest(&detach, &mut input, Source::File);
        assert_eq!(texts(&mut rest), ["line", "li", "line", "more", "", "", "last"]);
        assert_eq!((rest.lines, rest.is_cut_off), (7, false));
    }

    #[test]
    fn a_pipe_that_never_ends_is_read_to_the_second_signal() {
        let Signals(first, detach) = Signals::new();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"a\nb\n").unwrap();
        let mut input = Input::reading(reader).unwrap();
        let mut rest = rest(&detach, &mut input, Source::Pipe);
        let mut lines = &mut rest;
        assert_eq!(lines.next().unwrap().unwrap().to_vec(), b"a");
        first.request();
        let next = first.next().expect("further signals have a meaning");
        next.request();
        assert_eq!(texts(&mut rest), ["b"]);
        drop(writer);
    }

    #[test]
    fn the_last_signal_gives_up_and_of_a_file_the_second_means_nothing() {
        let Signals(_, detach) = Signals::new();
        detach.end_of_input.request();
        let mut input = Input::reading(&b"a\nb\n"[..]).unwrap();
        let mut rest = rest(&detach, &mut input, Source::File);
        let mut lines = &mut rest;
        assert_eq!(lines.next().unwrap().unwrap().to_vec(), b"a");
        detach.abandon.request();
        assert!(matches!(lines.next(), Some(Err(Error::Interrupted))));
    }
}
