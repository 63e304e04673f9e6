"""Somebody's S3: how a client for it is made, and what its errors mean. Boto3 is imported late: it takes half a second.

Other vendors' services know no checksums of AWS's newest kind, so none is sent that is not required.
"""

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from stratumfs.errors import ConfigError, DeviceError, DeviceFailed, DeviceFull
from stratumfs.limits import REMOTE_CONNECT_S, REMOTE_CONNECTIONS_KEPT, REMOTE_SILENCE_S

_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
_DENIED = frozenset({"400", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"})
"""An answer to HEAD has no code but its status: 400 may be that a token has expired."""
_PASSING = frozenset(
    {"BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable"}
    | {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentSHA256Mismatch"}
)
_PASSING_STATUS = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Keys:
    access: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Meaning(Enum):
    """Of an error of a service, or of the way to it."""

    MISSING = auto()
    FULL = auto()
    DENIED = auto()
    """The credentials do not suffice, or no more."""
    PASSING = auto()
    """Asking again may help."""
    FINAL = auto()


def keys_from(path: Path, setting: str) -> Keys:
    """Those of the section [default] of a file of credentials. Raises: ConfigError, which names *setting*."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
        section = parser["default"]
        token = section.get("aws_session_token")
        return Keys(section["aws_access_key_id"], section["aws_secret_access_key"], token)
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise ConfigError(
            f"{setting}: {path} needs a [default] section with aws_access_key_id and aws_secret_access_key"
        ) from error


def keys_around() -> Keys | None:
    """Those that boto3 finds: in the environment, in ~/.aws, of the machine. They may be renewed at each call."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        found = boto3.session.Session().get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:
        raise ConfigError(f"credentials for S3: {error}") from error
    if frozen is None or frozen.access_key is None or frozen.secret_key is None:
        return None
    return Keys(frozen.access_key, frozen.secret_key, frozen.token)


def make_client(
    where: str,
    endpoint: str | None,
    keys: Keys | None,
    *,
    attempts: int,
    connect_s: float = REMOTE_CONNECT_S,
    silence_s: float = REMOTE_SILENCE_S,
    sign_bodies: bool = True,
) -> Any:
    """A client of boto3, which many threads may use.

    where        names what it is for, in errors
    endpoint     a URL; None is AWS itself
    keys         None: those that boto3 finds, renewed by it
    attempts     that botocore makes of each request
    sign_bodies  False: of bodies only the MD5 that goes with them is signed, over plain HTTP too, as it is over TLS
    Raises: ConfigError.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    session: Any = boto3.session.Session()
    try:
        return session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            aws_access_key_id=keys and keys.access,
            aws_secret_access_key=keys and keys.secret,
            aws_session_token=keys and keys.token,
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=connect_s,
                read_timeout=silence_s,
                max_pool_connections=REMOTE_CONNECTIONS_KEPT,
                retries={"mode": "standard", "total_max_attempts": attempts},
                tcp_keepalive=True,
                s3=None if sign_bodies else {"payload_signing_enabled": False},
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def s3_errors() -> tuple[type[Exception], ...]:
    """What calls of a client raise on purpose."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, Boto3Error)


def nonsense() -> tuple[type[Exception], ...]:
    """What they let through, too, where an answer is none."""
    from urllib3.exceptions import HTTPError

    return (HTTPError, OSError, ValueError)


def meaning_of(error: Exception) -> Meaning:
    """Of one of `s3_errors` or of `nonsense`."""
    from botocore.exceptions import NoCredentialsError, ParamValidationError, PartialCredentialsError

    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return Meaning.DENIED
    if isinstance(error, ParamValidationError):
        return Meaning.FINAL
    code, status = code_of(error)
    if not status:
        return Meaning.PASSING
    if status == 404 and code in _MISSING:
        return Meaning.MISSING
    if status == 507 or code in _FULL:
        return Meaning.FULL
    if code in _PASSING or status in _PASSING_STATUS or status >= 500 or status < 400:
        return Meaning.PASSING
    if status in (401, 403) or code in _DENIED:
        return Meaning.DENIED
    return Meaning.FINAL


def code_of(error: Exception) -> tuple[str, int]:
    """("NoSuchKey", 404); ("", 0) where no answer came."""
    answer: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", "")), answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def retry_after_s(error: Exception) -> float:
    """What the service asks for, in seconds; 0 if it does not."""
    answer: Mapping[str, Any] = getattr(error, "response", None) or {}
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def device_error(error: Exception, message: str, label: str) -> DeviceError:
    """What such an error is to the store; raise it ``from`` that."""
    full = meaning_of(error) is Meaning.FULL
    return (DeviceFull if full else DeviceFailed)(f"{message}: {error}", label)
