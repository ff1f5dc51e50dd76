// The mailboxes through which libzmq's threads send each other commands, with a signaler that makes no system call
// where no reader sleeps.
//
// build.rs forces this header in front of every file of libzmq, where it takes the place of libzmq's own mailbox.hpp.
// libzmq's mailbox.cpp implements the class that it declares.
#if defined __cplusplus && !defined __ZMQ_MAILBOX_HPP_INCLUDED__ && __has_include("i_mailbox.hpp")
#define __ZMQ_MAILBOX_HPP_INCLUDED__

#include "common.hpp"
#include "precompiled.hpp"

#include "command.hpp"
#include "config.hpp"
#include "fd.hpp"
#include "i_mailbox.hpp"
#include "mutex.hpp"
#include "signaler.hpp"
#include "ypipe.hpp"

namespace zmq
{
// A mailbox's signaler. If it is quiet, a signal is a flag, and makes the descriptor readable only while the reader is
// armed: about to sleep on the descriptor, or asleep. A thread that is its own mailbox's reader makes no system call.
class quiet_signaler_t
{
  public:
    quiet_signaler_t () : _quiet (false), _is_arming (false), _sent (false), _armed (false) {}

    fd_t get_fd () const { return _signaler.get_fd (); }
    bool valid () const { return _signaler.valid (); }
    void send ();
    int wait (int timeout_ms);
    int recv_failable ();

    // Only before another thread can send.
    void make_quiet () { _quiet = true; }
    bool is_quiet () const { return _quiet; }
    // Whether there is a signal. For the reader of a quiet one, like the following.
    bool sent () const { return _sent.load (); }
    // Makes the descriptor readable by the next signal. Returns false, and does nothing, if there is one already.
    bool arm ();
    // Ends what arm has begun, if it has.
    void disarm ();

  private:
    signaler_t _signaler;
    bool _quiet;
    // Whether the reader has armed it and not disarmed it since. A sender takes _armed away when it writes.
    bool _is_arming;
    std::atomic<bool> _sent, _armed;
};

// libzmq's mailbox.hpp, with that signaler. libzmq's mailbox.cpp implements it.
class mailbox_t ZMQ_FINAL : public i_mailbox
{
  public:
    mailbox_t ();
    ~mailbox_t ();

    fd_t get_fd () const;
    void send (const command_t &cmd_);
    int recv (command_t *cmd_, int timeout_);
    bool valid () const;
    quiet_signaler_t &signaler () { return _signaler; }

  private:
    typedef ypipe_t<command_t, command_pipe_granularity> cpipe_t;
    cpipe_t _cpipe;
    quiet_signaler_t _signaler;
    mutex_t _sync;
    bool _active;

    ZMQ_NON_COPYABLE_NOR_MOVABLE (mailbox_t)
};
}

#endif
