"""What an explanation says of what is to come, of money and of sums."""

from typing import Any

from stratumfs.cli.reasons_text import outlook_lines, placed_lines, reasons_lines, span_text, sums_lines, usd_text

OUTLOOK: dict[str, Any] = {
    "at": "2026-01-01T00:00:00Z",
    "pinned": False,
    "restored": False,
    "pin_fits": True,
    "closed": [],
    "observes_until": None,
    "reads": [],
    "idle": [],
    "horizon_days": 90.0,
    "leave_first": {"worth_less": 3, "of": 100},
    "room": None,
}


def reads(count: int, to: str | None, *, usual: bool = False) -> dict[str, Any]:
    return {"count": count, "bytes": 9, "gap_s": 3600.0, "usual": usual, "by": "T", "to": to}


def test_what_is_to_come_is_said_as_it_was_found() -> None:
    found = OUTLOOK | {
        "reads": [reads(1, "hot"), reads(3, "warm", usual=True), reads(12, None)],
        "idle": [{"days": 9.0, "at": "T", "to": "cold"}],
        "room": {"bytes": 2048, "leaves": True},
        "observes_until": "T",
    }
    assert list(outlook_lines(found)) == [
        "nothing moves by preference before T",
        "1 more read in 1 hour, by T: it moves to hot",
        "3 more reads, 1 hour apart as usual, by T: it moves to warm",
        "12 more reads, 1 hour apart, do not move it",
        "9 idle days more, T: it leaves for cold",
        "when room for more than 2.0 KiB is needed in its tier it leaves",
    ]
    assert list(outlook_lines(OUTLOOK | {"room": {"bytes": 5, "leaves": False}})) == [
        "not read, it stays for 90 days at least, unless room is needed",
        "room for 5 B can be needed in its tier before it leaves: of 100 that were looked at 3 go before it",
    ]
    assert list(outlook_lines(OUTLOOK | {"pinned": True})) == ["pinned: nothing moves it"]
    [line] = outlook_lines(OUTLOOK | {"pinned": True, "pin_fits": False})
    assert line.startswith("pinned to a tier that has no room for it")
    closed, line = outlook_lines(OUTLOOK | {"restored": True, "closed": [{"tier": "cold", "reason": "it is away"}]})
    assert closed.startswith("cold takes nothing now")
    assert line.startswith("restored: nothing moves it before the date")
    assert list(reasons_lines({"known": False})) == ["the tier engine has not looked at it yet"]


def test_who_moved_it_and_what_decided() -> None:
    case = {"gain_usd_s": 1e-6, "displaced_usd_s": 0.0, "margin": 1.1, "fees_usd": 0.5, "payback_s": 2592000.0}
    placed = {"tier": "warm", "since": "T", "by": "policy", "reason": "why", "decision": {"case": case}}
    assert list(placed_lines(placed)) == [
        "there since T, by policy: why",
        "  decided by: gains 2.59 USD a month, fees 0.5 USD, to be paid back in 30 days",
    ]
    pressed = placed | {"by": "pressure", "decision": {"case": None, "for": "bucket/b"}}
    assert list(placed_lines(pressed)) == ["there since T, by pressure: why", "  made room for bucket/b"]


def test_sums_say_what_is_where_and_what_would_leave() -> None:
    tiers = {"hot": {"objects": 2, "bytes": 2048, "usd_month": 2.0}}
    way = {"from": "hot", "to": "warm", "bytes": 1024}
    found = {"objects": 3, "bytes": 2048, "inline_objects": 1, "complete": False, "looked": True, "tiers": tiers,
             "usd_month": 2.0, "usd_month_saved": 0.0, "waiting": [], "would_leave": [way]}  # fmt: skip
    assert list(sums_lines("s3://b", found)) == [
        "s3://b: 3 objects, 2.0 KiB (and more: there was no time for all)",
        "  hot: 2 objects, 2.0 KiB, 2.00 USD a month",
        "  in the catalog: 1 objects",
        "  1.0 KiB would leave by themselves within a day, hot to warm",
    ]


def test_spans_and_dollars_keep_their_digits() -> None:
    assert [span_text(each) for each in (3.0, 90.0, 3600.0, 86400.0 * 9)] == [
        "3 seconds",
        "1.5 minutes",
        "1 hour",
        "9 days",
    ]
    assert [usd_text(each) for each in (0.0, 12.345, 0.00012345)] == ["0.00 USD", "12.35 USD", "0.000123 USD"]
