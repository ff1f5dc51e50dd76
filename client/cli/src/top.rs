//! `giostra top`: a live view of the broker on the whole screen.
//!
//! A second thread asks the broker, so that keys work while an answer is outstanding. This file has
//! the loop that handles keys, answers and signals. They change [`state`], and [`view`] draws it.

mod keys;
mod sort;
mod state;
mod view;

use std::io::{self, IsTerminal, stdin, stdout};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use giostra_client::{Client, Error};
use giostra_protocol::Status;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::wake::Alarm;
use giostra_transport::{socket, wake};
use log::LevelFilter;
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use zmq::PollItem;

use super::common::CommonArgs;
use super::exit::Exit;
use super::help;
use super::live::{self, interval};
use super::table::colours;

use keys::Keyboard;
use state::{Act, State};
use view::Look;

/// The options of `giostra top`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::TOP)]
pub struct Top {
    /// How often to ask the broker
    #[arg(long, default_value = "500ms", value_parser = interval, value_name = "DURATION")]
    pub interval: Duration,
}

/// The interval at which the screen is drawn without news: for times, and after a change of size.
const TICK: Duration = Duration::from_millis(250);

/// How long to wait for the rest of a key's bytes.
const KEY_TIMEOUT: Duration = Duration::from_millis(50);

/// How long a second signal waits before it ends the process: the first one restores the terminal.
const GRACE: Duration = Duration::from_secs(1);

/// How late an answer may be before the screen says so.
const PATIENCE: Duration = Duration::from_secs(1);

/// The error with `--json`.
pub const NO_JSON: &str = "top draws a screen; for JSON there is giostra status --watch --json";

const NO_TERMINAL: &str = "top needs a terminal that can be drawn on; without one there is giostra status --watch";

/// News from the thread that asks the broker.
enum News {
    /// When the broker has answered.
    Status(Box<Status>),
    /// When there is no broker: the reason.
    Gone(String),
    /// When a worker was to be drained: the outcome.
    Drain(String),
    /// When asking again is useless.
    Failed(Error),
}

/// Returns why nothing can be drawn, if so.
fn obstacle(common: &CommonArgs) -> Option<&'static str> {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    if common.json {
        Some(NO_JSON)
    } else {
        (dumb || !stdin().is_terminal() || !stdout().is_terminal()).then_some(NO_TERMINAL)
    }
}

/// Shows the view until the user quits. An error if the broker never answers, or a signal ends it.
pub fn run(options: &Top, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    if let Some(obstacle) = obstacle(common) {
        bail!(obstacle);
    }
    // Ends the other thread, whatever it waits for.
    let stop = Shutdown::new()?;
    let client = Client::connect(common.options("top", &stop)?)?;
    let (waker, alarm) = wake::alarm().context("can't open a pipe")?;
    let ((orders, ordered), (tell, news)) = (channel(), channel());
    let (endpoint, interval) = (common.broker.clone(), options.interval);
    let asking = thread::Builder::new().name("asking".into()).spawn(move || {
        ask(client, &endpoint, interval, &ordered, |news| {
            // After the view has ended nobody receives.
            let _ = tell.send(news);
            waker.wake();
        });
    })?;
    let ended = Page { shutdown, alarm, news, orders, interval }.show(&common.broker);
    stop.request();
    asking.join().map_err(|_| anyhow!("the thread that asks the broker has panicked"))?;
    ended.map(|()| Exit::Success)
}

