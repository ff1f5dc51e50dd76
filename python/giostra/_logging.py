"""Log lines of the native part, handed on to `logging`."""

from __future__ import annotations

import atexit
import logging
import os
import threading

from giostra import _native

_thread: threading.Thread | None = None
_lock = threading.Lock()


def start() -> None:
    """Has lines of the native part come to the logger ``giostra``, from its level on."""
    global _thread
    with _lock:
        _native.log_level(logging.getLogger("giostra").getEffectiveLevel())
        if _thread is None:
            _thread = threading.Thread(target=_hand_on, name="giostra-log", daemon=True)
            _thread.start()
            atexit.register(stop)


def _forked() -> None:
    global _thread
    _thread = None


# The thread is the parent's.
os.register_at_fork(after_in_child=_forked)


def stop() -> None:
    """Hands on what there is, and ends."""
    _native.log_close()
    if _thread is not None:
        _thread.join(1.0)


def _hand_on() -> None:
    while (lines := _native.log_lines()) is not None:
        for level, target, text in lines:
            name = target if target == "giostra" or target.startswith("giostra.") else f"giostra.{target}"
            logging.getLogger(name).log(level, "%s", text)
