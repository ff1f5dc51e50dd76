//! The process that stays: it starts the brokers, then the workers, shows what they say, and ends the
//! workers, then the brokers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::parent_id;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use giostra_audit::text_of;
use giostra_common::signals;
use giostra_transport::lock::Lock;
use giostra_transport::shutdown::Shutdown;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::setsid;

use super::folder::{Folder, cannot};
use super::keys::Keys;
use super::output::Output;
use super::plan::{self, is_broker, to_connect};
use super::program::{Event, Program, Source};
use super::record::{self, Broker, Process, Record};
use super::{PATIENCE, START, Up};
use crate::exit::Exit;
use crate::printed::stdout;

/// When it is said what is waited for at the end.
const SLOW: Duration = Duration::from_secs(1);

/// Runs the system until a signal, or until its last broker ends.
pub fn run(options: &Up, pool: &str, folder: Folder, json: bool) -> anyhow::Result<Exit> {
    if options.in_background {
        setsid().context("can't leave the terminal")?;
    }
    let (events, heard) = channel();
    listen(&events)?;
    folder.create()?;
    let lock = lock(&folder)?;
    if options.in_background {
        // If the one that waits has ended, nobody looks for it there.
        let _ = fs::rename(folder.starting(parent_id()), folder.output());
    }
    let brokers = plan::broker_names(options.brokers);
    let width = plan::worker_name(options.workers).len().max(brokers[brokers.len() - 1].len());
    let output = Output::start(width, json)?;
    if let Some(left) = Record::read(&folder) {
        let names = left.end_leftovers(PATIENCE);
        if !names.is_empty() {
            output.say(&format!("ended what an earlier giostra up has left: {}", names.join(", ")));
        }
    }
    folder.clear(options.fresh)?;
    let keys = options.secure.then(|| plan::keys(&folder, &brokers, options.workers)).transpose()?;
    let log = folder.log().display().to_string();
    let store = options.store.clone().unwrap_or_else(|| folder.store()).display().to_string();
    let variables = folder.variables().display().to_string();
    let pid = std::process::id();
    let started = record::started(pid).unwrap_or_default();
    let record = Record { pid, started, log, store, variables, secure: options.secure, ..Record::default() };
    let mut system = System {
        options,
        pool,
        folder,
        _lock: lock,
        output,
        events,
        heard,
        keys,
        brokers,
        record,
        programs: BTreeMap::new(),
        registered: BTreeMap::new(),
        stopping: Stopping::No,
    };
    let ended = system.serve(json);
    system.end();
    ended
}

/// Says what to do if something is up already.
pub fn refuse_second(folder: &Folder) -> anyhow::Result<()> {
    lock(folder).map(drop)
}

fn lock(folder: &Folder) -> anyhow::Result<Lock> {
    match folder.lock()? {
        Ok(lock) => Ok(lock),
        Err(holder) => bail!(
            "already up{}: giostra up --status shows it, giostra down ends it, --dir starts another elsewhere",
            holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
        ),
    }
}

/// Says that all is ready, and what to do now.
pub fn ready(record: &Record, end: &str) -> String {
    let Record { frontend, backend, page, variables, secure, .. } = record;
    let is_worker = |process: &&Process| !is_broker(&process.name) && process.ended.is_none();
    let workers = record.processes.iter().filter(is_worker).count();
    let mut text = format!("ready: {workers} workers at {backend}, clients come to {frontend}");
    if let Some(page) = page {
        text += &format!(", the live page is {page}");
    }
    text.push('\n');
    if *secure {
        text += &format!("with keys: source {variables}\n");
    } else if frontend != "tcp://127.0.0.1:5555" {
        text += &format!("not at the usual port: source {variables}\n");
    }
    text + &format!("try: giostra random 3000, giostra status, giostra top; {end} ends it\n")
}

