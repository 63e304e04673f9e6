"""What this process has open."""

import os
import re
from collections import Counter
from pathlib import Path

_NUMBERED = re.compile(r"(\.\d+|:\[\d+\])$")
"""A copy's log has another number behind each checkpoint, a socket or pipe each time."""


def files() -> Counter[str]:
    """Files and sockets, by name. A shard that is open for reading is kept so, once: such do not count."""
    counts, kept = Counter[str](), set[str]()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
            flags = int(Path(f"/proc/self/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
        except OSError:
            continue  # that of the listing itself, or one that a thread has closed by now
        if "/volumes/" in target and flags & os.O_ACCMODE == os.O_RDONLY and target not in kept:
            kept.add(target)
        elif not target.startswith("/proc/"):
            counts[_NUMBERED.sub("", target)] += 1
    return counts
