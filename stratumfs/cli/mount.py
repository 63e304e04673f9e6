"""mount.stratumfs(8): mount a store; also what mount(8) and fstab call."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit, exit_code
from stratumfs.cli.hold import wait_for_end
from stratumfs.cli.mount_options import MountOptions, parse_options
from stratumfs.errors import ConfigError
from stratumfs.owner import client, credentials, locate
from stratumfs.owner.messages import STDERR, OpenGateway, OpenMount
from stratumfs.owner.mounts import SUBTYPE, check_allow_other, check_mount_point, mount_at

NAME = "mount.stratumfs"
TYPES = (SUBTYPE, f"fuse.{SUBTYPE}")

app = command.make_app(
    NAME,
    f"Usage: {NAME} [STORE] MOUNTPOINT [-sfnv] [-o OPTIONS] [--log FILE] [-N NAMESPACE] [-t TYPE]",
    "Mount a store. STORE is its folder, or any of its devices where that is lost. Returns when the mount answers.\n\n"
    "With a mount point alone, typed at a terminal, the store in the default place is made if there is none.",
    """
    mount.stratumfs /mnt/stratum
    mount.stratumfs /srv/store /mnt/stratum
    mount.stratumfs /srv/store /mnt/stratum -o ro,allow_other
    mount.stratumfs /srv/store /mnt/stratum -o gateway=127.0.0.1:9000
    mount -t stratumfs /srv/store /mnt/stratum
""",
)


@app.default
def mount(
    store: Annotated[Path, Parameter(name="STORE", help="The store; left out, the one in the default place.")],
    mountpoint: Annotated[Path | None, Parameter(name="MOUNTPOINT", help="An empty directory.")] = None,
    /,
    *,
    options: Annotated[
        list[str] | None,
        Parameter(name=["-o", "--options"], negative="", consume_multiple=False, help="Options, separated by commas."),
    ] = None,
    foreground: Annotated[
        bool,
        Parameter(name=["-f", "--foreground"], negative="", help="Stay, and unmount when interrupted."),
    ] = False,
    log: Annotated[
        Path | None, Parameter(name="--log", help="Write the log to this file instead of the journal.")
    ] = None,
    sloppy: Annotated[bool, Parameter(name="-s", negative="", help="Ignore unknown options.")] = False,
    no_mtab: Annotated[
        bool, Parameter(name="-n", negative="", help="Accepted for mount(8); there is no mtab.")
    ] = False,
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="", help="Say what is done.")] = False,
    namespace: Annotated[
        str | None, Parameter(name="-N", help="Accepted for mount(8): this mount namespace, no other.")
    ] = None,
    kind: Annotated[str, Parameter(name="-t", help="Accepted for mount(8): stratumfs.")] = SUBTYPE,
) -> Exit:
    """Called by cyclopts with what was typed."""
    del no_mtab
    if kind not in TYPES:
        raise ConfigError(f"type {kind!r} is not one of this command: {', '.join(TYPES)}")
    _check_namespace(namespace)
    wanted = parse_options(options or [], sloppy=sloppy)
    folder, point = _store_and_point(store, mountpoint)
    _clear_dead_mount(folder, point)
    check_mount_point(point, nonempty=wanted.nonempty)
    if wanted.allow_other:
        check_allow_other()
    if foreground and _called_by_mount():
        return Exit.OK  # mount(8)'s own -f: all checks, no mount
    request = _request(point, wanted, hold=foreground)
    destination = log or wanted.log or (STDERR if foreground else None)
    report = lambda text: command.complain(NAME, text)  # noqa: E731
    owner, _ = client.ask(folder, request, start_owner=True, log=_absolute(destination), report=report)
    with owner:
        _check_answers(point)
        said = f"{NAME}: {folder} is mounted on {point}" if verbose else ""
        if foreground:
            return wait_for_end(owner, NAME, said)
        if said:
            print(said)
        return Exit.OK


def _store_and_point(first: Path, second: Path | None) -> tuple[Path, Path]:
    """The store's folder and the mount point, absolute; the default store is made here, if it may be."""
    point = Path(os.path.realpath(second if second is not None else first))
    if second is not None:
        return locate.store_folder(first), point
    folder = locate.default_folder()
    if not locate.is_store(folder):
        if not sys.stdin.isatty():
            raise ConfigError(
                f"no store is named, and there is none in {folder}; one is made there only when this is typed at a "
                f"terminal (mkfs.stratumfs makes one anywhere)"
            )
        check_mount_point(point)
        _make_default(folder)
    return locate.store_folder(folder), point


def _make_default(folder: Path) -> None:
    from stratumfs.owner import create  # the catalog is needed only here

    environment = credentials.from_environment(os.environ)
    create.make_embedded(folder, environment or credentials.make())
    print(f"{NAME}: made a store in {folder}, its six devices in {folder / 'devices'}")
    command.complain(
        NAME,
        "warning: six folders on one disk protect from bit rot and mistakes, not from the disk's death; "
        "mkfs.stratumfs makes a store over several disks",
    )


def _request(point: Path, wanted: MountOptions, *, hold: bool) -> OpenMount:
    gateway = None
    if wanted.gateway is not None:
        gateway = OpenGateway(
            listen=(wanted.gateway,),
            tls_certificate=wanted.tls_certificate,
            tls_key=wanted.tls_key,
            credentials=credentials.from_environment(os.environ),
        )
    return OpenMount(
        mountpoint=str(point),
        read_only=wanted.read_only,
        allow_other=os.geteuid() == 0 if wanted.allow_other is None else wanted.allow_other,
        published=wanted.published,
        options=wanted.kernel,
        gateway=gateway,
        hold=hold,
    )


def _check_namespace(namespace: str | None) -> None:
    """A daemon cannot mount into somebody else's namespace; in its own it may be named."""
    if namespace is None:
        return
    path = f"/proc/{namespace}/ns/mnt" if namespace.isdigit() else namespace
    if not os.path.exists(path) or not os.path.samestat(os.stat(path), os.stat("/proc/self/ns/mnt")):
        raise ConfigError(f"-N {namespace} is another mount namespace: run this command inside it with nsenter(1)")


def _clear_dead_mount(folder: Path, point: Path) -> None:
    """Take away what a killed owner of this very store left: a mount that answers nobody any more.

    An owner that lives by now, for a gateway, does not make it answer.
    """
    there = mount_at(point)
    if there is None or not there.ours or there.store != folder:
        return
    try:
        os.statvfs(point)  # always asks; stat(2) may be answered by what the kernel remembers
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            return
        subprocess.run(["fusermount3", "-u", "-z", "--", str(point)], check=False, capture_output=True)  # noqa: S603, S607


def _check_answers(point: Path) -> None:
    """Ask the new mount something, as its users will."""
    there = mount_at(point)
    if there is None or not there.ours:
        raise OSError(errno.EIO, "the mount is not there although its owner said so", str(point))
    os.statvfs(point)


def _called_by_mount() -> bool:
    """mount(8) hands its own -f ("fake": do everything but mount) on to helpers under the same letter."""
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text().strip() == "mount"
    except OSError:
        return False


def _absolute(path: Path | None) -> Path | None:
    return path if path is None or path == STDERR else path.absolute()


def _mount_code(error: BaseException) -> Exit:
    """mount(8) knows fewer codes: what is not bad use, the system, a bug or a signal is a mount failure."""
    code = exit_code(error)
    return code if code in (Exit.USAGE, Exit.SYSTEM, Exit.INTERNAL, Exit.INTERRUPTED) else Exit.MOUNT


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments, _mount_code)
