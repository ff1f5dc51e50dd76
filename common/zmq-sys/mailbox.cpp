// See mailbox.hpp.
#include "mailbox.hpp"
#include "poller.hpp"

#include <errno.h>

#include "socket_base.hpp"

void zmq::quiet_signaler_t::send ()
{
    if (!_quiet)
        return _signaler.send ();
    _sent.store (true);
    if (_armed.load () && _armed.exchange (false))
        _signaler.send ();
}

int zmq::quiet_signaler_t::wait (int timeout_ms)
{
    if (!_quiet)
        return _signaler.wait (timeout_ms);
    if (_sent.load ())
        return 0;
    errno = EAGAIN;
    if (timeout_ms != 0 && arm ()) {
        _signaler.wait (timeout_ms);
        const int error = errno;
        disarm ();
        errno = error;
    }
    return _sent.load () ? 0 : -1;
}

int zmq::quiet_signaler_t::recv_failable ()
{
    if (!_quiet)
        return _signaler.recv_failable ();
    _sent.store (false);
    return 0;
}

bool zmq::quiet_signaler_t::arm ()
{
    disarm ();
    _is_arming = true;
    _armed.store (true);
    // Whoever sends after this load sees that the reader is armed.
    if (!_sent.load ())
        return true;
    disarm ();
    return false;
}

void zmq::quiet_signaler_t::disarm ()
{
    if (!_is_arming)
        return;
    _is_arming = false;
    if (_armed.exchange (false))
        return;
    // A sender has written, or is about to.
    while (_signaler.recv_failable () != 0)
        _signaler.wait (-1);
}

extern "C" {
// The mailbox of a socket. All sockets here have one: those with another kind can be used by several threads.
static zmq::quiet_signaler_t &signaler_of (void *socket)
{
    return static_cast<zmq::mailbox_t *> (static_cast<zmq::socket_base_t *> (socket)->get_mailbox ())->signaler ();
}
void zmq_io_make_quiet (void *socket) { signaler_of (socket).make_quiet (); }
int zmq_io_arm_socket (void *socket) { return signaler_of (socket).arm (); }
void zmq_io_disarm_socket (void *socket) { signaler_of (socket).disarm (); }
int zmq_io_has_news (void *socket) { return signaler_of (socket).sent (); }
}
