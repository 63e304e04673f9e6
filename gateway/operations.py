"""Every operation of S3 by its name, and the table that finds it from method, place and query string.

An operation is known here whether or not the door can do it: what has no handler answers 501 by name, so that a client
never gets an object written where it meant to set a policy.
"""

from enum import StrEnum


class Operation(StrEnum):
    """S3's own names, as its API reference and IAM spell them, and in the end those that S3 has not."""

    __hash__ = str.__hash__  # the same number; Enum computes it in Python, and each request asks

    # service
    LIST_BUCKETS = "ListBuckets"
    WRITE_GET_OBJECT_RESPONSE = "WriteGetObjectResponse"
    # bucket
    CREATE_BUCKET = "CreateBucket"
    DELETE_BUCKET = "DeleteBucket"
    HEAD_BUCKET = "HeadBucket"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    LIST_OBJECT_VERSIONS = "ListObjectVersions"
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads"
    DELETE_OBJECTS = "DeleteObjects"
    POST_OBJECT = "PostObject"
    CREATE_SESSION = "CreateSession"
    PREFLIGHT = "PreflightRequest"
    GET_BUCKET_LOCATION = "GetBucketLocation"
    GET_BUCKET_VERSIONING = "GetBucketVersioning"
    PUT_BUCKET_VERSIONING = "PutBucketVersioning"
    GET_BUCKET_ABAC = "GetBucketAbac"
    PUT_BUCKET_ABAC = "PutBucketAbac"
    GET_BUCKET_ACCELERATE = "GetBucketAccelerateConfiguration"
    PUT_BUCKET_ACCELERATE = "PutBucketAccelerateConfiguration"
    GET_BUCKET_ACL = "GetBucketAcl"
    PUT_BUCKET_ACL = "PutBucketAcl"
    GET_BUCKET_ANALYTICS = "GetBucketAnalyticsConfiguration"
    LIST_BUCKET_ANALYTICS = "ListBucketAnalyticsConfigurations"
    PUT_BUCKET_ANALYTICS = "PutBucketAnalyticsConfiguration"
    DELETE_BUCKET_ANALYTICS = "DeleteBucketAnalyticsConfiguration"
    GET_BUCKET_CORS = "GetBucketCors"
    PUT_BUCKET_CORS = "PutBucketCors"
    DELETE_BUCKET_CORS = "DeleteBucketCors"
    GET_BUCKET_ENCRYPTION = "GetBucketEncryption"
    PUT_BUCKET_ENCRYPTION = "PutBucketEncryption"
    DELETE_BUCKET_ENCRYPTION = "DeleteBucketEncryption"
    GET_BUCKET_INTELLIGENT_TIERING = "GetBucketIntelligentTieringConfiguration"
    LIST_BUCKET_INTELLIGENT_TIERING = "ListBucketIntelligentTieringConfigurations"
    PUT_BUCKET_INTELLIGENT_TIERING = "PutBucketIntelligentTieringConfiguration"
    DELETE_BUCKET_INTELLIGENT_TIERING = "DeleteBucketIntelligentTieringConfiguration"
    GET_BUCKET_INVENTORY = "GetBucketInventoryConfiguration"
    LIST_BUCKET_INVENTORY = "ListBucketInventoryConfigurations"
    PUT_BUCKET_INVENTORY = "PutBucketInventoryConfiguration"
    DELETE_BUCKET_INVENTORY = "DeleteBucketInventoryConfiguration"
    GET_BUCKET_LIFECYCLE = "GetBucketLifecycleConfiguration"
    PUT_BUCKET_LIFECYCLE = "PutBucketLifecycleConfiguration"
    DELETE_BUCKET_LIFECYCLE = "DeleteBucketLifecycle"
    GET_BUCKET_LOGGING = "GetBucketLogging"
    PUT_BUCKET_LOGGING = "PutBucketLogging"
    GET_BUCKET_METADATA = "GetBucketMetadataConfiguration"
    CREATE_BUCKET_METADATA = "CreateBucketMetadataConfiguration"
    DELETE_BUCKET_METADATA = "DeleteBucketMetadataConfiguration"
    GET_BUCKET_METADATA_TABLE = "GetBucketMetadataTableConfiguration"
    CREATE_BUCKET_METADATA_TABLE = "CreateBucketMetadataTableConfiguration"
    DELETE_BUCKET_METADATA_TABLE = "DeleteBucketMetadataTableConfiguration"
    UPDATE_BUCKET_METADATA_INVENTORY_TABLE = "UpdateBucketMetadataInventoryTableConfiguration"
    UPDATE_BUCKET_METADATA_JOURNAL_TABLE = "UpdateBucketMetadataJournalTableConfiguration"
    GET_BUCKET_METRICS = "GetBucketMetricsConfiguration"
    LIST_BUCKET_METRICS = "ListBucketMetricsConfigurations"
    PUT_BUCKET_METRICS = "PutBucketMetricsConfiguration"
    DELETE_BUCKET_METRICS = "DeleteBucketMetricsConfiguration"
    GET_BUCKET_NOTIFICATION = "GetBucketNotificationConfiguration"
    PUT_BUCKET_NOTIFICATION = "PutBucketNotificationConfiguration"
    GET_BUCKET_OBJECT_LOCK = "GetObjectLockConfiguration"
    PUT_BUCKET_OBJECT_LOCK = "PutObjectLockConfiguration"
    GET_BUCKET_OWNERSHIP = "GetBucketOwnershipControls"
    PUT_BUCKET_OWNERSHIP = "PutBucketOwnershipControls"
    DELETE_BUCKET_OWNERSHIP = "DeleteBucketOwnershipControls"
    GET_BUCKET_POLICY = "GetBucketPolicy"
    PUT_BUCKET_POLICY = "PutBucketPolicy"
    DELETE_BUCKET_POLICY = "DeleteBucketPolicy"
    GET_BUCKET_POLICY_STATUS = "GetBucketPolicyStatus"
    GET_PUBLIC_ACCESS_BLOCK = "GetPublicAccessBlock"
    PUT_PUBLIC_ACCESS_BLOCK = "PutPublicAccessBlock"
    DELETE_PUBLIC_ACCESS_BLOCK = "DeletePublicAccessBlock"
    GET_BUCKET_REPLICATION = "GetBucketReplication"
    PUT_BUCKET_REPLICATION = "PutBucketReplication"
    DELETE_BUCKET_REPLICATION = "DeleteBucketReplication"
    GET_BUCKET_REQUEST_PAYMENT = "GetBucketRequestPayment"
    PUT_BUCKET_REQUEST_PAYMENT = "PutBucketRequestPayment"
    GET_BUCKET_TAGGING = "GetBucketTagging"
    PUT_BUCKET_TAGGING = "PutBucketTagging"
    DELETE_BUCKET_TAGGING = "DeleteBucketTagging"
    GET_BUCKET_WEBSITE = "GetBucketWebsite"
    PUT_BUCKET_WEBSITE = "PutBucketWebsite"
    DELETE_BUCKET_WEBSITE = "DeleteBucketWebsite"
    # object
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    PUT_OBJECT = "PutObject"
    COPY_OBJECT = "CopyObject"
    DELETE_OBJECT = "DeleteObject"
    RENAME_OBJECT = "RenameObject"
    GET_OBJECT_ATTRIBUTES = "GetObjectAttributes"
    RESTORE_OBJECT = "RestoreObject"
    SELECT_OBJECT_CONTENT = "SelectObjectContent"
    GET_OBJECT_TORRENT = "GetObjectTorrent"
    GET_OBJECT_ACL = "GetObjectAcl"
    PUT_OBJECT_ACL = "PutObjectAcl"
    GET_OBJECT_TAGGING = "GetObjectTagging"
    PUT_OBJECT_TAGGING = "PutObjectTagging"
    DELETE_OBJECT_TAGGING = "DeleteObjectTagging"
    GET_OBJECT_LEGAL_HOLD = "GetObjectLegalHold"
    PUT_OBJECT_LEGAL_HOLD = "PutObjectLegalHold"
    GET_OBJECT_RETENTION = "GetObjectRetention"
    PUT_OBJECT_RETENTION = "PutObjectRetention"
    UPDATE_OBJECT_ENCRYPTION = "UpdateObjectEncryption"
    # multipart
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    UPLOAD_PART_COPY = "UploadPartCopy"
    COMPLETE_MULTIPART_UPLOAD = "CompleteMultipartUpload"
    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload"
    LIST_PARTS = "ListParts"
    # our own
    GET_EXPLANATION = "GetExplanation"


