"""What goes over the control socket: JSON, one message a line, tagged by ``do`` (requests) and ``is`` (answers).

A connection carries one request at a time. Its answers are any number of ``progress`` lines and then one ``done`` or
``failed``. A door that was opened with ``hold`` belongs to its connection: it is closed when the client closes its
side, and ``ended`` is the last line, whoever closed the door.
"""

from pathlib import Path
from typing import Any

import msgspec

from stratumfs import errors

LINE_BYTES_MAX = 1 << 20
"""Of one request."""
ANSWER_BYTES_MAX = 1 << 28
"""Of one answer: `explain` names up to a thousand volumes, and each of their up to 255 shards by its device's path."""
CONTROL_SOCKET = "control"
"""Its name in the store folder."""
STDERR = Path("-")
"""Given for a log file: the standard error that the owner was started with."""


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One access key and its secret."""

    access_key: str
    secret_key: str


class OpenGateway(msgspec.Struct, tag_field="do", tag="open-gateway", frozen=True, forbid_unknown_fields=True):
    """Serve S3. Empty or None: as the store's settings say; credentials None: those in the store folder."""

    listen: tuple[str, ...] = ()
    tls_certificate: str | None = None
    tls_key: str | None = None
    domains: tuple[str, ...] = ()
    credentials: Credentials | None = None
    hold: bool = False


class OpenMount(msgspec.Struct, tag_field="do", tag="open-mount", frozen=True, forbid_unknown_fields=True):
    """Mount on an absolute path; with *gateway* a gateway is opened beside it and closed with it.

    options    those that the kernel or libfuse understand, as ``noatime``
    published  close(2) starts the publication and returns (the mount option close=published)
    """

    mountpoint: str
    read_only: bool = False
    allow_other: bool = False
    published: bool = False
    options: tuple[str, ...] = ()
    gateway: OpenGateway | None = None
    hold: bool = False


class CloseDoor(msgspec.Struct, tag_field="do", tag="close", frozen=True, forbid_unknown_fields=True):
    """Close one door: a mount by its path, a gateway by an address. Answered when all that it took is safe."""

    where: str


class Status(msgspec.Struct, tag_field="do", tag="status", frozen=True, forbid_unknown_fields=True):
    pass


class Explain(msgspec.Struct, tag_field="do", tag="explain", frozen=True, forbid_unknown_fields=True):
    """Where the bytes are, and why: of an inode number, of an object or of all below ``key/``, of a bucket.

    at_ns  where they were then
    """

    inode: int | None = None
    bucket: str | None = None
    key: str | None = None
    at_ns: int | None = None


class Move(msgspec.Struct, tag_field="do", tag="move", frozen=True, forbid_unknown_fields=True):
    """Move bytes to a tier: of an inode and what lies below it, of an object or of all below ``key/``, of a bucket.

    Answered when it has ended; a client that closes its side stops it, and learns how far it came.
    """

    to: str
    inode: int | None = None
    bucket: str | None = None
    key: str | None = None
    reason: str = ""


class TierStatus(msgspec.Struct, tag_field="do", tag="tier-status", frozen=True, forbid_unknown_fields=True):
    """What lies in each tier, what it costs, and what waits to be moved."""


class TierLog(msgspec.Struct, tag_field="do", tag="tier-log", frozen=True, forbid_unknown_fields=True):
    """The newest moves between tiers that were decided or asked for: of all, or of what is named itself.

    since_ns  no older ones
    limit     no more than so many
    """

    since_ns: int = 0
    limit: int = 100
    inode: int | None = None
    bucket: str | None = None
    key: str | None = None


class TierPlan(msgspec.Struct, tag_field="do", tag="tier-plan", frozen=True, forbid_unknown_fields=True):
    """What waits to be moved, and what would be decided within *hours* if nobody came.

    limit  no more moves than so many are told one by one
    """

    hours: float = 24.0
    limit: int = 1000


class TierPin(msgspec.Struct, tag_field="do", tag="tier-pin", frozen=True, forbid_unknown_fields=True):
    """Keep what is named, and what lies below it, in a tier; *to* None: not any more."""

    to: str | None
    inode: int | None = None
    bucket: str | None = None
    key: str | None = None


class TierReport(msgspec.Struct, tag_field="do", tag="tier-report", frozen=True, forbid_unknown_fields=True):
    """What tiering cost and saved, and which bytes left the site. *since_ns*: of moves, no older ones."""

    since_ns: int = 0


