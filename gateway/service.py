"""From an authenticated request to the handler of its operation: the S3 side of a store."""

from collections.abc import Mapping

import trio

from gateway import buckets, completion, multipart
from gateway.auth.principal import Authenticated, Principal
from gateway.call import Authoriser, Call, Handler
from gateway.errors import S3Error
from gateway.limits import DOWNLOADS_MAX, HASH_THREADS, UPLOADS_MAX
from gateway.objects.copy import copy_object
from gateway.objects.delete import delete_object, delete_objects
from gateway.objects.explain import explain
from gateway.objects.get import get_object
from gateway.objects.head import head_object
from gateway.objects.list import list_object_versions, list_objects, list_objects_v2
from gateway.objects.put import put_object
from gateway.objects.restore import restore_object
from gateway.operations import Operation
from gateway.refusals import refuse_what_is_not_done
from gateway.request import Request
from gateway.response import Responder
from gateway.turns import Turns
from stratumfs.store.restorer import Restorer
from stratumfs.store.store import Store

HANDLERS: Mapping[Operation, Handler] = {
    Operation.LIST_BUCKETS: buckets.list_buckets,
    Operation.CREATE_BUCKET: buckets.create_bucket,
    Operation.DELETE_BUCKET: buckets.delete_bucket,
    Operation.HEAD_BUCKET: buckets.head_bucket,
    Operation.GET_BUCKET_LOCATION: buckets.get_bucket_location,
    Operation.GET_BUCKET_VERSIONING: buckets.get_bucket_versioning,
    Operation.PUT_BUCKET_VERSIONING: buckets.put_bucket_versioning,
    Operation.LIST_OBJECTS: list_objects,
    Operation.LIST_OBJECTS_V2: list_objects_v2,
    Operation.LIST_OBJECT_VERSIONS: list_object_versions,
    Operation.PUT_OBJECT: put_object,
    Operation.GET_OBJECT: get_object,
    Operation.GET_EXPLANATION: explain,
    Operation.HEAD_OBJECT: head_object,
    Operation.COPY_OBJECT: copy_object,
    Operation.DELETE_OBJECT: delete_object,
    Operation.DELETE_OBJECTS: delete_objects,
    Operation.RESTORE_OBJECT: restore_object,
    Operation.CREATE_MULTIPART_UPLOAD: multipart.create_upload,
    Operation.UPLOAD_PART: multipart.upload_part,
    Operation.UPLOAD_PART_COPY: multipart.upload_part_copy,
    Operation.ABORT_MULTIPART_UPLOAD: multipart.abort_upload,
    Operation.LIST_PARTS: multipart.list_parts,
    Operation.LIST_MULTIPART_UPLOADS: multipart.list_uploads,
    Operation.COMPLETE_MULTIPART_UPLOAD: completion.complete_upload,
}
"""What is implemented. Every other operation is known by name and answers 501."""


def root_may_all(principal: Principal, operation: Operation, bucket: str | None, key: bytes | None) -> bool:
    """The gate lets nobody in but who holds a key, and all keys are the root's."""
    return True


class StoreService:
    """``gateway.response.S3Service`` over a store. Has no state of its own but who has a turn."""

    def __init__(
        self,
        store: Store,
        region: str = "us-east-1",
        authorise: Authoriser = root_may_all,
        restorer: Restorer | None = None,
    ) -> None:
        self._store, self._restorer = store, restorer
        self._region = region
        self._authorise = authorise
        self._hashing = trio.CapacityLimiter(HASH_THREADS)
        self.uploads, self.downloads = Turns(UPLOADS_MAX), Turns(DOWNLOADS_MAX)

    async def handle(self, request: Request, caller: Authenticated, send: Responder) -> None:
        call = Call(
            self._store,
            self._region,
            self._hashing,
            self.uploads,
            self.downloads,
            request,
            caller.principal,
            caller.body,
            send,
            self._authorise,
            self._restorer,
        )
        call.require(request.operation, request.bucket, request.key)
        handler = HANDLERS.get(request.operation)
        if handler is None:
            raise S3Error("NotImplemented", f"{request.operation} is not implemented.")
        refuse_what_is_not_done(request)
        await handler(call)
