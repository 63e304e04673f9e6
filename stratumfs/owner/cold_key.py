"""The master key of a store's cold tier: a small file on every device and in the store folder, wrapped by a secret.

The secret is what a key file holds, or a passphrase; it is nowhere in the store unless somebody puts it there. So cold
data survives the loss of the catalog and of all devices but one, and a stolen device tells nothing. All of it blocks.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from stratumfs.devices.identity import sync_folder
from stratumfs.errors import ConfigError, DeviceError, of_device
from stratumfs.ids import StoreId
from stratumfs.owner.asking import Silent, ask
from stratumfs.owner.places import COLD_KEY_FILE, PASSPHRASE_VARIABLE
from stratumfs.shards.encrypted import KEY_SIZE, MasterKey

_log = structlog.get_logger(__name__)

FORMAT = 1
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 15, 8, 1
"""32 MiB and some 80 ms: RFC 7914, section 2, and what a store waits for at its opening."""
_N_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """What the file says. nonce, wrapped: AES-256-GCM; salt, n, r, p: of scrypt, which makes its key of the secret.

    rotation: how many secrets the key had before this one, so that an old one does not undo a new one.
    """

    format: int
    store: str
    n: int
    r: int
    p: int
    salt: str
    nonce: str
    wrapped: str
    rotation: int = 0


def make_secret() -> str:
    """256 random bits, as a line of text."""
    return secrets.token_hex(KEY_SIZE)


def wrap(store: StoreId, master: bytes, secret: str, rotation: int = 0) -> WrappedKey:
    salt, nonce = os.urandom(16), os.urandom(12)
    cipher = AESGCM(_stretched(secret, salt, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P))
    wrapped = cipher.encrypt(nonce, master, store)
    n, r, p = _SCRYPT_N, _SCRYPT_R, _SCRYPT_P
    return WrappedKey(FORMAT, store.hex(), n, r, p, salt.hex(), nonce.hex(), wrapped.hex(), rotation)


def unwrap(key: WrappedKey, secret: str) -> MasterKey:
    """Raises: ConfigError if the secret is another one."""
    return MasterKey(_unwrapped(key, secret))


def _unwrapped(key: WrappedKey, secret: str) -> bytes:
    if key.format != FORMAT or not (1 < key.n <= _N_MAX and key.r == _SCRYPT_R and key.p == _SCRYPT_P):
        raise ConfigError(f"{COLD_KEY_FILE} has format {key.format}: use a newer stratumfs")
    try:
        cipher = AESGCM(_stretched(secret, bytes.fromhex(key.salt), key.n, key.r, key.p))
        nonce, wrapped = bytes.fromhex(key.nonce), bytes.fromhex(key.wrapped)
        return cipher.decrypt(nonce, wrapped, bytes.fromhex(key.store))
    except (InvalidTag, ValueError):
        raise ConfigError("the secret given for the cold tier does not fit its key") from None


def rewrap(key: WrappedKey, store: StoreId, secret: str, new: str, rotation: int) -> WrappedKey:
    """The same master key under a new secret. Raises: ConfigError if the old one is another."""
    return wrap(store, _unwrapped(key, secret), new, rotation)


def make_key(store: StoreId, secret: str) -> WrappedKey:
    """A new master key."""
    return wrap(store, os.urandom(KEY_SIZE), secret)


def write_wrapped(folder: Path, key: WrappedKey) -> None:
    """Replace the file in *folder*, readable by its owner alone, for passphrases can be guessed; durable on return.

    Raises: OSError; then the old file is whole.
    """
    path = folder / COLD_KEY_FILE
    temporary = path.with_name(f"{COLD_KEY_FILE}.new")
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(msgspec.json.format(msgspec.json.encode(key), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(folder)


def read_wrapped(folder: Path, store: StoreId) -> WrappedKey | None:
    """None if it is not there, damaged, or of another store: others have it too."""
    try:
        found = msgspec.json.decode((folder / COLD_KEY_FILE).read_bytes(), type=WrappedKey)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.store == store.hex() else None


def open_key(folders: Sequence[Path], store: StoreId, secret: str) -> MasterKey:
    """From whichever of *folders* has it, and put into those that have it not, or under an older secret; folders that
    do not answer are left out.

    Only what a secret has unwrapped is written over anything; what a newer secret wraps stays. Raises: ConfigError.
    """
    answers = ask({folder: partial(read_wrapped, folder, store) for folder in folders})
    there = {folder: None if isinstance(answer, DeviceError) else answer for folder, answer in answers.items()}
    error = ConfigError(f"the key of the cold tier is gone: no device has a {COLD_KEY_FILE} of this store")
    for key in dict.fromkeys(each for each in there.values() if each is not None):
        try:
            master = unwrap(key, secret)
        except ConfigError as other:
            error = other
            continue
        if any(found is not None and found.rotation > key.rotation for found in there.values()):
            _log.warning("cold_secret_is_an_old_one", reason="the key of the cold tier was given a newer secret")
        lack = [
            folder
            for folder, found in there.items()
            if found != key
            and not isinstance(answers[folder], Silent)
            and (found is None or found.rotation <= key.rotation)
        ]
        for folder, answer in ask({folder: partial(put_wrapped, folder, key) for folder in lack}).items():
            if isinstance(answer, DeviceError):  # whoever needs that device strikes it
                _log.warning("cold_key_not_written", folder=str(folder), error=str(answer))
        return master
    raise error


def put_wrapped(folder: Path, key: WrappedKey) -> None:
    """As `write_wrapped`. Raises: DeviceError."""
    try:
        write_wrapped(folder, key)
    except OSError as error:
        raise of_device(error, f"cannot write {folder / COLD_KEY_FILE}: {error.strerror}", str(folder)) from error


def read_secret(path: Path | None, environment: Mapping[str, str]) -> str:
    """What *path* holds, else the passphrase of the environment. Raises: ConfigError, never with the secret."""
    if path is None:
        if secret := environment.get(PASSPHRASE_VARIABLE, ""):
            return secret
        raise ConfigError(f"the cold tier has no key: neither cold.key_file nor {PASSPHRASE_VARIABLE} is set")
    try:
        secret = path.read_text("utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the cold tier has no key: {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise ConfigError(f"the cold tier has no key: {path} can be read by others: `chmod 600 {path}`")
    if not secret:
        raise ConfigError(f"the cold tier has no key: {path} is empty")
    return secret


def write_secret(path: Path, secret: str) -> None:
    """A new key file, readable by its owner alone. Raises: OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"{secret}\n")
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def _stretched(secret: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt, KEY_SIZE, n, r, p).derive(secret.encode())
