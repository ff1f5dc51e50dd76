//! libzmq's I/O loop, run by the thread that would otherwise sleep until libzmq's own thread wakes it.
//!
//! Each message that libzmq's I/O thread hands over costs two context switches, and more where
//! cores are few. A thread that is about to sleep enters the loop instead, and does the I/O of its
//! context itself. When it leaves, nobody runs the loop until it enters again or, some milliseconds
//! later, libzmq's thread takes over. So a thread may compute or block for any time: connections
//! live on. Only one thread of a context can be inside at a time; another one sleeps as ever.
//!
//! On Linux alone. Elsewhere [`IoLoop::enter`] always returns `None`.

#[cfg(test)]
mod model;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use zmq::{Context, Socket};

use crate::ffi;

/// Lets contexts that are created afterwards do what libzmq does as published, for comparisons with
/// it: nobody may enter their loops, and none of their sockets be quiet.
pub fn be_as_published() {
    ffi::be_as_published();
}

/// The I/O loop of a context, which it keeps alive.
pub struct IoLoop {
    raw: Option<Arc<ffi::RawLoop>>,
    _context: Context,
}

/// The right to run the loop. Dropping it gives it up.
pub struct Inside<'a>(&'a ffi::RawLoop);

/// Keeps the loop from being left alone: see [`IoLoop::follow`].
pub struct Follower {
    raw: Option<Arc<ffi::RawLoop>>,
    _context: Context,
}

impl IoLoop {
    /// Returns the loop of the context that this socket belongs to.
    pub fn of(context: &Context, socket: &mut Socket) -> Self {
        Self { raw: ffi::RawLoop::of(socket).map(Arc::new), _context: context.clone() }
    }

    /// Makes the calling thread the one that runs the loop, unless another thread is inside or
    /// libzmq's own does not step aside within milliseconds.
    pub fn enter(&self) -> Option<Inside<'_>> {
        let raw = self.raw.as_ref()?;
        // Not `then_some`: a value that is made in any case would be dropped, and leave.
        raw.enter().then(|| Inside(raw))
    }

    /// As [`Self::enter`], but does not ask libzmq's thread to step aside.
    pub fn try_enter(&self) -> Option<Inside<'_>> {
        let raw = self.raw.as_ref()?;
        raw.try_enter().then(|| Inside(raw))
    }

    /// For a thread that waits for what the loop brings without running it: until the follower is
    /// dropped, libzmq's thread goes on as soon as nobody is inside.
    pub fn follow(&self) -> Follower {
        if let Some(raw) = &self.raw {
            raw.follow();
        }
        Follower { raw: self.raw.clone(), _context: self._context.clone() }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(raw) = &self.raw {
            raw.unfollow();
        }
    }
}

/// Closing sockets and the context needs libzmq's thread.
impl Drop for IoLoop {
    fn drop(&mut self) {
        if let Some(raw) = &self.raw {
            raw.recall();
        }
    }
}

