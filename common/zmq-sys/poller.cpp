// See poller.hpp.
#include "poller.hpp"

#include <chrono>

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ctx.hpp"
#include "err.hpp"
#include "i_poll_events.hpp"
#include "io_thread.hpp"
#include "mailbox.hpp"
#include "socket_base.hpp"
#include "stream_engine_base.hpp"

namespace
{
// How long the loop may be left alone before the keeper takes it back. A short time would cost much where many
// processes share a processor.
const std::chrono::milliseconds tick (20);
// After so many ticks in which one thread stayed inside, the keeper rests until that one leaves.
const int ticks_before_rest = 2;
// How long a thread waits for the keeper to step aside. It may be held up, as by a name server.
const std::chrono::milliseconds patience (2);
// The most events of one pass.
const int max_events = 256;

std::atomic<bool> as_published (false);

// The loops of all contexts' first I/O threads, for zmq_io_find.
std::mutex loops_sync;
std::map<const zmq::thread_ctx_t *, zmq::shared_poller_t *> loops;
}

struct zmq::shared_poller_t::source_t
{
    int fd;
    // What its sink waits for, and what the kernel knows of.
    unsigned wanted, registered;
    // None once it has been removed.
    i_poll_events *sink;
    // Whether to tell the kernel late: out_event may be called although the socket may not take anything.
    bool is_engine;
    // Whether it is in the list of those that have changed.
    bool changed;
    // Of the mailbox that it is the descriptor of, if that is quiet.
    quiet_signaler_t *signaler;
};

zmq::shared_poller_t::shared_poller_t (const thread_ctx_t &ctx) :
    worker_poller_base_t (ctx),
    _owner (ctx),
    _epoll (epoll_create1 (EPOLL_CLOEXEC)),
    _bell (eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK)),
    _runner (nobody),
    _visits (0),
    _waiting (0),
    _followers (0),
    _resting (false),
    _recalled (false)
{
    errno_assert (_epoll != -1 && _bell != -1);
    epoll_event event = epoll_event ();
    event.events = EPOLLIN;
    errno_assert (epoll_ctl (_epoll, EPOLL_CTL_ADD, _bell, &event) == 0);
}

zmq::shared_poller_t::~shared_poller_t ()
{
    stop_worker ();
    {
        std::lock_guard<std::mutex> lock (loops_sync);
        for (auto it = loops.begin (); it != loops.end (); ++it)
            if (it->second == this) {
                loops.erase (it);
                break;
            }
    }
    for (source_t *source : _removed)
        delete source;
    close (_bell);
    close (_epoll);
}

void zmq::shared_poller_t::start (const char *name)
{
    if (name && strcmp (name, "IO/0") == 0) {
        std::lock_guard<std::mutex> lock (loops_sync);
        loops[&_owner] = this;
    }
    worker_poller_base_t::start (name);
}

