"""The root credentials of a store's gateway.

They come from STRATUM_ACCESS_KEY_ID and STRATUM_SECRET_ACCESS_KEY, else from the file ``credentials`` in the store
folder, which mkfs makes, mode 0600. The file is in the form that AWS's tools read, so that
``AWS_SHARED_CREDENTIALS_FILE`` may name it.
"""

import configparser
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from stratumfs.errors import ConfigError
from stratumfs.owner.messages import Credentials

CREDENTIALS_FILE = "credentials"
ACCESS_KEY_VARIABLE = "STRATUM_ACCESS_KEY_ID"
SECRET_KEY_VARIABLE = "STRATUM_SECRET_ACCESS_KEY"  # noqa: S105 - a variable's name
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_.@=+-]{3,128}")
_SECRET_KEY = re.compile(r"[\x21-\x7e]{8,256}")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def make() -> Credentials:
    """New random ones, in AWS's shape: 20 letters and digits, 40 characters."""
    access_key = "STRA" + "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return Credentials(access_key, secrets.token_urlsafe(30))


def from_environment(environment: Mapping[str, str]) -> Credentials | None:
    """Those that the environment names; None if it names none. Raises: ConfigError for half a pair or a bad one."""
    access_key = environment.get(ACCESS_KEY_VARIABLE, "")
    secret_key = environment.get(SECRET_KEY_VARIABLE, "")
    if not access_key and not secret_key:
        return None
    if not access_key or not secret_key:
        raise ConfigError(f"{ACCESS_KEY_VARIABLE} and {SECRET_KEY_VARIABLE} go together: one of them is not set")
    return check(Credentials(access_key, secret_key), "the environment")


def check(credentials: Credentials, source: str) -> Credentials:
    """Raises: ConfigError naming *source*, never the secret."""
    if not _ACCESS_KEY.fullmatch(credentials.access_key):
        raise ConfigError(f"access key of {source}: 3 to 128 letters, digits and _.@=+- are allowed")
    if not _SECRET_KEY.fullmatch(credentials.secret_key):
        raise ConfigError(f"secret key of {source}: 8 to 256 printable characters without blanks are needed")
    return credentials


def text(credentials: Credentials) -> str:
    """Of the file that keeps them."""
    return (
        f"[default]\naws_access_key_id = {credentials.access_key}\naws_secret_access_key = {credentials.secret_key}\n"
    )


def write(store: Path, credentials: Credentials) -> Path:
    """Keep them in a new store's folder, readable by its owner alone. Blocking. Returns the file's path."""
    path = store / CREDENTIALS_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text(credentials))
        stream.flush()
        os.fsync(stream.fileno())
    return path


def read(store: Path) -> Credentials:
    """Those in the store folder. Blocking. Raises: ConfigError if the file is missing, malformed or open to others."""
    path = store / CREDENTIALS_FILE
    try:
        text = path.read_text("ascii")
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: set {ACCESS_KEY_VARIABLE} and {SECRET_KEY_VARIABLE}, or write it again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{path} can be read by others: `chmod 600 {path}`")
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text, str(path))
        found = Credentials(parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"])
    except (configparser.Error, KeyError):
        raise ConfigError(
            f"{path} needs a [default] section with aws_access_key_id and aws_secret_access_key"
        ) from None
    return check(found, str(path))
