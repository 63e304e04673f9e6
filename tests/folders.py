"""Folders of devices whose owner lives."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def empty(folder: Path, *, cut: bool = False) -> None:
    """As a new disk in the old one's place is: what was in it is gone, though its owner renames and adds meanwhile.

    cut  not even who has a file open reads what was in it
    """
    while os.listdir(folder):
        for top, folders, names in os.walk(folder, topdown=False):
            for name in names:
                with suppress(FileNotFoundError):
                    path = os.path.join(top, name)
                    if cut and stat.S_ISREG(os.lstat(path).st_mode):
                        os.truncate(path, 0)
                    os.unlink(path)
            for name in folders:
                with suppress(OSError):  # somebody has added to it
                    os.rmdir(os.path.join(top, name))
