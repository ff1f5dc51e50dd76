"""An interactive session, IPython in a terminal: Ctrl-C comes back at once, and cancels."""

from __future__ import annotations

import sys
import time

import pexpect
import pytest
from conftest import System


@pytest.mark.parametrize(
    "waits",
    [
        'c.call("until_cancelled", "a")',
        'list(c.map("until_cancelled", "abc"))',
        'f = c.submit("until_cancelled", "a"); f.result()',
    ],
)
def test_ctrl_c_in_ipython_returns_to_the_prompt_and_the_client_goes_on(system: System, waits: str) -> None:
    system.worker()
    options = ["-m", "IPython", "--no-banner", "--simple-prompt", "--no-confirm-exit", "--HistoryManager.enabled=False"]
    session = pexpect.spawn(
        sys.executable, options, encoding="utf8", timeout=20, dimensions=(24, 200), env=system.variables()
    )
    try:
        session.expect(r"In \[1\]:")
        session.sendline("import giostra; c = giostra.Client()")
        session.expect(r"In \[2\]:")
        session.sendline(waits)
        # It waits once the worker has it.
        with system.client() as client:
            while client.status()["in_flight"] == 0:
                time.sleep(0.02)
        began = time.monotonic()
        session.sendintr()
        session.expect("KeyboardInterrupt")
        session.expect(r"In \[3\]:")
        assert time.monotonic() - began < 5
        session.sendline(("f.cancel(); " if "f =" in waits else "") + 'print("sum", c.call("add", 1, 2))')
        session.expect("sum 3")
        session.sendline("exit")
        session.expect(pexpect.EOF)
    finally:
        session.close(force=True)
    assert session.exitstatus == 0