/// Asks the broker and carries out orders, until the view has ended.
fn ask(
    mut client: Client,
    endpoint: &str,
    interval: Duration,
    orders: &Receiver<(String, u64)>,
    mut tell: impl FnMut(News),
) {
    let mut answer = client.status();
    loop {
        match answer {
            Ok(status) => tell(News::Status(Box::new(status))),
            Err(error) => return tell(News::Failed(error)),
        }
        match orders.recv_timeout(interval) {
            Ok((worker, number)) => match client.drain_number(&worker, number) {
                Ok(()) => tell(News::Drain(format!("{worker} finishes what it has"))),
                Err(error) => tell(News::Drain(error.to_string())),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        answer = live::ask(&mut client, endpoint, |why| tell(News::Gone(why)), Client::status);
    }
}

/// The view: what it receives, and what it orders.
struct Page<'a> {
    shutdown: &'a Shutdown,
    /// Becomes readable when there are news.
    alarm: Alarm,
    news: Receiver<News>,
    /// The workers to drain.
    orders: Sender<(String, u64)>,
    interval: Duration,
}

impl Page<'_> {
    /// Shows the broker until the user quits.
    fn show(mut self, endpoint: &str) -> anyhow::Result<()> {
        let mut state = State::new(endpoint);
        // Without a first answer the command fails like any other, before anything is drawn.
        while !state.has_status() {
            self.sleep(TICK, None)?;
            self.receive(&mut state)?;
        }
        let look = Look { colours: colours() };
        let level = log::max_level();
        // Log lines would overwrite the screen.
        log::set_max_level(LevelFilter::Off);
        self.shutdown.set_grace(GRACE);
        let mut screen = Screen::open().context("the terminal can't be drawn on")?;
        let ended = self.follow(&mut screen, &mut state, look);
        drop(screen);
        self.shutdown.set_grace(Duration::ZERO);
        log::set_max_level(level);
        ended
    }

    fn follow(&mut self, screen: &mut Screen, state: &mut State, look: Look) -> anyhow::Result<()> {
        let (terminal, mut keyboard) = (stdin().as_raw_fd(), Keyboard::default());
        let mut answered = Instant::now();
        loop {
            let silence = answered.elapsed();
            state.silence = (silence > self.interval + PATIENCE).then_some(silence);
            screen.0.draw(|frame| view::draw(frame, state, look))?;
            let pressed = self.sleep(if keyboard.is_waiting() { KEY_TIMEOUT } else { TICK }, Some(terminal))?;
            if self.receive(state)? {
                answered = Instant::now();
            }
            let keys = if pressed { keyboard.read().context("the terminal is gone")? } else { keyboard.give_up() };
            for key in keys {
                match state.handle_key(key) {
                    Some(Act::Quit) => return Ok(()),
                    Some(Act::Drain(worker, number)) => self.orders.send((worker, number))?,
                    None => {}
                }
            }
        }
    }

    /// Sleeps until there is something to do or the time has passed. Returns whether a key was pressed.
    /// An error after a signal.
    fn sleep(&mut self, time: Duration, terminal: Option<RawFd>) -> anyhow::Result<bool> {
        let descriptors =
            [self.shutdown.as_fd(), self.alarm.as_fd()].map(|fd| fd.as_raw_fd()).into_iter().chain(terminal);
        let mut items: Vec<_> = descriptors.map(|descriptor| PollItem::from_fd(descriptor, zmq::POLLIN)).collect();
        socket::poll(&mut items, Some(time))?;
        if self.shutdown.requested() {
            return Err(Error::Interrupted.into());
        }
        Ok(items.get(2).is_some_and(|terminal| !terminal.get_revents().is_empty()))
    }

    /// Handles the news. Returns whether the broker has answered.
    fn receive(&mut self, state: &mut State) -> anyhow::Result<bool> {
        self.alarm.clear();
        let mut heard = false;
        loop {
            match self.news.try_recv() {
                Ok(News::Status(status)) => {
                    state.handle_status(*status);
                    heard = true;
                }
                Ok(News::Gone(why)) => state.handle_gone(why),
                Ok(News::Drain(answer)) => state.notice = Some(answer),
                Ok(News::Failed(error)) => return Err(error.into()),
                Err(TryRecvError::Empty) => return Ok(heard),
                Err(TryRecvError::Disconnected) => bail!("the thread that asks the broker has ended"),
            }
        }
    }
}

/// The whole screen, which is restored when dropped, also after an error or a panic.
///
/// The terminal is never dropped: it would report an error on stderr if the screen is gone.
struct Screen(ManuallyDrop<DefaultTerminal>);

impl Screen {
    fn open() -> io::Result<Self> {
        let opened = ratatui::try_init();
        if opened.is_err() {
            restore();
        }
        Ok(Self(ManuallyDrop::new(opened?)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the screen. An error would mean that there is none any more.
fn restore() {
    let _ = ratatui::try_restore();
    let _ = execute!(stdout(), Show);
}
