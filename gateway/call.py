"""One authenticated request on its way through its handler."""

import time
from collections.abc import Awaitable, Callable

import msgspec
import trio

from gateway.auth.body import Body
from gateway.auth.principal import Principal
from gateway.errors import S3Error
from gateway.operations import Operation
from gateway.request import Request
from gateway.response import Responder
from gateway.turns import Turns
from stratumfs.limits import KEY_MAX
from stratumfs.store.restorer import Restorer
from stratumfs.store.store import Store

Authoriser = Callable[[Principal, Operation, str | None, bytes | None], bool]
"""Whether a principal may do an operation on a bucket and key."""


class Call(msgspec.Struct, frozen=True):
    """What a handler works with. *send* is called exactly once; what is raised before it is answered as an error.

    region   of this service: what GetBucketLocation and HeadBucket say
    hashing  limits the threads that hash what a copy reads and parse large documents
    uploads, downloads
             taken a turn of by who moves bytes of a body, or of a copy that reads them
    """

    store: Store
    region: str
    hashing: trio.CapacityLimiter
    uploads: Turns
    downloads: Turns
    request: Request
    principal: Principal
    body: Body
    send: Responder
    authorise: Authoriser
    restorer: Restorer | None = None

    @property
    def bucket(self) -> str:
        assert self.request.bucket is not None
        return self.request.bucket

    @property
    def key(self) -> bytes:
        """Of what may exist: a key that the mount made can be longer than S3's."""
        assert self.request.key is not None
        return self.request.key

    @property
    def new_key(self) -> bytes:
        """Of what is to be written. Raises: S3Error KeyTooLongError."""
        if len(self.key) > KEY_MAX:
            raise S3Error("KeyTooLongError", Size=str(len(self.key)), MaxSizeAllowed=str(KEY_MAX))
        return self.key

    @property
    def now_ns(self) -> int:
        return time.time_ns()

    def require(self, operation: Operation, bucket: str | None, key: bytes | None) -> None:
        """Also for what a request touches beside its own bucket and key. Raises: S3Error AccessDenied."""
        if not self.authorise(self.principal, operation, bucket, key):
            raise S3Error("AccessDenied")

    async def only_version(self) -> None:
        """Every object has one version, ``null``: refuse others. Raises: S3Error NoSuchVersion, NoSuchBucket."""
        if self.request.version_id not in (None, "null"):
            await self.store.objects.bucket(self.bucket)
            raise S3Error("NoSuchVersion", VersionId=self.request.version_id or "")

    @property
    def version_headers(self) -> dict[str, str]:
        """An answer names the version only to those who asked for one: the bucket never had versions."""
        return {} if self.request.version_id is None else {"x-amz-version-id": "null"}


Handler = Callable[[Call], Awaitable[None]]
