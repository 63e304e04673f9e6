"""A verdict as JSON and back: what the decision log keeps, so that each reason can be checked from its inputs alone."""

import json
import math
from dataclasses import asdict
from typing import Any

from tiering.signals import Use
from tiering.verdict import Case, Cause, Inputs, Verdict


def to_plain(verdict: Verdict) -> dict[str, Any]:
    """Plain values of JSON; the infinite worth of what is pinned is null."""
    plain = asdict(verdict)
    plain["cause"] = str(verdict.cause)
    plain["inputs"]["use"]["hint"] = int(verdict.inputs.use.hint)
    if math.isinf(verdict.inputs.worth):
        plain["inputs"]["worth"] = None
    return plain


def from_plain(plain: dict[str, Any]) -> Verdict:
    """Raises: KeyError, TypeError, ValueError if it is not what `to_plain` gave."""
    inputs = dict(plain["inputs"])
    inputs["use"] = Use(**inputs["use"])
    inputs["alike"] = (inputs["alike"][0], inputs["alike"][1])
    inputs["worth"] = math.inf if inputs["worth"] is None else inputs["worth"]
    case = Case(**plain["case"]) if plain["case"] is not None else None
    rest = {name: plain[name] for name in ("key", "source", "target", "now", "for_key")}
    return Verdict(cause=Cause(plain["cause"]), inputs=Inputs(**inputs), case=case, **rest)


def to_text(verdict: Verdict) -> str:
    return json.dumps(to_plain(verdict), separators=(",", ":"))


def from_text(text: str) -> Verdict:
    """Raises: ValueError if it is not what `to_text` gave."""
    try:
        return from_plain(json.loads(text))
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no verdict: {error}") from error
