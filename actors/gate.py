"""Many callers at once, or one alone: requests of an engine beside each other, a weight update without any."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Many callers run at once, or one alone."""

    def __init__(self) -> None:
        self._running = 0
        self._open = asyncio.Event()
        self._idle = asyncio.Event()
        self._alone = asyncio.Lock()
        self._open.set()
        self._idle.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Wait for the one who is alone, or wants to be, then run beside all others."""
        while not self._open.is_set():
            await self._open.wait()
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Let nobody in any more, and wait for those inside."""
        async with self._alone:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()
