"""S3's error codes, and how the store's errors become them.

``CODES`` is S3's own table (API reference, "Error responses"), plus what an S3-compatible service needs. ``translate``
is total over ``stratumfs.errors``: a subclass without a line of its own takes that of its nearest base, and a test
walks the tree.
"""

from collections.abc import Mapping

from stratumfs import errors as store_errors

_TABLE = """
AccessControlListNotSupported 400 The bucket does not allow ACLs.
AccessDenied 403 Access Denied
AccessForbidden 403 CORSResponse: CORS is not enabled for this bucket.
AccountProblem 403 There is a problem with your account that prevents the operation from completing successfully.
AllAccessDisabled 403 All access to this resource has been disabled.
AmbiguousGrantByEmailAddress 400 The email address you provided is associated with more than one account.
AuthorizationHeaderMalformed 400 The authorization header that you provided is not valid.
AuthorizationQueryParametersError 400 The authorization query parameters that you provided are not valid.
BadDigest 400 The Content-MD5 or checksum value that you specified did not match what the server received.
BadRequest 400 Bad Request
BucketAlreadyExists 409 The requested bucket name is not available.
BucketAlreadyOwnedByYou 409 The bucket that you tried to create already exists, and you own it.
BucketHasAccessPointsAttached 400 The bucket that you tried to delete has access points attached.
BucketNotEmpty 409 The bucket you tried to delete is not empty
ClientTokenConflict 409 Your Multi-Region Access Point idempotency token was already used for a different request.
ConditionalRequestConflict 409 A conflicting operation occurred while the conditional request was being decided.
ConnectionClosedByRequester 400 Returned to the original caller when an error occurs while reading the body.
CredentialsNotSupported 400 This request does not support credentials.
CrossLocationLoggingProhibited 403 Cross-location logging is not allowed.
DeviceNotActiveError 400 The device is not currently active.
EndpointNotFound 400 Direct requests to the correct endpoint.
EntityTooLarge 400 Your proposed upload exceeds the maximum allowed size
EntityTooSmall 400 Your proposed upload is smaller than the minimum allowed size
ExpiredToken 400 The provided token has expired.
IllegalLocationConstraintException 400 The specified location constraint is not valid for this endpoint.
IllegalVersioningConfigurationException 400 The versioning configuration specified in the request is invalid.
IncompleteBody 400 The request body terminated unexpectedly
IncorrectEndpoint 400 The specified bucket exists in another Region. Direct requests to the correct endpoint.
IncorrectNumberOfFilesInPostRequest 400 POST requires exactly one file upload per request.
InlineDataTooLarge 400 The inline data exceeds the maximum allowed size.
InsufficientStorage 507 The store has no room for this request. Delete something or add a device.
InternalError 500 We encountered an internal error. Please try again.
InvalidAccessKeyId 403 The AWS Access Key Id you provided does not exist in our records.
InvalidAccessPoint 400 The specified access point name or account is not valid.
InvalidAccessPointAliasError 400 The specified access point alias name is not valid.
InvalidAddressingHeader 400 You must specify the Anonymous role.
InvalidArgument 400 Invalid Argument
InvalidBucketAclWithObjectOwnership 400 Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting.
InvalidBucketName 400 The specified bucket is not valid.
InvalidBucketOwnerAWSAccountID 400 The value of the expected bucket owner parameter must be an AWS account ID.
InvalidBucketState 409 The request is not valid for the current state of the bucket.
InvalidChunkSizeError 403 Too many chunks are smaller than 8192 bytes.
InvalidDigest 400 The Content-MD5 or checksum value that you specified is not valid.
InvalidEncryptionAlgorithmError 400 The encryption request that you specified is not valid. The valid value is AES256.
InvalidHostHeader 400 The host headers provided in the request used the incorrect style addressing.
InvalidHttpMethod 400 The request is made using an unexpected HTTP method.
InvalidLocationConstraint 400 The specified location constraint is not valid.
InvalidObjectState 403 The operation is not valid for the current state of the object.
InvalidPart 400 One or more of the specified parts could not be found.
InvalidPartNumber 416 The requested partnumber is not satisfiable
InvalidPartOrder 400 The list of parts was not in ascending order. Parts must be ordered by part number.
InvalidPayer 403 All access to this object has been disabled.
InvalidPolicyDocument 400 The content of the form does not meet the conditions specified in the policy document.
InvalidRange 416 The requested range is not satisfiable
InvalidRedirectLocation 400 The website redirect location must have a prefix of 'http://' or 'https://' or '/'.
InvalidRegion 403 You've attempted to create a Multi-Region Access Point in a Region that you haven't opted in to.
InvalidRequest 400 Invalid Request
InvalidSecurity 403 The provided security credentials are not valid.
InvalidSessionException 400 The session does not exist or is no longer valid.
InvalidSignature 400 The request signature that the server calculated does not match the one that you provided.
InvalidSOAPRequest 400 The SOAP request body is not valid.
InvalidStorageClass 400 The storage class you specified is not valid
InvalidTag 400 The tag provided was not a valid tag.
InvalidTargetBucketForLogging 400 The target bucket for logging does not exist or does not have the required grants.
InvalidToken 400 The provided token is malformed or otherwise invalid.
InvalidURI 400 Couldn't parse the specified URI.
KeyTooLongError 400 Your key is too long
KMS.DisabledException 400 The request was rejected because the specified KMS key is not enabled.
KMS.InvalidKeyUsageException 400 The request was rejected because of the key's usage.
KMS.KMSInvalidStateException 400 The state of the specified KMS key is not valid for this request.
KMS.NotFoundException 400 The specified KMS key could not be found.
MalformedACLError 400 The ACL that you provided was not well formed or did not validate against our published schema.
MalformedPOSTRequest 400 The body of your POST request is not well-formed multipart/form-data.
MalformedPolicy 400 Policy has invalid resource.
MalformedXML 400 The XML you provided was not well-formed or did not validate against our published schema
MalformedTrailerError 400 The request contained trailing data that was not well-formed.
MaxMessageLengthExceeded 400 Your request was too big.
MaxPostPreDataLengthExceededError 400 Your POST request fields preceding the upload file were too large.
MetadataTooLarge 400 Your metadata headers exceed the maximum allowed metadata size
MethodNotAllowed 405 The specified method is not allowed against this resource.
MissingAttachment 400 A SOAP attachment was expected, but none was found.
MissingAuthenticationToken 403 The request was not signed.
MissingContentLength 411 You must provide the Content-Length HTTP header.
MissingRequestBodyError 400 Request body is empty
MissingSecurityElement 400 The SOAP 1.1 request is missing a security element.
MissingSecurityHeader 400 Your request was missing a required header
NoLoggingStatusForKey 400 There is no such thing as a logging status subresource for a key.
NoSuchAccessPoint 404 The specified access point does not exist.
NoSuchAccessPointPolicy 404 The access point policy does not exist.
NoSuchAsyncRequest 404 The specified request was not found.
NoSuchBucket 404 The specified bucket does not exist
NoSuchBucketPolicy 404 The bucket policy does not exist
NoSuchConfiguration 404 The specified configuration does not exist.
NoSuchCORSConfiguration 404 The CORS configuration does not exist
NoSuchKey 404 The specified key does not exist.
NoSuchLifecycleConfiguration 404 The lifecycle configuration does not exist
NoSuchMultiRegionAccessPoint 404 The specified Multi-Region Access Point does not exist.
NoSuchObjectLockConfiguration 404 The specified object does not have an ObjectLock configuration.
NoSuchPublicAccessBlockConfiguration 404 The public access block configuration was not found
NoSuchTagSet 404 The TagSet does not exist
NoSuchUpload 404 The specified upload does not exist. It may have been aborted or completed, or its ID is invalid.
NoSuchVersion 404 The specified version does not exist.
NoSuchWebsiteConfiguration 404 The specified bucket does not have a website configuration
NotDeviceOwnerError 400 The device that generated the token is not owned by the authenticated user.
NotImplemented 501 A header or an operation you provided implies functionality that is not implemented.
NotModified 304 Not Modified
NotSignedUp 403 Your account is not signed up for the service.
ObjectAlreadyInActiveTierError 403 This object is already in the active tier.
ObjectLockConfigurationNotFoundError 404 Object Lock configuration does not exist for this bucket
OperationAborted 409 A conflicting conditional operation is currently in progress against this resource. Try again.
OwnershipControlsNotFoundError 404 The bucket ownership controls were not found
PermanentRedirect 301 The bucket that you are attempting to access must be addressed using the specified endpoint.
PermanentRedirectControlError 301 The API operation that you are attempting to access must be addressed elsewhere.
PreconditionFailed 412 At least one of the pre-conditions you specified did not hold
QuotaExceeded 403 The quota of the bucket, directory, user or group is used up.
Redirect 307 Temporary redirect. You are being redirected to the bucket while the DNS server is being updated.
ReplicationConfigurationNotFoundError 404 The replication configuration was not found
RequestHeaderSectionTooLarge 400 Your request header section exceeds the maximum allowed size.
RequestIsNotMultiPartContent 412 A bucket POST request must be of the enclosure-type multipart/form-data.
RequestTimeout 400 Your socket connection to the server was not read from or written to within the timeout period.
RequestTimeTooSkewed 403 The difference between the request time and the current time is too large.
RequestTorrentOfBucketError 400 Requesting the torrent file of a bucket is not permitted.
ResponseInterrupted 400 Returned to the original caller when an error occurs while reading the response.
RestoreAlreadyInProgress 409 The object restore is already in progress.
ServerSideEncryptionConfigurationNotFoundError 404 The server side encryption configuration was not found
ServiceUnavailable 503 Service is unable to handle request.
SignatureDoesNotMatch 403 The request signature we calculated does not match the signature you provided.
SlowDown 503 Please reduce your request rate.
TagPolicyException 400 The tag policy does not allow the specified value for the tag key.
TemporaryRedirect 307 You are being redirected to the bucket while the Domain Name System server is being updated.
TokenCodeInvalidError 400 The serial number or token code that you provided is not valid.
TokenRefreshRequired 400 The provided token must be refreshed.
TooManyAccessPoints 400 You have attempted to create more access points than are allowed for an account.
TooManyBuckets 400 You have attempted to create more buckets than are allowed for an account.
TooManyMultiRegionAccessPoints 400 You have attempted to create more Multi-Region Access Points than are allowed.
TooManyTags 400 The number of tags exceeds the limit of 50 tags.
TransitionDefaultMinimumObjectSizeNotSupported 400 The transition default minimum object size is not valid.
UnauthorizedAccess 403 Only applicable in the China Regions.
UnexpectedContent 400 This request contains unsupported content.
UnexpectedIPError 403 This request was rejected because the IP was unexpected.
UnsupportedArgument 400 The request contained an unsupported argument.
UnsupportedSignature 400 The provided request is signed with an unsupported STS token version or signature version.
UserKeyMustBeSpecified 400 The bucket POST request must contain the specified field name.
XAmzContentChecksumMismatch 400 The checksum that you provided does not match the one that was computed.
XAmzContentSHA256Mismatch 400 The provided 'x-amz-content-sha256' header does not match what was computed.
"""


