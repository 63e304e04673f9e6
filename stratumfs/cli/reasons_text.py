"""What ``stratum-tier explain`` says of reasons, of what is to come and of money, for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stratumfs.cli.units import size_text

_DAY_S, _HOUR_S = 86400.0, 3600.0
_ANSWERS = {
    "pays": "it would move when it is read",
    "takes nothing": "the tier takes nothing now",
    "too large": "it is larger than the tier",
    "worth nothing there": "the reads that are expected are not worth the dearer storage",
    "displaces too much": "what would have to make room is worth more, with the margin",
    "fees": "what that gains does not pay the fees of the moves",
}

_REMEMBERED = "the tier engine has not looked at the catalog since the store was opened; it remembers from before:"


def placed_lines(placed: Mapping[str, Any], word: str = "there") -> Iterator[str]:
    """Who, since when, why. *word*: what the time is of."""
    since = f" since {placed['since']}" if placed["since"] else ""
    yield f"{word}{since}, by {placed['by']}: {placed['reason']}"
    decision = placed["decision"]
    if decision is not None and decision.get("for"):
        yield f"  made room for {decision['for']}"
    if decision is not None and decision["case"] is not None:
        case = decision["case"]
        text = f"  decided by: gains {_month(case['gain_usd_s'])}"
        if case["displaced_usd_s"]:
            text += f", displaces what gains {_month(case['displaced_usd_s'])} (times {case['margin']:.3g})"
        yield f"{text}, fees {usd_text(case['fees_usd'])}, to be paid back in {span_text(case['payback_s'])}"


def reasons_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Of a store with more than one tier."""
    if not found["known"]:
        yield "the tier engine has not looked at it yet"
        return
    if not found["looked"]:
        yield _REMEMBERED
    if found["waits"] is not None:
        yield f"waits to be moved to {found['waits']['to']}, by {found['waits']['by']}: {found['waits']['reason']}"
    if found["left_alone_s"] is not None:
        yield f"could not be moved, and is left alone for {span_text(found['left_alone_s'])} more, whatever follows"
    yield from _inputs(found["inputs"])
    for each in found["compared"]:
        yield _compared(each)
    yield from outlook_lines(found["outlook"])
    yield _money(found["money"])


def _inputs(inputs: Mapping[str, Any]) -> Iterator[str]:
    gap = f", {span_text(inputs['gap_s'])} apart" if inputs["gap_s"] else ""
    text = f"counts {inputs['reads']:.3g} accesses{gap} (older ones count less), idle for {span_text(inputs['idle_s'])}"
    if inputs["part"] < 0.995:
        text += f", {inputs['part']:.0%} of it each time"
    if inputs["hour"] is not None:
        text += f", around {inputs['hour']:.0f}:00 UTC"
    if inputs["spike"] > 1.5:
        text += f", lately {inputs['spike']:.1f} times as often as usual"
    if inputs["hint"] is not None:
        text += f", {inputs['hint'] if inputs['hint'].startswith('pinned') else 'hint ' + inputs['hint']}"
    yield text
    got, read = inputs["alike"]
    if got >= 0.5:
        yield f"  of {got:.0f} like it (class {inputs['class']}) that were idle for as long {read:.0f} were read then"
    for each in inputs["tiers"]:
        worth = each["usd_gb_month"]
        value = "any price" if worth is None else f"{usd_text(worth)} a GB and month"
        pair = f"{each['tier']} rather than {each['rather_than']}"
        yield f"  {each['reads_day']:.3g} reads a day expected: {pair} is worth {value}"


def _compared(each: Mapping[str, Any]) -> str:
    text = f"not in {each['tier']}" if each["answer"] != "pays" else f"{each['tier']} pays"
    text += f": {_ANSWERS.get(each['answer'], each['answer'])}"
    worth = each["usd_gb_month"]
    if each["marginal"] is not None and worth is not None and each["marginal"]["usd_gb_month"] is not None:
        text += (
            f" ({usd_text(worth)} a GB and month against {usd_text(each['marginal']['usd_gb_month'])} times"
            f" {each['margin']:.3g} of {_path(each['marginal'])}, the last of {each['make_room']}"
            f" for {size_text(each['bytes_missing'])})"
        )
    return text


