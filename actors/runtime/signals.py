"""Signals that end a training run or an evaluation: Ctrl-C, SIGTERM, a closed terminal."""

import asyncio
import os
import signal
from collections.abc import Callable

from uec.errors import EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM
from uec.system.process_env import discard_output

STATUS = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM, signal.SIGHUP: EXIT_SIGHUP}
"""Exit status after each signal."""


def listen(interrupt: Callable[[signal.Signals], bool]) -> None:
    """Call `interrupt` at Ctrl-C, SIGTERM and a closed terminal. If it returns False, there is nothing to wait for: cancel the run at once.

    A run under nohup goes on when its terminal is closed. A hang-up may come twice, from shell and terminal, and counts once.
    """
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    closed = False
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def heard(signum: signal.Signals) -> None:
        nonlocal closed
        if signum is signal.SIGHUP:
            if closed:
                return
            closed = True
            for descriptor in terminals:
                discard_output(descriptor)
        if not interrupt(signum):
            main.cancel()

    for signum in STATUS:
        if signum is not signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            loop.add_signal_handler(signum, heard, signum)