def _parse(table: str) -> dict[str, tuple[int, str]]:
    rows = (line.split(" ", 2) for line in table.strip().splitlines())
    return {code: (int(status), message) for code, status, message in rows}


CODES: Mapping[str, tuple[int, str]] = _parse(_TABLE)
"""Code -> HTTP status and default message."""


class S3Error(Exception):
    """An answer that is an S3 error.

    *elements* are added to the XML in their order, as S3 does (``Region="us-east-1"``), None left out; *headers* to
    the answer.
    Raises: KeyError for a code that ``CODES`` does not know.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **elements: str | int | None,
    ) -> None:
        self.code = code
        self.status, default = CODES[code]
        self.message = message or default
        self.headers: Mapping[str, str] = headers or {}
        self.elements: Mapping[str, str] = {name: str(value) for name, value in elements.items() if value is not None}
        super().__init__(f"{code}: {self.message}")


TRANSLATION: Mapping[type[store_errors.StratumError], str] = {
    store_errors.StratumError: "InternalError",
    # The caller's doing
    store_errors.RequestError: "InvalidRequest",
    store_errors.NoSuchBucket: "NoSuchBucket",
    store_errors.NoSuchObject: "NoSuchKey",
    store_errors.NoSuchUpload: "NoSuchUpload",
    # One store has one owner: who may create a bucket owns those that are there.
    store_errors.BucketExists: "BucketAlreadyOwnedByYou",
    store_errors.BucketNotEmpty: "BucketNotEmpty",
    store_errors.InvalidBucketName: "InvalidBucketName",
    store_errors.KeyTooLong: "KeyTooLongError",
    store_errors.InvalidKey: "InvalidArgument",
    store_errors.PreconditionFailed: "PreconditionFailed",
    store_errors.NotModified: "NotModified",
    # 409 and not 412: no condition failed, the same request may succeed when it is sent again.
    store_errors.WriteConflict: "ConditionalRequestConflict",
    store_errors.StaleIds: "ConditionalRequestConflict",
    store_errors.InvalidPart: "InvalidPart",
    store_errors.InvalidPartOrder: "InvalidPartOrder",
    store_errors.PartTooSmall: "EntityTooSmall",
    store_errors.InvalidRange: "InvalidRange",
    store_errors.InvalidArgument: "InvalidArgument",
    # POSIX's words: the object calls of the store do not raise them. Where one comes through after all, it is told as
    # what S3 would call the same fact.
    store_errors.NotFound: "NoSuchKey",
    store_errors.AlreadyExists: "OperationAborted",
    store_errors.NotADirectory: "InvalidRequest",
    store_errors.IsADirectory: "InvalidRequest",
    store_errors.DirectoryNotEmpty: "InvalidRequest",
    store_errors.NameTooLong: "KeyTooLongError",
    store_errors.InvalidName: "InvalidArgument",
    store_errors.CrossBucket: "InvalidRequest",
    store_errors.NotPermitted: "AccessDenied",
    store_errors.TooManyLinks: "InvalidRequest",
    store_errors.NoSuchAttribute: "InvalidRequest",
    store_errors.AttributeExists: "InvalidRequest",
    store_errors.AttributeTooLarge: "MetadataTooLarge",
    # The store's state. 503 makes every SDK try again, which is right while a device is being replaced.
    store_errors.StoreError: "ServiceUnavailable",
    store_errors.StoreReadOnly: "ServiceUnavailable",
    # S3 has no word for a full disk. 507 is HTTP's, and SDKs do not repeat it, which would help nobody.
    store_errors.StoreFull: "InsufficientStorage",
    store_errors.StoreBusy: "SlowDown",
    store_errors.StoreClosing: "ServiceUnavailable",
    store_errors.ColdUnavailable: "SlowDown",
    store_errors.StoreInUse: "ServiceUnavailable",
    # Damage is refused with 503 and not 500: repair may mend it.
    store_errors.DataError: "ServiceUnavailable",
    store_errors.ShardCorrupt: "ServiceUnavailable",
    store_errors.ShardMissing: "ServiceUnavailable",
    store_errors.TooFewShards: "ServiceUnavailable",
    store_errors.CatalogCorrupt: "ServiceUnavailable",
    store_errors.ExtentCorrupt: "ServiceUnavailable",
    store_errors.DeviceError: "ServiceUnavailable",
    store_errors.DeviceFull: "InsufficientStorage",
    store_errors.DeviceFailed: "ServiceUnavailable",
    store_errors.DeviceSilent: "ServiceUnavailable",
    store_errors.DeviceUnasked: "SlowDown",
    store_errors.DeviceRefused: "ServiceUnavailable",
    store_errors.AnotherHistory: "ServiceUnavailable",
    # Ours: no request can cause them.
    store_errors.GeometryError: "InternalError",
    store_errors.ConfigError: "InternalError",
    store_errors.CatalogRefused: "InternalError",
}

_SAYS_WHY = (store_errors.RequestError, store_errors.StoreError, store_errors.DeviceError, store_errors.DataError)
_DEFAULT_SAYS_IT = (
    store_errors.NoSuchBucket,
    store_errors.NoSuchObject,
    store_errors.NoSuchUpload,
    store_errors.BucketExists,
    store_errors.BucketNotEmpty,
    store_errors.NotModified,
    store_errors.PreconditionFailed,
)
"""Whose message S3's clients know by heart; ours would only repeat the name."""


def translate(error: Exception) -> S3Error:
    """The S3 error for *error*; InternalError for what nobody expected (``is_unexpected`` tells, for the log)."""
    error = _single(error)
    if isinstance(error, S3Error):
        return error
    if not isinstance(error, store_errors.StratumError):
        return S3Error("InternalError")
    code = next(TRANSLATION[base] for base in type(error).__mro__ if base in TRANSLATION)
    message = str(error) if isinstance(error, _SAYS_WHY) and not isinstance(error, _DEFAULT_SAYS_IT) else None
    if isinstance(error, store_errors.PreconditionFailed) and error.args:
        return S3Error(code, message, Condition=str(error.args[0]))
    return S3Error(code, message)


def is_unexpected(error: Exception) -> bool:
    """Whether *error* is a bug of ours, to be logged with its traceback."""
    return translate(error).code == "InternalError"


def _single(error: Exception) -> Exception:
    """The one error of a group of equals: a nursery wraps what its tasks raise."""
    while isinstance(error, ExceptionGroup) and len({type(leaf) for leaf in error.exceptions}) == 1:
        error = error.exceptions[0]
    return error
