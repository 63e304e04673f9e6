"""Keeps the moment of a namespace image out of the time between a table that tells of rows, and these rows.

A rebuild asks only tables that are younger than the image that it begins with. That of an object in somebody's S3 is
written before any row names it, and its upload takes long: an image of meanwhile would be younger than the table, and
not have what it tells of.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


class Naming:
    """One a store. Who wants an image waits for those who have begun, and those who come then wait for it."""

    def __init__(self) -> None:
        self._begun = 0
        self._changed = trio.Event()
        self._image = trio.Lock()
        self.wanted = False

    async def begin(self) -> None:
        """What is planned from now on, rows will say soon. Ends with `end`."""
        while self.wanted:
            await self._changed.wait()
        self._begun += 1

    def end(self) -> None:
        """Rows say it, or never will."""
        self._begun -= 1
        self._tell()

    @asynccontextmanager
    async def nothing_begun(self) -> AsyncGenerator[None, None]:
        """As long as this lasts."""
        async with self._image:
            self.wanted = True
            try:
                while self._begun:
                    await self._changed.wait()
                yield
            finally:
                self.wanted = False
                self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
