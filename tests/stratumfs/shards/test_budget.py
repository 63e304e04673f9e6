"""What may be spent in a day."""

from concurrent.futures import ThreadPoolExecutor

from stratumfs.shards.budget import DAY_S, Budget, RecallBudget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_bound_anything_may_be_spent_and_is_counted() -> None:
    budget = Budget(None)
    budget.spend(1e12)
    assert (budget.closed_s(), budget.spent) == (0.0, 1e12)


def test_a_day_s_worth_may_be_spent_at_once_and_grows_back_all_day_long() -> None:
    clock = Clock()
    budget = Budget(100.0, clock)
    budget.spend(99.0)
    assert budget.closed_s() == 0.0
    budget.spend(26.0)  # the one that goes beyond it is the last one
    assert DAY_S / 4 <= budget.closed_s() <= DAY_S / 4 + 2
    clock.now = DAY_S / 4 + 2
    assert budget.closed_s() == 0.0
    clock.now = 10 * DAY_S
    budget.spend(101.0)  # no more than a day's worth was saved
    assert budget.closed_s() > 0


def test_bytes_and_money_are_both_bounds() -> None:
    clock = Clock()
    budget = RecallBudget(1000.0, 1.0, usd_get=0.4, usd_byte=0.001, clock=clock)
    budget.spend(100)
    assert budget.closed_s() == 0.0
    budget.spend(100)
    assert budget.closed_s() == 1.0  # nothing is left, to the last cent
    budget.spend(100)
    assert DAY_S / 2 <= budget.closed_s() <= DAY_S / 2 + 2
    assert budget.bytes.closed_s() == 0.0


def test_of_many_who_ask_at_once_one_goes_beyond_it() -> None:
    budget = RecallBudget(100.0, 1.0, usd_byte=0.001, clock=Clock())
    budget.spend(99)
    with ThreadPoolExecutor(16) as pool:
        closed = list(pool.map(lambda _: budget.take(1000), range(200)))
    assert closed.count(0.0) == 1
    assert budget.bytes.spent == 1099
    assert budget.usd.spent == 1.099
