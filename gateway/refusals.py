"""Headers that ask for what is not done here: refused, never ignored, for nothing may be echoed that did not happen."""

from gateway.errors import S3Error
from gateway.operations import Operation
from gateway.owner import OWNER
from gateway.request import Request

_HARMLESS = frozenset({"x-amz-content-sha256", "x-amz-date", "x-amz-storage-class", "x-amz-copy-source"})
"""Headers that most requests have, and that mean what they say."""
_ENCRYPTION = ("x-amz-server-side-encryption", "x-amz-copy-source-server-side-encryption")
_UNKNOWN_CONDITIONS = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size", "x-amz-write-offset-bytes")
_LOCKS = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold")
_OF_VERSIONS = (Operation.GET_OBJECT, Operation.HEAD_OBJECT, Operation.DELETE_OBJECT, Operation.RESTORE_OBJECT)
_ACLS = frozenset({"private", "bucket-owner-full-control"})
"""Canned ACLs that say what is the case anyway: the owner, and nobody else."""


def refuse_what_is_not_done(request: Request) -> None:
    """Raises: S3Error NotImplemented, InvalidRequest or what S3 answers where the owner alone grants access."""
    _refuse_version(request)
    for name, value in request.headers.items():
        if name.startswith("x-amz-") and name not in _HARMLESS:
            _refuse_header(name, value, request.operation)


def _refuse_header(name: str, value: str, operation: Operation) -> None:
    if name.startswith(_ENCRYPTION):
        raise _not_implemented(name, "Server-side encryption is not implemented.")
    if name in _UNKNOWN_CONDITIONS:
        raise _not_implemented(name)
    if name in _LOCKS:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    if name.startswith("x-amz-grant-") or (name == "x-amz-acl" and value not in _ACLS):
        raise _no_acls(operation)
    if name in ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner") and value != OWNER.id:
        raise S3Error("AccessDenied")
    if name == "x-amz-tagging" and value:
        raise _not_implemented(name, "Object tagging is not implemented.")
    if name == "x-amz-bucket-object-lock-enabled" and value.lower() != "false":
        raise _not_implemented(name, "Object lock is not implemented.")
    if name == "x-amz-object-ownership" and value != "BucketOwnerEnforced":
        raise _not_implemented(name)


def _refuse_version(request: Request) -> None:
    if request.version_id is None:
        return
    if request.operation not in _OF_VERSIONS:
        raise S3Error("InvalidArgument", "This operation does not accept a version-id.", ArgumentName="versionId")
    if request.version_id == "":
        raise S3Error("InvalidArgument", "Version id cannot be the empty string", ArgumentName="versionId")


def _not_implemented(header: str, message: str | None = None) -> S3Error:
    return S3Error("NotImplemented", message, Header=header)


def _no_acls(operation: Operation) -> S3Error:
    if operation is Operation.CREATE_BUCKET:
        return S3Error("InvalidBucketAclWithObjectOwnership")
    return S3Error("AccessControlListNotSupported")
