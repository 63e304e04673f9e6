"""Words and options that several commands take, with one help for each."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Store = Annotated[Path, Parameter(name="STORE", help="The store's folder, or any device.")]
StoreOrDefault = Annotated[
    Path | None, Parameter(name="STORE", help="The store's folder, or any device; default: the default store.")
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="As one JSON object.")]

Warm = Annotated[
    list[Path] | None,
    Parameter(
        name="--warm",
        negative="",
        consume_multiple=True,
        help="Devices of a second, slower tier, empty folders; may be given again.",
    ),
]
WarmK = Annotated[int, Parameter(name="--warm-k", help="Data shards of each volume of the warm tier.")]
WarmM = Annotated[int, Parameter(name="--warm-m", help="Parity shards of the warm tier.")]

Cold = Annotated[
    str | None, Parameter(name="--cold", help="A tier in somebody's S3: s3://BUCKET/PREFIX of a bucket that is there.")
]
ColdEndpoint = Annotated[str | None, Parameter(name="--cold-endpoint", help="URL of that S3 service; default: AWS.")]
ColdCredentials = Annotated[
    Path | None, Parameter(name="--cold-credentials", help="A file with keys for it, in AWS's form.")
]
ColdKeyFile = Annotated[
    Path | None,
    Parameter(name="--cold-key-file", help="The secret of the cold tier; made if not there. Default: STORE/cold.key."),
]