class ReplaceDevice(msgspec.Struct, tag_field="do", tag="replace-device", frozen=True, forbid_unknown_fields=True):
    """Put another folder in the place of a device, and rebuild there what that one held.

    Answered when all that can be rebuilt is; it goes on if the client leaves.
    old           a path, an id, or tier:slot
    new           an absolute path
    plain_folder  also where the old one was a mount point and the new one is none
    """

    old: str
    new: str
    plain_folder: bool = False


class AddDevice(msgspec.Struct, tag_field="do", tag="add-device", frozen=True, forbid_unknown_fields=True):
    """Make an empty folder, an absolute path, one more device of a tier."""

    tier: str
    new: str


class DrainDevice(msgspec.Struct, tag_field="do", tag="drain-device", frozen=True, forbid_unknown_fields=True):
    """Make what a device holds on others; *stop*: not any more. Answered when it holds nothing that is wanted, or when
    no more can be done now; it goes on if the client leaves. *device*: a path, an id, or tier:slot."""

    device: str
    stop: bool = False


class RemoveDevice(msgspec.Struct, tag_field="do", tag="remove-device", frozen=True, forbid_unknown_fields=True):
    """A device is one of the store's no more. *force*: also one that is lost already, while what it held is not made
    elsewhere yet."""

    device: str
    force: bool = False


class AddCold(msgspec.Struct, tag_field="do", tag="add-cold", frozen=True, forbid_unknown_fields=True):
    """Add a cold tier; the fields are those of the settings, paths absolute. A key file that is not there is made."""

    to: str
    endpoint: str | None = None
    credentials: str | None = None
    key_file: str | None = None


class AddWarm(msgspec.Struct, tag_field="do", tag="add-warm", frozen=True, forbid_unknown_fields=True):
    """Make empty folders, absolute paths, the devices of a warm tier, coded k + m."""

    devices: tuple[str, ...]
    k: int
    m: int


class ClaimCold(msgspec.Struct, tag_field="do", tag="claim-cold", frozen=True, forbid_unknown_fields=True):
    """What lies in the cold tier is this store's, whoever else has written there."""


class RotateCold(msgspec.Struct, tag_field="do", tag="rotate-cold", frozen=True, forbid_unknown_fields=True):
    """Wrap the key of the cold tier by a new secret. passphrase: where there is no key file."""

    passphrase: str | None = None


class WriteImage(msgspec.Struct, tag_field="do", tag="write-image", frozen=True, forbid_unknown_fields=True):
    """Write a namespace image now; answered when every device names it."""


class DumpCatalog(msgspec.Struct, tag_field="do", tag="dump-catalog", frozen=True, forbid_unknown_fields=True):
    """Write the catalog as text to a new file, an absolute path."""

    file: str


class BackUpCatalog(msgspec.Struct, tag_field="do", tag="back-up-catalog", frozen=True, forbid_unknown_fields=True):
    """Back the catalog up: to where the settings say, or once to another target."""

    to: str | None = None
    endpoint: str | None = None
    credentials: str | None = None


class Scrub(msgspec.Struct, tag_field="do", tag="scrub", frozen=True, forbid_unknown_fields=True):
    """How far the scrubber is. now: answered when a whole pass, and what it finds to repair, is done; it goes on if the
    client leaves."""

    now: bool = False


class Durability(msgspec.Struct, tag_field="do", tag="durability", frozen=True, forbid_unknown_fields=True):
    """The ledger of an inode and what lies below it, of an object or of all below ``key/``, of a bucket; without a name
    of the store."""

    inode: int | None = None
    bucket: str | None = None
    key: str | None = None


class Heal(msgspec.Struct, tag_field="do", tag="heal", frozen=True, forbid_unknown_fields=True):
    """Read all of what is named, as `Durability` names it, and mend it; *dry_run*: only say what is wrong.

    A client that leaves stops it.
    """

    inode: int | None = None
    bucket: str | None = None
    key: str | None = None
    dry_run: bool = False


class CollectGarbage(msgspec.Struct, tag_field="do", tag="collect-garbage", frozen=True, forbid_unknown_fields=True):
    """Free what nothing needs any more; *dry_run*: only say what that is. A client that leaves stops it."""

    dry_run: bool = False