_Table = dict[str, dict[str, Operation]]
_O = Operation

BUCKET_DEFAULT: dict[str, Operation] = {
    "GET": _O.LIST_OBJECTS,
    "HEAD": _O.HEAD_BUCKET,
    "PUT": _O.CREATE_BUCKET,
    "DELETE": _O.DELETE_BUCKET,
    "POST": _O.POST_OBJECT,
    "OPTIONS": _O.PREFLIGHT,
}

OBJECT_DEFAULT: dict[str, Operation] = {
    "GET": _O.GET_OBJECT,
    "HEAD": _O.HEAD_OBJECT,
    "PUT": _O.PUT_OBJECT,
    "DELETE": _O.DELETE_OBJECT,
    "OPTIONS": _O.PREFLIGHT,
}

BUCKET_SUBRESOURCES: _Table = {
    "abac": {"GET": _O.GET_BUCKET_ABAC, "PUT": _O.PUT_BUCKET_ABAC},
    "accelerate": {"GET": _O.GET_BUCKET_ACCELERATE, "PUT": _O.PUT_BUCKET_ACCELERATE},
    "acl": {"GET": _O.GET_BUCKET_ACL, "PUT": _O.PUT_BUCKET_ACL},
    "analytics": {
        "GET": _O.LIST_BUCKET_ANALYTICS,
        "PUT": _O.PUT_BUCKET_ANALYTICS,
        "DELETE": _O.DELETE_BUCKET_ANALYTICS,
    },
    "cors": {"GET": _O.GET_BUCKET_CORS, "PUT": _O.PUT_BUCKET_CORS, "DELETE": _O.DELETE_BUCKET_CORS},
    "delete": {"POST": _O.DELETE_OBJECTS},
    "encryption": {
        "GET": _O.GET_BUCKET_ENCRYPTION,
        "PUT": _O.PUT_BUCKET_ENCRYPTION,
        "DELETE": _O.DELETE_BUCKET_ENCRYPTION,
    },
    "intelligent-tiering": {
        "GET": _O.LIST_BUCKET_INTELLIGENT_TIERING,
        "PUT": _O.PUT_BUCKET_INTELLIGENT_TIERING,
        "DELETE": _O.DELETE_BUCKET_INTELLIGENT_TIERING,
    },
    "inventory": {
        "GET": _O.LIST_BUCKET_INVENTORY,
        "PUT": _O.PUT_BUCKET_INVENTORY,
        "DELETE": _O.DELETE_BUCKET_INVENTORY,
    },
    "lifecycle": {
        "GET": _O.GET_BUCKET_LIFECYCLE,
        "PUT": _O.PUT_BUCKET_LIFECYCLE,
        "DELETE": _O.DELETE_BUCKET_LIFECYCLE,
    },
    "location": {"GET": _O.GET_BUCKET_LOCATION},
    "logging": {"GET": _O.GET_BUCKET_LOGGING, "PUT": _O.PUT_BUCKET_LOGGING},
    "metadataConfiguration": {
        "GET": _O.GET_BUCKET_METADATA,
        "POST": _O.CREATE_BUCKET_METADATA,
        "DELETE": _O.DELETE_BUCKET_METADATA,
    },
    "metadataInventoryTable": {"PUT": _O.UPDATE_BUCKET_METADATA_INVENTORY_TABLE},
    "metadataJournalTable": {"PUT": _O.UPDATE_BUCKET_METADATA_JOURNAL_TABLE},
    "metadataTable": {
        "GET": _O.GET_BUCKET_METADATA_TABLE,
        "POST": _O.CREATE_BUCKET_METADATA_TABLE,
        "DELETE": _O.DELETE_BUCKET_METADATA_TABLE,
    },
    "metrics": {"GET": _O.LIST_BUCKET_METRICS, "PUT": _O.PUT_BUCKET_METRICS, "DELETE": _O.DELETE_BUCKET_METRICS},
    "notification": {"GET": _O.GET_BUCKET_NOTIFICATION, "PUT": _O.PUT_BUCKET_NOTIFICATION},
    "object-lock": {"GET": _O.GET_BUCKET_OBJECT_LOCK, "PUT": _O.PUT_BUCKET_OBJECT_LOCK},
    "ownershipControls": {
        "GET": _O.GET_BUCKET_OWNERSHIP,
        "PUT": _O.PUT_BUCKET_OWNERSHIP,
        "DELETE": _O.DELETE_BUCKET_OWNERSHIP,
    },
    "policy": {"GET": _O.GET_BUCKET_POLICY, "PUT": _O.PUT_BUCKET_POLICY, "DELETE": _O.DELETE_BUCKET_POLICY},
    "policyStatus": {"GET": _O.GET_BUCKET_POLICY_STATUS},
    "publicAccessBlock": {
        "GET": _O.GET_PUBLIC_ACCESS_BLOCK,
        "PUT": _O.PUT_PUBLIC_ACCESS_BLOCK,
        "DELETE": _O.DELETE_PUBLIC_ACCESS_BLOCK,
    },
    "replication": {
        "GET": _O.GET_BUCKET_REPLICATION,
        "PUT": _O.PUT_BUCKET_REPLICATION,
        "DELETE": _O.DELETE_BUCKET_REPLICATION,
    },
    "requestPayment": {"GET": _O.GET_BUCKET_REQUEST_PAYMENT, "PUT": _O.PUT_BUCKET_REQUEST_PAYMENT},
    "session": {"GET": _O.CREATE_SESSION},
    "stratum-explain": {"GET": _O.GET_EXPLANATION},
    "tagging": {"GET": _O.GET_BUCKET_TAGGING, "PUT": _O.PUT_BUCKET_TAGGING, "DELETE": _O.DELETE_BUCKET_TAGGING},
    "uploads": {"GET": _O.LIST_MULTIPART_UPLOADS},
    "versioning": {"GET": _O.GET_BUCKET_VERSIONING, "PUT": _O.PUT_BUCKET_VERSIONING},
    "versions": {"GET": _O.LIST_OBJECT_VERSIONS},
    "website": {"GET": _O.GET_BUCKET_WEBSITE, "PUT": _O.PUT_BUCKET_WEBSITE, "DELETE": _O.DELETE_BUCKET_WEBSITE},
}
"""Query name -> method -> operation. A method that is missing is 405."""

