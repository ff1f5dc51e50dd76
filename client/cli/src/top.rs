//! `giostra top`: a live view of the broker on the whole screen.
//!
//! A thread of its own asks the broker, so that the keys work however long the answer takes. This
//! is the loop that hears of keys, answers and signals; [`state`] is what they change, [`view`] how
//! it is drawn.

mod keys;
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
    /// Interval of questions to the broker
    #[arg(long, default_value = "500ms", value_parser = interval, value_name = "DURATION")]
    pub interval: Duration,
}

/// How long nothing may change on the screen: times go on, and so may its size have changed.
const TICK: Duration = Duration::from_millis(250);

/// How long to wait for the rest of what a key sends.
const REST: Duration = Duration::from_millis(50);

/// How long a second signal waits for what the first one has begun: the terminal is to be given
/// back.
const GRACE: Duration = Duration::from_secs(1);

/// Beyond the time between two questions, how late an answer may be before that is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no JSON of this.
pub const NO_JSON: &str = "top draws a screen; for JSON there is giostra status --watch --json";

const NO_TERMINAL: &str = "top needs a terminal that can be drawn on; without one there is giostra status --watch";

/// What the thread that asks has found out.
enum News {
    /// When the broker has answered.
    Status(Box<Status>),
    /// When there is no broker any more: why.
    Gone(String),
    /// When a worker was to be drained: what became of it.
    Drain(String),
    /// When there is no use in asking again.
    Failed(Error),
}

/// Why nothing can be drawn, if so.
fn obstacle(common: &CommonArgs) -> Option<&'static str> {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    if common.json {
        Some(NO_JSON)
    } else {
        (dumb || !stdin().is_terminal() || !stdout().is_terminal()).then_some(NO_TERMINAL)
    }
}

/// Shows the view until the user quits. An error if the broker never answers, or if a signal ended it.
pub fn run(options: &Top, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    if let Some(obstacle) = obstacle(common) {
        bail!(obstacle);
    }
    // Ends the asking whatever it waits for.
    let stop = Shutdown::new()?;
    let client = Client::connect(common.options("top", &stop)?)?;
    let (waker, alarm) = wake::alarm().context("can't open a pipe")?;
    let ((orders, ordered), (tell, news)) = (channel(), channel());
    let (endpoint, interval) = (common.broker.clone(), options.interval);
    let asking = thread::Builder::new().name("asking".into()).spawn(move || {
        ask(client, &endpoint, interval, &ordered, |news| {
            // Nobody listens any more when the view is left.
            let _ = tell.send(news);
            waker.wake();
        });
    })?;
    let ended = Page { shutdown, alarm, news, orders, interval }.show(&common.broker);
    stop.request();
    asking.join().map_err(|_| anyhow!("the thread that asks the broker has panicked"))?;
    ended.map(|()| Exit::Success)
}

/// Asks the broker, and gives it the orders that come meanwhile, until there are no more to come.
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
        answer = live::ask(&mut client, endpoint, |why| tell(News::Gone(why)));
    }
}

/// All that the screen is about.
struct Page<'a> {
    shutdown: &'a Shutdown,
    /// Rings when there are news.
    alarm: Alarm,
    news: Receiver<News>,
    /// Workers to be drained.
    orders: Sender<(String, u64)>,
    interval: Duration,
}

impl Page<'_> {
    /// Shows the broker until the user has seen enough.
    fn show(mut self, endpoint: &str) -> anyhow::Result<()> {
        let mut state = State::new(endpoint);
        // Before the broker has answered there is nothing to show: if it does not, that is said as by any
        // other command.
        while !state.has_status() {
            self.sleep(TICK, None)?;
            self.hear(&mut state)?;
        }
        let look = Look { colours: colours() };
        let level = log::max_level();
        // Lines of the log would be written across the screen.
        log::set_max_level(LevelFilter::Off);
        self.shutdown.set_grace(GRACE);
        let mut screen = Screen::open().context("the terminal can't be drawn on")?;
        let ended = self.go_on(&mut screen, &mut state, look);
        drop(screen);
        self.shutdown.set_grace(Duration::ZERO);
        log::set_max_level(level);
        ended
    }

    fn go_on(&mut self, screen: &mut Screen, state: &mut State, look: Look) -> anyhow::Result<()> {
        let (terminal, mut keyboard) = (stdin().as_raw_fd(), Keyboard::default());
        let mut heard = Instant::now();
        loop {
            let silence = heard.elapsed();
            state.silence = (silence > self.interval + PATIENCE).then_some(silence);
            screen.0.draw(|frame| view::draw(frame, state, look))?;
            let pressed = self.sleep(if keyboard.is_waiting() { REST } else { TICK }, Some(terminal))?;
            if self.hear(state)? {
                heard = Instant::now();
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

    /// Sleeps until there is something to do or the time has passed. Whether a key was pressed. An
    /// error if a signal came.
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

    /// Takes in the news. Whether the broker has said something.
    fn hear(&mut self, state: &mut State) -> anyhow::Result<bool> {
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

/// The whole screen, which is given back as it was: also after an error, and after a panic.
///
/// The terminal is not dropped: it would complain on stderr if the screen is gone.
struct Screen(ManuallyDrop<DefaultTerminal>);

impl Screen {
    fn open() -> io::Result<Self> {
        let opened = ratatui::try_init();
        if opened.is_err() {
            give_back();
        }
        Ok(Self(ManuallyDrop::new(opened?)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// What fails here fails because there is no screen any more.
fn give_back() {
    let _ = ratatui::try_restore();
    let _ = execute!(stdout(), Show);
}