def outlook_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What happens next, and what would change it."""
    for each in found["closed"]:
        yield f"{each['tier']} takes nothing now, and what follows holds for as long as that is so: {each['reason']}"
    if found["pinned"] and not found["pin_fits"]:
        yield "pinned to a tier that has no room for it beside all else that is pinned there: it stays where it is"
        return
    if found["restored"]:
        yield "restored: nothing moves it before the date that x-amz-restore says; then it goes back"
        return
    if found["pinned"]:
        yield "pinned: nothing moves it"
        return
    if found["observes_until"] is not None:
        yield f"nothing moves by preference before {found['observes_until']}"
    for each in found["reads"]:
        yield _reads(each)
    for each in found["idle"]:
        yield f"{each['days']:.3g} idle days more, {each['at']}: it leaves for {each['to']}"
    if not found["idle"]:
        yield f"not read, it stays for {found['horizon_days']:.0f} days at least, unless room is needed"
    yield from _room(found)


def _reads(each: Mapping[str, Any]) -> str:
    gap = span_text(each["gap_s"])
    reads = f"1 more read in {gap}" if each["count"] == 1 else f"{each['count']} more reads, {gap} apart"
    if each["usual"]:
        reads += " as usual"
    if each["to"] is None:
        return f"{reads}, do not move it"
    return f"{reads}, by {each['by']}: it moves to {each['to']}"


def _room(found: Mapping[str, Any]) -> Iterator[str]:
    first, room = found["leave_first"], found["room"]
    if room is None:
        return
    if room["leaves"]:
        yield f"when room for more than {size_text(room['bytes'])} is needed in its tier it leaves"
    elif first["of"]:
        yield (
            f"room for {size_text(room['bytes'])} can be needed in its tier before it leaves: "
            f"of {first['of']} that were looked at {first['worth_less']} go before it"
        )


def _money(money: Mapping[str, Any]) -> str:
    text = f"stored there for {span_text(money['held_s'])} for {usd_text(money['usd'])}"
    if money["usd_where_new_data_lands"] != money["usd"]:
        kind = "saved" if money["usd_saved"] >= 0 else "more"
        text += f", {usd_text(abs(money['usd_saved']))} {kind} than where new data lands"
    return f"{text}; {usd_text(money['usd_month'])} a month; a read costs {usd_text(money['usd_read'])} and waits " + (
        f"{money['wait_read_s']:.3g} s"
    )


def sums_lines(target: str, sums: Mapping[str, Any]) -> Iterator[str]:
    """Of a directory or a bucket."""
    yield f"{target}: {sums['objects']} objects, {size_text(sums['bytes'])}" + (
        "" if sums["complete"] else " (and more: there was no time for all)"
    )
    for tier, each in sums["tiers"].items():
        yield f"  {tier}: {each['objects']} objects, {size_text(each['bytes'])}, {usd_text(each['usd_month'])} a month"
    if sums["inline_objects"]:
        yield f"  in the catalog: {sums['inline_objects']} objects"
    if len(sums["tiers"]) > 1 or sums["usd_month_saved"]:
        yield f"  {usd_text(sums['usd_month'])} a month, {usd_text(sums['usd_month_saved'])} saved by tiers"
    if not sums["looked"]:
        yield f"  {_REMEMBERED}"
    yield from _ways("wait to be moved", sums["waiting"])
    yield from _ways("would leave by themselves within a day", sums["would_leave"])


def _ways(what: str, ways: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in ways:
        yield f"  {size_text(each['bytes'])} {what}, {each['from']} to {each['to']}"


def span_text(seconds: float) -> str:
    """In the largest unit that keeps a digit before the point."""
    for unit, name in ((_DAY_S, "days"), (_HOUR_S, "hours"), (60.0, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name if seconds != unit else name[:-1]}"
    return f"{seconds:.3g} seconds"


def usd_text(usd: float) -> str:
    """With as many digits as it takes to see some."""
    return f"{usd:.2f} USD" if abs(usd) >= 1 or not usd else f"{usd:.3g} USD"


def _month(usd_s: float | None) -> str:
    return "any price" if usd_s is None else f"{usd_text(usd_s * 30 * _DAY_S)} a month"


def _path(each: Mapping[str, Any]) -> str:
    return str(each["path"]) or f"inode {each['inode']}"