class Usage(msgspec.Struct, tag_field="do", tag="usage", frozen=True, forbid_unknown_fields=True):
    """What was counted below an inode, ``key/``, a bucket, or of all buckets. now: counted first."""

    inode: int | None = None
    bucket: str | None = None
    key: str | None = None
    now: bool = False


class TierPrice(msgspec.Struct, tag_field="do", tag="tier-price", frozen=True, forbid_unknown_fields=True):
    """What it costs, and how long it takes, to bring what is named, and what lies below it, to the tier of new data."""

    inode: int | None = None
    bucket: str | None = None
    key: str | None = None


class TierInventory(msgspec.Struct, tag_field="do", tag="tier-inventory", frozen=True, forbid_unknown_fields=True):
    """All objects, where they were at *since_ns*, and how much room tiers have: for a replay of what was accessed."""

    since_ns: int = 0


class Shutdown(msgspec.Struct, tag_field="do", tag="shutdown", frozen=True, forbid_unknown_fields=True):
    """Close all doors and end; answered when the store is closed, the connection ends with the process."""


DeviceChange = ReplaceDevice | AddDevice | DrainDevice | RemoveDevice
TierChange = AddCold | AddWarm | ClaimCold | RotateCold
TierQuestion = TierStatus | TierLog | TierPlan | TierPin | TierReport | TierPrice | TierInventory
CatalogRequest = WriteImage | DumpCatalog | BackUpCatalog
Question = (
    Status
    | Explain
    | Move
    | TierQuestion
    | DeviceChange
    | TierChange
    | Scrub
    | Durability
    | Heal
    | CollectGarbage
    | Usage
    | CatalogRequest
)
"""Asked of the living owner, or of one for the length of the question."""
Request = OpenMount | OpenGateway | CloseDoor | Question | Shutdown


class Progress(msgspec.Struct, tag_field="is", tag="progress", frozen=True):
    """In words; where it can be counted, how much of *total* is *done*."""

    text: str
    done: int | None = None
    total: int | None = None


class Done(msgspec.Struct, tag_field="is", tag="done", frozen=True):
    result: dict[str, Any]


class Failed(msgspec.Struct, tag_field="is", tag="failed", frozen=True):
    """``kind`` is a class of ``stratumfs.errors``, ``OSError`` with *errno*, or of a bug."""

    kind: str
    message: str
    errno: int | None = None


class Ended(msgspec.Struct, tag_field="is", tag="ended", frozen=True):
    """A held door was closed; *reason* is empty where somebody asked for it."""

    reason: str


Answer = Progress | Done | Failed | Ended


class OwnerError(Exception):
    """The owner met an error that nobody foresaw. One line is enough here: its log has the traceback."""


def encode(message: Request | Answer) -> bytes:
    """Raises: ConfigError for a path or key whose bytes are not UTF-8."""
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError as error:
        raise errors.ConfigError(f"{error.object!r} is not UTF-8") from None


_REQUEST = msgspec.json.Decoder(Request)
_ANSWER = msgspec.json.Decoder(Answer)


def decode_request(line: bytes) -> Request:
    """Raises: ConfigError for what is no request."""
    try:
        request: Request = _REQUEST.decode(line)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"no request of the control socket: {error}") from error
    return request


def decode_answer(line: bytes) -> Answer:
    """Raises: OwnerError for what is no answer."""
    try:
        answer: Answer = _ANSWER.decode(line)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OwnerError(f"the owner answered what is no answer: {error}") from error
    return answer


def failed(error: BaseException) -> Failed:
    """An error as a message; bytes of names that are not UTF-8 are spelt out in it."""
    kind, number, text = type(error).__name__, None, str(error)
    if isinstance(error, OSError):
        kind, number, text = "OSError", error.errno, error.strerror or text
        text = f"{error.filename}: {text}" if error.filename else text
    return Failed(kind, text.encode("utf-8", "backslashreplace").decode() or kind, number)


def revive(answer: Failed) -> Exception:
    """The error that a message tells of, to be raised on this side."""
    if answer.kind == "OSError":
        return OSError(answer.errno or 0, answer.message)
    kind = getattr(errors, answer.kind, None)
    if isinstance(kind, type) and issubclass(kind, errors.StratumError):
        return kind(answer.message)
    return OwnerError(f"{answer.kind}: {answer.message}; the owner's log has more")
