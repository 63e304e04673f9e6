"""Headers that ask for what is not done here: refused, never ignored, for nothing may be echoed that did not happen."""

from gateway.errors import S3Error
from gateway.operations import Operation
from gateway.owner import OWNER
from gateway.request import Request

_ENCRYPTION = ("x-amz-server-side-encryption", "x-amz-copy-source-server-side-encryption")
_UNKNOWN_CONDITIONS = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size", "x-amz-write-offset-bytes")
_LOCKS = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold")
_OF_VERSIONS = (Operation.GET_OBJECT, Operation.HEAD_OBJECT, Operation.DELETE_OBJECT)
_ACLS = frozenset({"private", "bucket-owner-full-control"})
"""Canned ACLs that say what is the case anyway: the owner, and nobody else."""


def refuse_what_is_not_done(request: Request) -> None:
    """Raises: S3Error NotImplemented, InvalidRequest or what S3 answers where the owner alone grants access."""
    _refuse_version(request)
    headers = request.headers
    for name in headers:
        if not name.startswith("x-amz-"):
            continue
        if name.startswith(_ENCRYPTION):
            raise _not_implemented(name, "Server-side encryption is not implemented.")
        if name in _UNKNOWN_CONDITIONS:
            raise _not_implemented(name)
        if name in _LOCKS:
            raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
        if name.startswith("x-amz-grant-"):
            raise _no_acls(request.operation)
        if name in ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner") and headers[name] != OWNER.id:
            raise S3Error("AccessDenied")
    if headers.get("x-amz-acl", "private") not in _ACLS:
        raise _no_acls(request.operation)
    if headers.get("x-amz-tagging"):
        raise _not_implemented("x-amz-tagging", "Object tagging is not implemented.")
    if headers.get("x-amz-bucket-object-lock-enabled", "false").lower() != "false":
        raise _not_implemented("x-amz-bucket-object-lock-enabled", "Object lock is not implemented.")
    if headers.get("x-amz-object-ownership", "BucketOwnerEnforced") != "BucketOwnerEnforced":
        raise _not_implemented("x-amz-object-ownership")


def _refuse_version(request: Request) -> None:
    if request.version_id is not None and request.operation not in _OF_VERSIONS:
        raise S3Error("InvalidArgument", "This operation does not accept a version-id.", ArgumentName="versionId")
    if request.version_id == "":
        raise S3Error("InvalidArgument", "Version id cannot be the empty string", ArgumentName="versionId")


def _not_implemented(header: str, message: str | None = None) -> S3Error:
    return S3Error("NotImplemented", message, Header=header)


def _no_acls(operation: Operation) -> S3Error:
    if operation is Operation.CREATE_BUCKET:
        return S3Error("InvalidBucketAclWithObjectOwnership")
    return S3Error("AccessControlListNotSupported")