LISTED_BY_ID: dict[Operation, Operation] = {
    _O.LIST_BUCKET_ANALYTICS: _O.GET_BUCKET_ANALYTICS,
    _O.LIST_BUCKET_INTELLIGENT_TIERING: _O.GET_BUCKET_INTELLIGENT_TIERING,
    _O.LIST_BUCKET_INVENTORY: _O.GET_BUCKET_INVENTORY,
    _O.LIST_BUCKET_METRICS: _O.GET_BUCKET_METRICS,
}
"""Configurations of which a bucket has many: with ``id`` in the query one of them is meant."""

OBJECT_SUBRESOURCES: _Table = {
    "acl": {"GET": _O.GET_OBJECT_ACL, "PUT": _O.PUT_OBJECT_ACL},
    "attributes": {"GET": _O.GET_OBJECT_ATTRIBUTES},
    "encryption": {"PUT": _O.UPDATE_OBJECT_ENCRYPTION},
    "legal-hold": {"GET": _O.GET_OBJECT_LEGAL_HOLD, "PUT": _O.PUT_OBJECT_LEGAL_HOLD},
    "renameObject": {"PUT": _O.RENAME_OBJECT},
    "restore": {"POST": _O.RESTORE_OBJECT},
    "retention": {"GET": _O.GET_OBJECT_RETENTION, "PUT": _O.PUT_OBJECT_RETENTION},
    "select": {"POST": _O.SELECT_OBJECT_CONTENT},
    "stratum-explain": {"GET": _O.GET_EXPLANATION},
    "tagging": {"GET": _O.GET_OBJECT_TAGGING, "PUT": _O.PUT_OBJECT_TAGGING, "DELETE": _O.DELETE_OBJECT_TAGGING},
    "torrent": {"GET": _O.GET_OBJECT_TORRENT},
    "uploadId": {
        "GET": _O.LIST_PARTS,
        "PUT": _O.UPLOAD_PART,
        "POST": _O.COMPLETE_MULTIPART_UPLOAD,
        "DELETE": _O.ABORT_MULTIPART_UPLOAD,
    },
    "uploads": {"POST": _O.CREATE_MULTIPART_UPLOAD},
}

PARAMETERS = frozenset(
    (
        "bucket-region",
        "continuation-token",
        "delimiter",
        "directory",
        "encoding-type",
        "expected-bucket-owner",
        "fetch-owner",
        "id",
        "key-marker",
        "list-type",
        "marker",
        "max-buckets",
        "max-directory-buckets",
        "max-keys",
        "max-parts",
        "max-uploads",
        "part-number-marker",
        "partnumber",
        "prefix",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "select-type",
        "start-after",
        "upload-id-marker",
        "version-id-marker",
        "versionid",
        "awsaccesskeyid",
        "expires",
        "signature",
    )
)
"""Query names, in lowercase, that pick no operation. What begins with ``x-`` is one too: signatures, a client's own."""