impl Inside<'_> {
    /// Sends what sockets have handed over, without looking for what has arrived.
    pub fn push(&mut self) {
        self.0.push();
    }

    /// Handles what is due, without waiting. Returns whether anything had arrived.
    pub fn pass(&mut self) -> bool {
        self.0.pass()
    }

    /// Executes the timers that are due. Returns the time to the next one.
    pub fn timers(&mut self) -> Option<Duration> {
        self.0.timers()
    }

    /// Makes the descriptor readable when something is due, until the next pass. Returns false if
    /// something is due now.
    pub fn arm(&mut self) -> bool {
        self.0.arm()
    }

    /// Returns the descriptor that is readable when something is due.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor()
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::Instant;

    use zmq::{DONTWAIT, SocketType};

    use super::*;
    use crate::socket::{QuietSocket, Sleeper, sleep};

    /// Two sockets of two contexts, connected by TCP.
    fn pair() -> [(Context, QuietSocket, IoLoop); 2] {
        let make = || {
            let context = Context::new();
            let mut socket = QuietSocket::new(context.socket(SocketType::PAIR).unwrap());
            socket.set_linger(0).unwrap();
            let io = IoLoop::of(&context, &mut socket);
            assert!(io.raw.is_some());
            (context, socket, io)
        };
        let [one, other] = [make(), make()];
        one.1.bind("tcp://127.0.0.1:*").unwrap();
        other.1.connect(&one.1.get_last_endpoint().unwrap().unwrap()).unwrap();
        [one, other]
    }

    fn receive(io: &IoLoop, socket: &QuietSocket) -> Vec<u8> {
        let began = Instant::now();
        loop {
            match socket.recv_bytes(DONTWAIT) {
                Ok(bytes) => return bytes,
                Err(error) => assert_eq!(error, zmq::Error::EAGAIN),
            }
            assert!(began.elapsed() < Duration::from_secs(30), "no message came");
            sleep(io, Sleeper::RunsLoop { looks: Duration::ZERO }, &[socket], &[], Some(Duration::from_secs(1)))
                .unwrap();
        }
    }

    #[test]
    fn two_threads_that_run_their_own_loops_talk_without_libzmqs_threads() {
        let [(_one, near, io), (_other, far, far_io)] = pair();
        let echo = thread::spawn(move || {
            for _ in 0..10_000 {
                let bytes = receive(&far_io, &far);
                far.send(bytes, 0).unwrap();
            }
            // Both stay open until the last message has been sent.
            receive(&far_io, &far)
        });
        for number in 0..10_000_u32 {
            near.send(number.to_ne_bytes().to_vec(), 0).unwrap();
            assert_eq!(receive(&io, &near), number.to_ne_bytes());
        }
        near.send("end", 0).unwrap();
        // The last message leaves without this thread's help.
        assert_eq!(echo.join().unwrap(), b"end");
    }

    #[test]
    fn a_thread_that_has_left_owes_nothing() {
        let [(_one, near, io), (_other, far, _far_io)] = pair();
        for number in 0..20_u8 {
            drop(io.enter());
            near.send(vec![number], 0).unwrap();
            // The receiver never enters, and the sender does nothing more.
            far.set_rcvtimeo(30_000).unwrap();
            assert_eq!(far.recv_bytes(0).unwrap(), [number]);
        }
    }

    #[test]
    fn one_thread_is_inside_at_a_time_and_a_panic_is_a_way_out() {
        let (inside, entered, running) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(true));
        let [(_one, near, io), (_other, far, _far_io)] = pair();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while running.load(Ordering::Relaxed) {
                        let outcome = catch_unwind(AssertUnwindSafe(|| {
                            let Some(mut held) = io.enter() else { return };
                            assert!(!inside.swap(true, Ordering::SeqCst), "another thread is inside");
                            held.timers();
                            held.pass();
                            inside.store(false, Ordering::SeqCst);
                            if entered.fetch_add(1, Ordering::Relaxed) % 1000 == 0 {
                                std::panic::resume_unwind(Box::new("out"));
                            }
                        }));
                        if let Err(panic) = outcome {
                            assert_eq!(panic.downcast_ref::<&str>(), Some(&"out"));
                        }
                    }
                });
            }
            far.set_rcvtimeo(30_000).unwrap();
            let mut all_arrived = true;
            for number in 0..2_000_u32 {
                near.send(number.to_ne_bytes().to_vec(), 0).unwrap();
                all_arrived &= far.recv_bytes(0).is_ok_and(|bytes| bytes == number.to_ne_bytes());
            }
            running.store(false, Ordering::Relaxed);
            assert!(all_arrived);
        });
        assert!(entered.load(Ordering::Relaxed) > 1000);
    }

    #[test]
    fn sockets_close_and_contexts_end_whoever_ran_the_loop_last() {
        for _ in 0..50 {
            let [(one, near, io), (other, far, far_io)] = pair();
            near.send("x", 0).unwrap();
            assert_eq!(receive(&far_io, &far), b"x");
            drop(io.enter());
            // In another order each: the loop's owner first, last, or never.
            drop((io, near, one));
            drop((far, other, far_io));
        }
    }

    #[test]
    fn a_thread_that_sleeps_beside_the_one_inside_hears_of_its_messages() {
        // Both sockets are of one context, with one loop.
        let context = Context::new();
        let make = || {
            let socket = QuietSocket::new(context.socket(SocketType::PAIR).unwrap());
            socket.set_linger(0).unwrap();
            socket
        };
        let [mut near, far] = [make(), make()];
        let io = IoLoop::of(&context, &mut near);
        near.bind("tcp://127.0.0.1:*").unwrap();
        far.connect(&near.get_last_endpoint().unwrap().unwrap()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let far = far;
                for _ in 0..2_000 {
                    let bytes = receive(&io, &far);
                    far.send(bytes, 0).unwrap();
                }
                receive(&io, &far)
            });
            for number in 0..2_000_u32 {
                near.send(number.to_ne_bytes().to_vec(), 0).unwrap();
                assert_eq!(receive(&io, &near), number.to_ne_bytes());
            }
            near.send("end", 0).unwrap();
        });
    }

    #[test]
    fn a_program_inherits_no_descriptor_of_the_loop() {
        let [(_one, _near, io), _other] = pair();
        let held = io.enter().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&held.descriptor());
        let listed = std::process::Command::new("ls").arg("-l").arg("/proc/self/fd").output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(!listed.contains("eventpoll") && !listed.contains("eventfd"), "{number}: {listed}");
    }
}
