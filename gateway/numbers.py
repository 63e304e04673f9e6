"""Numbers in query strings: whole, decimal, bounded."""

import re
from collections.abc import Mapping

from gateway.errors import S3Error
from stratumfs.limits import PARTS_MAX

_NUMBER = re.compile(r"\+?[0-9]{1,18}", re.ASCII)
_INT_MAX = 2**31 - 1


def part_number(value: str) -> int:
    """Raises: S3Error InvalidArgument."""
    number = int(value) if _NUMBER.fullmatch(value) else 0
    if not 1 <= number <= PARTS_MAX:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=value,
        )
    return number


def bounded(query: Mapping[str, str], name: str, default: int, most: int = _INT_MAX) -> int:
    """A count or a marker from the query string; what is above *most* is cut to it, as S3 does.

    An empty value counts as none. Raises: S3Error InvalidArgument.
    """
    value = query.get(name)
    if not value:
        return default
    number = int(value) if _NUMBER.fullmatch(value) else -1
    if not 0 <= number <= _INT_MAX:
        message = f"Argument {name} must be an integer between 0 and {_INT_MAX}"
        raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
    return min(number, most)
