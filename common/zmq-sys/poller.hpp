// A poller for libzmq's I/O threads whose loop other threads may run: a thread that would otherwise sleep and be woken by
// the I/O thread does the I/O itself.
//
// build.rs forces this header in front of every file of libzmq (`-include`), where it takes the place of libzmq's own
// poller.hpp: the source of libzmq is as published. poller_base.hpp documents the concept that the class fulfils.
#if defined __cplusplus && !defined __ZMQ_POLLER_HPP_INCLUDED__ && __has_include("poller_base.hpp")
#define __ZMQ_POLLER_HPP_INCLUDED__
// Leaves libzmq's epoll.cpp empty.
#undef ZMQ_IOTHREAD_POLLER_USE_EPOLL

#include "common.hpp"
#include "precompiled.hpp"

#include "fd.hpp"
#include "poller_base.hpp"

namespace zmq
{
class quiet_signaler_t;
struct i_poll_events;

// One thread at a time runs the loop: libzmq's own (its keeper), or one that has entered. The keeper runs it until a
// thread enters. From then on it sleeps, and takes the loop back when nobody has entered for a tick: a thread that
// leaves to compute owes nobody a call. While a thread stays inside, the keeper rests and costs nothing.
class shared_poller_t ZMQ_FINAL : public worker_poller_base_t
{
  public:
    typedef void *handle_t;

    explicit shared_poller_t (const thread_ctx_t &ctx);
    ~shared_poller_t ();

    handle_t add_fd (fd_t fd, i_poll_events *sink);
    void rm_fd (handle_t handle);
    void set_pollin (handle_t handle);
    void reset_pollin (handle_t handle);
    void set_pollout (handle_t handle);
    void reset_pollout (handle_t handle);
    void start (const char *name = NULL);
    void stop () {}
    static int max_fds () { return -1; }

    // For comparisons: contexts that are created afterwards do all that libzmq's own poller and mailboxes do.
    static void be_as_published ();

    // Makes the caller the one that runs the loop, until it leaves. Returns false if another thread has entered.
    bool enter ();
    // The same, but does not ask the keeper to step aside.
    bool try_enter ();
    // Ends what enter has begun.
    void leave ();
    // Lets the keeper run the loop at once, if nobody is inside.
    void recall () { wake_keeper (true); }
    // While somebody follows, who waits for what the loop brings without running it, the loop is never left alone: the
    // keeper goes on as soon as the one inside leaves.
    void follow ();
    void unfollow () { _followers.fetch_sub (1); }
    // The following are for the thread that has entered.
    // Sends what sockets have handed over, without looking for what has arrived.
    void push ();
    // Handles what is due, without sleeping. Returns how many descriptors were ready.
    int pass () { return serve (0); }
    // Makes the descriptor readable when something is due, until the next pass. Returns false if something is due now.
    bool arm ();
    int descriptor () const { return _epoll; }
    // Executes the timers that are due. Returns the milliseconds to the next one; 0 without one.
    int next_timer () { return static_cast<int> (execute_timers ()); }

  private:
    enum runner_t
    {
        nobody,
        keeper,
        guest
    };
    struct source_t;

    void loop ();
    bool keep ();
    void await_absence ();
    void wake_keeper (bool recall);
    int serve (int timeout_ms);
    void disarm ();
    static quiet_signaler_t *quiet_signaler_of (i_poll_events *sink);
    void change (handle_t handle, unsigned set, unsigned reset);
    void apply (source_t *source);
    void free_removed ();

    const thread_ctx_t &_owner;
    int _epoll;
    // Sources that are the descriptors of quiet mailboxes: the I/O thread's; in the reaper, those of closed sockets.
    std::vector<source_t *> _mailboxes;
    // Engines that wait for other events than the kernel knows of.
    std::vector<source_t *> _changed;
    // Interrupts the keeper's sleep in the loop.
    int _bell;
    // Sources that were removed while a pass may still refer to them.
    std::vector<source_t *> _removed;

    std::atomic<runner_t> _runner;
    // How often a thread has left.
    std::atomic<unsigned> _visits;
    // Threads that wait for the keeper to step aside.
    std::atomic<int> _waiting;
    std::atomic<int> _followers;
    // Whether the keeper sleeps without a limit.
    std::atomic<bool> _resting;
    // For sleeping: the keeper and those that wait for it.
    std::mutex _sync;
    std::condition_variable _for_keeper, _for_guest;
    bool _recalled;
};

typedef shared_poller_t poller_t;
}

#endif