/// Listens for signals. To be called in the first thread, before others are started.
fn listen(events: &Sender<Event>) -> anyhow::Result<()> {
    let again = events.clone();
    let listening = signals::on_user_signal(move || drop(again.send(Event::Again)));
    let (first, second) = listening.and_then(|()| Ok((signals::shutdown()?, Shutdown::new()?)))?;
    first.set_next(second.clone());
    let events = events.clone();
    let wait = move || {
        for (shutdown, at_once) in [(first, false), (second, true)] {
            while !shutdown.requested() {
                let _ = poll(&mut [PollFd::new(shutdown.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }
            let _ = events.send(Event::Stop { at_once });
        }
    };
    thread::Builder::new().name("signals-heard".into()).spawn(wait)?;
    Ok(())
}

/// How far a system is from its end.
#[derive(Clone, Copy, PartialEq)]
enum Stopping {
    No,
    Politely,
    AtOnce,
}

struct System<'a> {
    options: &'a Up,
    pool: &'a str,
    folder: Folder,
    _lock: Lock,
    output: Output,
    events: Sender<Event>,
    heard: Receiver<Event>,
    keys: Option<Keys>,
    /// The names of the brokers.
    brokers: Vec<String>,
    record: Record,
    /// Those that have not been waited for.
    programs: BTreeMap<Source, Program>,
    /// The workers, and at how many brokers each is registered, or was.
    registered: BTreeMap<Source, usize>,
    stopping: Stopping,
}

impl System<'_> {
    /// Starts all, and returns when it is to end.
    fn serve(&mut self, json: bool) -> anyhow::Result<Exit> {
        for place in 0..self.brokers.len() {
            self.start_broker(place)?;
        }
        self.write_variables()?;
        for number in 1..=self.options.workers {
            self.start_worker(number)?;
            // One after the other, so that the ring has them in the order of their names.
            self.wait_for_worker(&plan::worker_name(number))?;
        }
        if self.stopping != Stopping::No {
            return Ok(Exit::Interrupted);
        }
        self.record.ready = true;
        self.write()?;
        if json {
            writeln!(stdout(), "{}", serde_json::to_string(&self.record)?)?;
        }
        let end = if self.options.in_background { "giostra down" } else { "Ctrl-C" };
        ready(&self.record, end).lines().for_each(|line| self.output.say(line));
        while self.stopping == Stopping::No {
            let event = self.heard.recv().expect("this has a sender, too");
            let is_again = matches!(event, Event::Again);
            self.handle(event);
            if self.brokers.iter().all(|name| self.is_over(name)) {
                bail!("the broker has ended; its log is in {}", self.record.log);
            }
            if is_again {
                if let Err(error) = self.start_ended() {
                    self.output.say(&format!("{error:#}"));
                }
                self.record.restarts += 1;
                self.write()?;
            }
        }
        Ok(Exit::Success)
    }

    /// Ends all: the workers first, which finish what they hold, then the brokers.
    fn end(&mut self) {
        self.end_all(|name| !is_broker(name));
        self.end_all(|_| true);
        // Not the log and the store.
        let _ = self.folder.clear(false);
        self.output.say("down");
    }

    fn end_all(&mut self, which: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        let mut is_told = false;
        for (_, program) in self.programs.iter().filter(|((name, _), _)| which(name)) {
            program.ask_to_end();
        }
        loop {
            let left: Vec<_> = self.programs.iter().filter(|((name, _), _)| which(name)).collect();
            if left.is_empty() {
                return;
            }
            if self.stopping == Stopping::AtOnce || begun.elapsed() > PATIENCE {
                left.iter().for_each(|(_, program)| program.signal(Signal::SIGKILL));
            } else if begun.elapsed() > SLOW && !is_told {
                let names: Vec<_> = left.iter().map(|((name, _), _)| name.as_str()).collect();
                let names = names.join(", ");
                self.output.say(&format!(
                    "{names} finish what they hold; another Ctrl-C, or giostra down --now, ends them at once"
                ));
                is_told = true;
            }
            if let Ok(event) = self.heard.recv_timeout(Duration::from_millis(200)) {
                self.handle(event);
            }
        }
    }

    fn start_broker(&mut self, place: usize) -> anyhow::Result<()> {
        let name = self.brokers[place].clone();
        let options = plan::broker(self.options, (place, &name), &self.record, self.keys.as_ref());
        self.record.brokers.resize_with(self.brokers.len(), Broker::default);
        let before = std::mem::take(&mut self.record.brokers[place]);
        let is_without_page = self.options.http.as_deref() == Some("off");
        let listens = |broker: &Broker| !broker.frontend.is_empty() && (is_without_page || broker.page.is_some());
        let started = options
            .map_err(anyhow::Error::msg)
            .and_then(|options| self.start(&name, "giostra-broker", &options))
            .and_then(|()| self.wait_for(&name, |system| listens(&system.record.brokers[place])));
        if started.is_err() {
            // The others know it by its endpoints, where the next attempt is to be.
            self.record.brokers[place] = before;
        }
        started
    }

    /// Tells shells how to reach the brokers.
    fn write_variables(&mut self) -> anyhow::Result<()> {
        self.record.list_brokers();
        let path = self.folder.variables();
        let variables = plan::variables(&self.record, &self.brokers, self.keys.as_ref())?;
        fs::write(&path, variables).with_context(|| cannot("write", &path))
    }

    fn start_worker(&mut self, number: u32) -> anyhow::Result<()> {
        let name = plan::worker_name(number);
        let options = plan::worker(self.options, &name, self.pool, &self.record, self.keys.as_ref());
        self.start(&name, "giostra-worker", &options)
    }

    fn start(&mut self, name: &str, program: &str, options: &[OsString]) -> anyhow::Result<()> {
        if self.stopping != Stopping::No {
            return Ok(());
        }
        let program = Program::start(name, program, options, &self.events)?;
        let process = Process { name: name.into(), pid: program.pid(), started: program.started, ended: None };
        self.programs.insert((name.into(), program.pid()), program);
        match self.record.processes.iter_mut().find(|process| process.name == name) {
            Some(earlier) => *earlier = process,
            None => self.record.processes.push(process),
        }
        self.write()
    }

    /// Starts the brokers and the workers again that have ended, and waits until they are ready.
    fn start_ended(&mut self) -> anyhow::Result<()> {
        let over: Vec<_> = (0..self.brokers.len()).filter(|&place| self.is_over(&self.brokers[place])).collect();
        // The workers are of use to the other brokers.
        let brokers = over.into_iter().map(|place| self.start_broker(place)).fold(Ok(()), Result::and);
        let ended: Vec<_> =
            (1..=self.options.workers).filter(|&number| self.is_over(&plan::worker_name(number))).collect();
        for number in ended {
            self.start_worker(number)?;
            self.wait_for_worker(&plan::worker_name(number))?;
        }
        brokers
    }

    fn wait_for_worker(&mut self, name: &str) -> anyhow::Result<()> {
        let source = (name.to_string(), self.record.process(name).map_or(0, |process| process.pid));
        let is_everywhere = |system: &Self| {
            let there = system.brokers.iter().filter(|name| !system.is_over(name)).count();
            system.registered.get(&source).is_some_and(|&count| count >= there)
        };
        self.wait_for(name, is_everywhere)
    }

    /// Waits until a process that was started is of use, or all is to end.
    fn wait_for(&mut self, name: &str, is_ready: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + START;
        while self.stopping == Stopping::No && !is_ready(self) {
            if self.is_over(name) {
                bail!("{name} has ended before it was ready; above is what it says");
            }
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => bail!("{name} is not ready after {START:?}"),
                Err(RecvTimeoutError::Disconnected) => unreachable!("this has a sender, too"),
            }
        }
        Ok(())
    }

    /// Whether no process of this name runs.
    fn is_over(&self, name: &str) -> bool {
        !self.programs.keys().any(|(running, _)| running == name)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Line(source, text) => self.handle_line(&source, &text),
            Event::Ended(source) => self.handle_end(&source),
            Event::Stop { at_once } => self.stopping = if at_once { Stopping::AtOnce } else { Stopping::Politely },
            Event::Again => {}
        }
    }

    fn handle_line(&mut self, source: &Source, line: &str) {
        // The broker's may be objects.
        let text = text_of(line.as_bytes());
        let is_of = |verb: &str| text.contains(verb);
        let value = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name)).map(to_connect);
        match self.brokers.iter().position(|name| *name == source.0) {
            Some(place) if is_of(" listening ") => {
                let broker = &mut self.record.brokers[place];
                broker.frontend = value("frontend=").unwrap_or_default();
                broker.backend = value("backend=").unwrap_or_default();
            }
            Some(place) if is_of(" watch ") => {
                self.record.brokers[place].page = text.split(' ').next_back().map(Into::into);
            }
            None if is_of(" registered as ") => *self.registered.entry(source.clone()).or_default() += 1,
            _ => {}
        }
        // In the background nobody looks, for long: the log has everything.
        if !(self.options.in_background && self.record.ready && is_of(" INFO ")) {
            self.output.line(&source.0, line);
        }
    }

    fn handle_end(&mut self, source: &Source) {
        let Some(program) = self.programs.remove(source) else { return };
        self.registered.remove(source);
        let (how, in_order) = program.wait();
        let (name, pid) = source;
        if self.stopping == Stopping::No && (!is_broker(name) || self.brokers.len() > 1) {
            let again = if self.record.ready { "; giostra up --again starts it again" } else { "" };
            self.output.say(&format!("{name} ended {how}{again}"));
        } else if !in_order {
            self.output.say(&format!("{name} ended {how}"));
        }
        if let Some(process) = self.record.processes.iter_mut().find(|process| process.pid == *pid) {
            process.ended = Some(how);
        }
        // If it can't be written, the next `up` finds out by itself.
        let _ = self.write();
    }

    fn write(&self) -> anyhow::Result<()> {
        self.record.write(&self.folder)
    }
}
