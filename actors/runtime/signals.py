"""How a training run and an evaluation are asked to end: Ctrl-C, SIGTERM, a closed terminal."""

import asyncio
import os
import signal
from collections.abc import Callable

from uec.errors import EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM
from uec.system.process_env import discard_output

STATUS = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM, signal.SIGHUP: EXIT_SIGHUP}
"""Exit status of what ended for a signal."""


def listen(interrupt: Callable[[signal.Signals], bool]) -> None:
    """Ctrl-C, SIGTERM and a closed terminal call `interrupt`; where it says that there is nothing to wait for, the run ends at once.

    What was started under nohup stays when its terminal is closed. A hang-up may come twice, from shell and terminal: it counts once.
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
