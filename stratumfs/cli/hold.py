"""Staying in the foreground: the command holds its door and closes that one, and no other, when it is interrupted."""

import signal
from types import FrameType

from stratumfs.cli.command import complain
from stratumfs.cli.exit import Exit
from stratumfs.owner.client import Owner


class _InterruptedError(Exception):
    """SIGTERM or SIGINT."""


def wait_for_end(owner: Owner, name: str, announcement: str = "") -> Exit:
    """Wait until the held door is closed, by whomever; on SIGTERM or SIGINT ask for it.

    announcement: said on standard output once signals are heeded, for those who wait for it to send one.
    """

    def interrupt(_: int, __: FrameType | None) -> None:
        # Only once: the closing itself is not to be interrupted half way, though the terminal may try.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise _InterruptedError

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        if announcement:
            print(announcement, flush=True)
        reason = owner.wait_ended()
    except _InterruptedError:
        owner.let_go()
        reason = owner.wait_ended(lambda text: complain(name, text))
    if reason:
        complain(name, reason)
        return Exit.SYSTEM
    return Exit.OK
