"""Price lists from settings, and what owners of objects wish."""

import math

import pytest

from stratumfs.catalog.residence import Residence
from stratumfs.config import parse
from stratumfs.ids import InodeNo
from tiering.costs import price_list
from tiering.kinds import KINDS, kind_of
from tiering.policy import Policy
from tiering.prices import DAY_S, MONTH_S
from tiering.signals import Hint
from tiering.wishes import wish_of
from tiering.worths import PolicySettings

SETTINGS = """
[hot]
k = 4
m = 2
capacity = 1_000_000
latency_s = 0.001

[warm]
k = 2
m = 1
"""


def test_settings_come_before_what_is_usual() -> None:
    hot, warm = price_list(parse(SETTINGS, "here").tiers, 1.0).tiers
    assert (hot.name, hot.capacity_bytes, hot.latency_s, hot.usd_gb_month) == ("hot", 1_000_000, 0.001, 0.08)
    assert (warm.name, warm.capacity_bytes, warm.latency_s) == ("warm", math.inf, 0.01)


@pytest.mark.parametrize(
    ("pin", "metadata", "storage_class", "wish"),
    [
        (None, {}, "STANDARD", Hint.NONE),
        (b"warm", {"stratum-hint": "hot"}, "STANDARD", Hint.PIN_FIRST + 1),
        (b"none", {"stratum-hint": "hot"}, "GLACIER_IR", Hint.HOT),
        (b"cold", {}, "STANDARD", Hint.NONE),  # of a tier that there is not
        (None, {"stratum-hint": " Cold "}, "STANDARD", Hint.COLD),
        (None, {"stratum-hint": "lukewarm"}, "GLACIER_IR", Hint.NONE),
        (None, {}, "STANDARD_IA", Hint.COLD),
    ],
)
def test_a_pin_comes_before_a_hint_and_that_before_a_storage_class(
    pin: bytes | None, metadata: dict[str, str], storage_class: str, wish: int
) -> None:
    found = Residence(InodeNo(1), False, metadata=metadata, storage_class=storage_class)
    assert wish_of(found, pin, ("hot", "warm")) == wish


@pytest.mark.parametrize(
    ("name", "declared", "kind"),
    [
        (b"film.mkv", None, "video"),
        (b"photo.JPG", None, "image"),
        (b"notes", "text/plain; charset=utf-8", "text"),
        (b"x.bin", "application/octet-stream", "unknown"),
        (b"report.docx", None, "document"),
        (b"weights.safetensors", "application/octet-stream", "model"),
        (b"\xff\xfe", None, "unknown"),
    ],
)
def test_what_an_object_is_follows_from_its_type_else_its_name(name: bytes, declared: str | None, kind: str) -> None:
    assert KINDS[kind_of(name, declared)] == kind


def test_devices_of_which_no_price_is_said_are_bought_and_nothing_leaves_them_before_there_is_need() -> None:
    settings = parse(SETTINGS + '\n[cold]\nto = "s3://bucket/store"\n', "here")
    made = Policy(price_list(settings.priced, 1.0), 0.0, PolicySettings(warmup_s=0))
    assert [each.bought for each in made.prices.tiers] == [True, True, False]
    assert made.prices.tiers[0].hold_usd(1e9, MONTH_S) == pytest.approx(0.08), "it is told all the same"
    for key in range(12):
        made.landed(key, 50_000, 0, 0.0)
    for day in range(1, 300):
        assert made.review(day * DAY_S, 100) == [], "whatever is idle"
    made.landed(99, 500_000, 0, 300 * DAY_S)
    assert {(each.source, each.target) for each in made.review(300 * DAY_S, 0)} == {(0, 1)}, "not to where it costs"
    said = price_list(parse(SETTINGS.replace("latency_s", "usd_gb_month = 0.08\nlatency_s"), "here").priced, 1.0)
    assert [each.bought for each in said.tiers] == [False, True]
    rented = Policy(said, 0.0, PolicySettings(warmup_s=0))
    rented.landed(1, 50_000, 0, 0.0)
    assert [each.target for each in rented.look(1, 200 * DAY_S)] == [1]
