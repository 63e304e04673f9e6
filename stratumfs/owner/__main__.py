"""The owner's process: ``python -m stratumfs.owner STORE``, started by a command and by nobody else.

The command has forked and exec'ed already, before any database connection existed; here only the rest of what makes a
daemon happens: root directory, umask, a standard error that nobody reads.
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

import trio

from stratumfs.owner.allocator import keep_freed_memory
from stratumfs.owner.descriptors import raise_limit
from stratumfs.owner.garbage import collect_rarely
from stratumfs.owner.run import main


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stratumfs.owner", description=__doc__)
    parser.add_argument(
        "--first-client", type=int, metavar="FD", help="a connected socket: the first request comes on it"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the log there")
    parser.add_argument("store", type=Path, metavar="STORE", help="the store's folder")
    return parser.parse_args()


async def run(options: argparse.Namespace) -> int:
    client = None
    if options.first_client is not None:
        end = socket.socket(fileno=options.first_client)
        end.setblocking(False)
        client = trio.SocketStream(trio.socket.from_stdlib_socket(end))
    return await main(options.store, client, options.log)


def start() -> int:
    options = arguments()
    keep_freed_memory()
    os.chdir("/")
    os.umask(0o077)
    raise_limit()
    collect_rarely()
    # A terminal that goes away is none of our business; the session is our own already.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return trio.run(run, options)


if __name__ == "__main__":
    sys.exit(start())