zmq::shared_poller_t::handle_t zmq::shared_poller_t::add_fd (fd_t fd, i_poll_events *sink)
{
    const bool is_engine = !as_published.load () && dynamic_cast<stream_engine_base_t *> (sink) != NULL;
    source_t *source = new source_t{fd, 0, 0, sink, is_engine, false, quiet_signaler_of (sink)};
    epoll_event event = epoll_event ();
    event.data.ptr = source;
    errno_assert (epoll_ctl (_epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    if (source->signaler)
        _mailboxes.push_back (source);
    adjust_load (1);
    return source;
}

zmq::quiet_signaler_t *zmq::shared_poller_t::quiet_signaler_of (i_poll_events *sink)
{
    if (as_published.load ())
        return NULL;
    if (io_thread_t *thread = dynamic_cast<io_thread_t *> (sink)) {
        // Called by the thread's constructor: nobody can send yet.
        quiet_signaler_t &signaler = thread->get_mailbox ()->signaler ();
        signaler.make_quiet ();
        return &signaler;
    }
    socket_base_t *socket = dynamic_cast<socket_base_t *> (sink);
    if (!socket || socket->is_thread_safe ())
        return NULL;
    quiet_signaler_t &signaler = static_cast<mailbox_t *> (socket->get_mailbox ())->signaler ();
    return signaler.is_quiet () ? &signaler : NULL;
}

void zmq::shared_poller_t::rm_fd (handle_t handle)
{
    source_t *source = static_cast<source_t *> (handle);
    errno_assert (epoll_ctl (_epoll, EPOLL_CTL_DEL, source->fd, NULL) == 0);
    if (source->signaler) {
        source->signaler->disarm ();
        source->signaler = NULL;
        _mailboxes.erase (std::find (_mailboxes.begin (), _mailboxes.end (), source));
    }
    source->sink = NULL;
    _removed.push_back (source);
    adjust_load (-1);
}

void zmq::shared_poller_t::change (handle_t handle, unsigned set, unsigned reset)
{
    source_t *source = static_cast<source_t *> (handle);
    source->wanted = (source->wanted | set) & ~reset;
    if (!source->is_engine)
        return apply (source);
    if (!source->changed) {
        source->changed = true;
        _changed.push_back (source);
    }
}

// Tells the kernel what the source waits for.
void zmq::shared_poller_t::apply (source_t *source)
{
    if (source->wanted == source->registered)
        return;
    source->registered = source->wanted;
    epoll_event event = epoll_event ();
    event.events = source->wanted;
    event.data.ptr = source;
    errno_assert (epoll_ctl (_epoll, EPOLL_CTL_MOD, source->fd, &event) == 0);
}

void zmq::shared_poller_t::push ()
{
    for (size_t i = 0; i < _mailboxes.size (); ++i)
        if (_mailboxes[i]->signaler->sent ())
            // May remove any of them, after which the next is found by the next push.
            _mailboxes[i]->sink->in_event ();
    // An engine that has just written everything waits until it may write, to find that there is nothing left. It is
    // asked at once, which saves two changes in the kernel for each message.
    for (size_t i = 0; i < _changed.size (); ++i) {
        source_t *source = _changed[i];
        if (source->sink && (source->wanted & ~source->registered & EPOLLOUT))
            source->sink->out_event ();
        source->changed = false;
        if (source->sink)
            apply (source);
    }
    _changed.clear ();
    free_removed ();
}

void zmq::shared_poller_t::set_pollin (handle_t handle) { change (handle, EPOLLIN, 0); }
void zmq::shared_poller_t::reset_pollin (handle_t handle) { change (handle, 0, EPOLLIN); }
void zmq::shared_poller_t::set_pollout (handle_t handle) { change (handle, EPOLLOUT, 0); }
void zmq::shared_poller_t::reset_pollout (handle_t handle) { change (handle, 0, EPOLLOUT); }

bool zmq::shared_poller_t::arm ()
{
    push ();
    for (source_t *source : _mailboxes)
        if (!source->signaler->arm ())
            return false;
    return true;
}

void zmq::shared_poller_t::disarm ()
{
    for (source_t *source : _mailboxes)
        source->signaler->disarm ();
}

int zmq::shared_poller_t::serve (int timeout_ms)
{
    if (timeout_ms == 0)
        push ();
    // Without anything to poll it ends: no event would interrupt the sleep.
    else if (!arm () || get_load () == 0)
        timeout_ms = 0;
    epoll_event ready[max_events];
    const int count = epoll_wait (_epoll, ready, max_events, timeout_ms);
    errno_assert (count >= 0 || errno == EINTR);
    disarm ();
    int served = 0;
    for (int i = 0; i < count; ++i) {
        source_t *source = static_cast<source_t *> (ready[i].data.ptr);
        if (!source) {
            uint64_t rung;
            (void) !read (_bell, &rung, sizeof rung);
            continue;
        }
        if (source->signaler)
            continue;
        ++served;
        const unsigned what = ready[i].events;
        if (source->sink && (what & (EPOLLERR | EPOLLHUP)))
            source->sink->in_event ();
        if (source->sink && (what & EPOLLOUT))
            source->sink->out_event ();
        if (source->sink && (what & EPOLLIN))
            source->sink->in_event ();
    }
    push ();
    return served;
}

void zmq::shared_poller_t::free_removed ()
{
    for (source_t *source : _removed)
        delete source;
    _removed.clear ();
}

void zmq::shared_poller_t::loop ()
{
    while (keep ())
        await_absence ();
}

// Runs the loop until a thread waits to enter. Returns false once there is nothing left to do for ever.
bool zmq::shared_poller_t::keep ()
{
    runner_t was = nobody;
    if (_waiting.load () > 0 || !_runner.compare_exchange_strong (was, keeper))
        return true;
    bool ended;
    do {
        const int timer = next_timer ();
        ended = get_load () == 0 && timer == 0;
        if (!ended)
            serve (timer ? timer : -1);
    } while (!ended && _waiting.load () == 0);
    std::lock_guard<std::mutex> lock (_sync);
    _runner.store (nobody);
    _for_guest.notify_all ();
    return !ended;
}

// Sleeps until nobody has run the loop for a tick, or the keeper is to go on at once.
void zmq::shared_poller_t::await_absence ()
{
    std::unique_lock<std::mutex> lock (_sync);
    unsigned visits = _visits.load ();
    int quiet = 0;
    while (!_recalled) {
        if (quiet == ticks_before_rest) {
            _resting.store (true);
            // Whoever leaves after this load sees that the keeper rests.
            if (_runner.load () == guest)
                _for_keeper.wait (lock, [this] { return !_resting.load (); });
            _resting.store (false);
            quiet = 0;
            continue;
        }
        _for_keeper.wait_for (lock, tick, [this] { return _recalled; });
        const unsigned before = visits;
        visits = _visits.load ();
        const runner_t runner = _runner.load ();
        if (visits != before)
            quiet = 0;
        else if (runner == guest)
            ++quiet;
        else
            break;
    }
    _recalled = false;
}

bool zmq::shared_poller_t::try_enter ()
{
    runner_t was = nobody;
    return _runner.compare_exchange_strong (was, guest);
}

bool zmq::shared_poller_t::enter ()
{
    if (try_enter ())
        return true;
    if (_runner.load () == guest)
        return false;
    // While somebody waits, the keeper does not begin again.
    _waiting.fetch_add (1);
    const uint64_t one = 1;
    (void) !write (_bell, &one, sizeof one);
    {
        std::unique_lock<std::mutex> lock (_sync);
        _for_guest.wait_for (lock, patience, [this] { return _runner.load () != keeper; });
    }
    const bool entered = try_enter ();
    _waiting.fetch_sub (1);
    return entered;
}

void zmq::shared_poller_t::leave ()
{
    disarm ();
    _visits.fetch_add (1);
    _runner.store (nobody);
    const bool followed = _followers.load () > 0;
    if (followed || _resting.load ())
        wake_keeper (followed);
}

void zmq::shared_poller_t::follow ()
{
    _followers.fetch_add (1);
    // Whoever leaves after this load sees the follower.
    if (_runner.load () == nobody)
        recall ();
}

void zmq::shared_poller_t::wake_keeper (bool recall)
{
    std::lock_guard<std::mutex> lock (_sync);
    _resting.store (false);
    _recalled = _recalled || recall;
    _for_keeper.notify_one ();
}

void zmq::shared_poller_t::be_as_published ()
{
    as_published.store (true);
}

extern "C" {
void zmq_io_be_as_published () { zmq::shared_poller_t::be_as_published (); }
// The loop of a socket's context. It lives as long as the context.
void *zmq_io_find (void *socket)
{
    const zmq::thread_ctx_t *owner = static_cast<zmq::socket_base_t *> (socket)->get_ctx ();
    std::lock_guard<std::mutex> lock (loops_sync);
    auto found = loops.find (owner);
    return found == loops.end () ? NULL : found->second;
}
int zmq_io_enter (void *loop) { return static_cast<zmq::shared_poller_t *> (loop)->enter (); }
int zmq_io_try_enter (void *loop) { return static_cast<zmq::shared_poller_t *> (loop)->try_enter (); }
void zmq_io_leave (void *loop) { static_cast<zmq::shared_poller_t *> (loop)->leave (); }
void zmq_io_recall (void *loop) { static_cast<zmq::shared_poller_t *> (loop)->recall (); }
void zmq_io_push (void *loop) { static_cast<zmq::shared_poller_t *> (loop)->push (); }
void zmq_io_follow (void *loop) { static_cast<zmq::shared_poller_t *> (loop)->follow (); }
void zmq_io_unfollow (void *loop) { static_cast<zmq::shared_poller_t *> (loop)->unfollow (); }
int zmq_io_pass (void *loop) { return static_cast<zmq::shared_poller_t *> (loop)->pass (); }
int zmq_io_arm (void *loop) { return static_cast<zmq::shared_poller_t *> (loop)->arm (); }
int zmq_io_descriptor (void *loop) { return static_cast<zmq::shared_poller_t *> (loop)->descriptor (); }
int zmq_io_timer (void *loop) { return static_cast<zmq::shared_poller_t *> (loop)->next_timer (); }
}
