"""What is pure in `stress.bench`: statistics, cells of tables, who is left out and why."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stress.bench.bench import Bench, Pair, Sides
from stress.bench.cells import Cell, LeftOutError, Outcome, apart, paced
from stress.bench.comparison import GROUPS, TITLES, Compared, unable
from stress.bench.figures import Notes, Spread, amount, beyond, percentile, slope, spread
from stress.bench.peers import OURS, PEERS, Peer
from stress.bench.record import text_of
from stress.bench.rows import ROWS, SLACK, Result, measure
from stress.bench.tables import cell, table, times
from stress.bench.workloads import Column, Workload


def peer(name: str) -> Peer:
    return next(each for each in PEERS if each.name == name)


def test_a_spread_is_the_median_the_least_and_the_greatest() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)
    assert Spread(2.0, 1.0, 3.0).percent() == 50
    assert Spread(0.0, 0.0, 0.0).percent() == 0


def test_a_percentile_is_the_least_that_so_many_do_not_exceed() -> None:
    values = [float(number) for number in range(1000, 0, -1)]
    assert [percentile(values, percent) for percent in (50.0, 99.0, 99.9, 100.0)] == [500, 990, 999, 1000]


def test_a_percentile_of_too_few_values_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 1,000"):
        percentile([1.0] * 999, 99.9)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_slope_is_the_exponent_of_a_power(exponent: float) -> None:
    points = {size: 3e-6 * size**exponent for size in (1000, 10_000, 100_000, 1_000_000)}
    assert math.isclose(slope(points), exponent, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("cost", "unit", "text"),
    [
        (1.5, "s", "1.5 s"),
        (0.9999, "s", "1 s"),
        (0.0123, "s", "12.3 ms"),
        (4.56e-5, "s", "45.6 µs"),
        (2.5e-8, "s", "25 ns"),
        (250.0, "B", "250 B"),
        (1234.0, "B", "1.23 kB"),
        (0.0, "B", "0 B"),
        (12345.0, "/s", "12,345/s"),
        (3.0, "files", "3"),
    ],
)
def test_an_amount_has_the_unit_that_suits_it(cost: float, unit: str, text: str) -> None:
    assert amount(cost, unit) == text


def test_a_bound_is_on_the_side_that_is_asked_for_and_wider_with_slack() -> None:
    assert beyond(1.1, 1.0, at_least=False)
    assert not beyond(1.1, 1.0, at_least=False, slack=2.0)
    assert beyond(0.9, 1.0, at_least=True)
    assert not beyond(0.6, 1.0, at_least=True, slack=2.0)


def test_a_reason_has_one_letter_however_often_it_is_given() -> None:
    notes = Notes()
    assert [notes.letter(reason) for reason in ("slow", "absent", "slow")] == ["a", "b", "a"]
    assert notes.lines() == [("a", "slow"), ("b", "absent")]


def test_the_letters_go_on_after_the_last_one() -> None:
    notes = Notes()
    assert [notes.letter(str(number)) for number in range(28)][-3:] == ["z", "aa", "ab"]


def test_a_cell_has_the_cost_and_how_many_times_tastypys_it_is() -> None:
    cost, ratio = Spread(4.5e-5, 4e-5, 5e-5), Spread(4.0, 3.8, 4.2)
    assert cell(cost, ratio, "s", cut=False, note="") == "45 µs 4±5%"
    assert cell(cost, None, "s", cut=True, note="") == "45 µs*"
    assert cell(None, None, "s", cut=False, note="b") == "- b"
    assert [times(each) for each in (0.051, 3.94, 45.6, 1234.0, 12345.0)] == ["0.051", "3.9", "46", "1234", "12k"]


def _compared(**costs: list[float]) -> Compared:
    workload = Workload((Column("work", "work", "some work"),), lambda _: Outcome({}), 0, 1, None)
    names = {"ours": OURS, "dict": "(dict)"}
    return Compared(workload, {("work", names[name]): each for name, each in costs.items()}, {}, set())


def test_a_ratio_is_that_of_the_same_round() -> None:
    compared = _compared(ours=[1.0, 2.0, 4.0], dict=[2.0, 2.0, 2.0])
    assert compared.ratio(compared.workload.columns[0], "(dict)") == Spread(1.0, 0.5, 2.0)
    assert compared.ratio(compared.workload.columns[0], "lmdb") is None


def test_a_table_fits_into_120_columns_and_says_why_somebody_is_left_out() -> None:
    compared = _compared(ours=[1.0], dict=[0.5])
    compared.left_out["work", "(lock, append, unlock)"] = "does nothing but append"
    lines = table("writing", [compared] * 6)
    assert max(map(len, lines)) <= 120
    assert lines[0] == TITLES["writing"]
    assert any(line.strip().endswith(": does nothing but append") for line in lines)


def test_no_group_has_more_columns_than_fit() -> None:
    assert all(sum(len(each.columns) for each in group) <= 6 for group in GROUPS.values())


def test_whoever_does_not_take_part_has_a_reason() -> None:
    workloads = {each.name: each for group in GROUPS.values() for each in group}
    assert unable(peer("tastypy"), workloads["read"], 10_000) == ""
    assert unable(peer("(lock, append, unlock)"), workloads["assign"], 0) == ""
    assert unable(peer("(lock, append, unlock)"), workloads["read"], 10_000) == "does nothing but append"
    assert unable(peer("(dict)"), workloads["open-1000"], 1000) == "is not on disk"
    assert "several processes" in unable(peer("tinydb"), workloads["own-2"], 0)
    assert "10,000" in unable(peer("tinydb"), workloads["all-100000"], 100_000)
    assert unable(peer("lmdb"), workloads["read"], 10_000) == "as lmdb, sync off"


def test_a_peer_that_is_not_installed_says_so() -> None:
    assert peer("tastypy").missing() == ""
    assert "not installed" in peer("tastypy")._replace(module="no_such_module").missing()


def test_paced_work_ends_when_its_time_is_up() -> None:
    done: list[int] = []
    assert paced(done.extend, range(1000), 60.0)[1] == 1000
    assert done == list(range(1000))
    assert paced(done.extend, range(10_000_000), 0.0)[1] == 1


def test_what_fails_in_a_cell_is_the_reason_why_it_is_left_out(tmp_path: Path) -> None:
    def fail(_: Cell) -> Outcome:
        raise KeyError("no\nsuch key")

    a_cell = Cell(peer("(dict)"), tmp_path / "store", 0, 1, 1.0)
    with pytest.raises(LeftOutError, match="KeyError: 'no"):
        apart(fail, a_cell, 60.0)


def test_a_cell_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    def wait(_: Cell) -> Outcome:
        time.sleep(600)
        return Outcome({})

    with pytest.raises(LeftOutError, match="took longer than 0 s"):
        apart(wait, Cell(peer("(dict)"), tmp_path / "store", 0, 1, 1.0), 0.1)


def _result(bound: float, *ratios: float, rate: bool = False) -> Result:
    def prepare(_: Bench) -> Any:
        return Sides(lambda: 1.0, lambda: 1.0)

    pair = Pair("name", "one", "other", prepare, bound, rate=rate)
    return Result(pair, "one", "other", list(ratios), [1.0] * len(ratios), list(ratios))


def test_a_row_is_beyond_its_bound_if_the_median_is() -> None:
    assert not _result(1.0, 0.9, 0.9, 5.0).beyond()
    assert _result(1.0, 0.5, 1.5, 1.5).beyond()
    assert not _result(1.0, 0.5, 1.5, 1.5).beyond(2.0)
    assert _result(3.0, 2.0, rate=True).beyond()
    assert _result(3.0)._replace(why="could not be measured").beyond(2.0)


@pytest.mark.parametrize(
    ("quick", "slow_rounds", "rounds", "fails"),
    [(True, 2, 8, False), (True, 99, 8, True), (True, 0, 2, False), (False, 2, 2, True)],
)
def test_a_row_that_few_rounds_have_fail_is_measured_on(
    tmp_path: Path, quick: bool, slow_rounds: int, rounds: int, fails: bool
) -> None:
    costs = iter([3.0] * slow_rounds + [1.0] * 99)

    @contextmanager
    def prepare(_: Bench) -> Iterator[Sides]:
        yield Sides(lambda: next(costs), lambda: 1.0)

    result = measure(Pair("name", "one", "other", prepare, 1.0, warm=False), Bench(tmp_path, quick=quick), 2)
    assert len(result.ratios) == rounds
    assert result.beyond(SLACK) is fails


def test_the_rows_have_the_bounds_that_were_asked_for() -> None:
    bounds = {pair.name: pair.bound for pair in ROWS if pair.bound is not None}
    assert bounds == {
        "assign": 0.18,
        "calls": 1.8,
        "batch": 1.0,
        "durable": 0.9,
        "bulk": 0.3,
        "read": 1.02,
        "refresh": 2.5,
        "import": 1.25,
        "open": 0.9,
        "open-all": 0.25,
        "scale": 1.3,
        "memory": 1.15,
        "writers": 3.0,
        "crowd": 0.25,
        "claim": 3.0,
        "claim-late": 1.15,
        "workers": 5.0,
    }


def test_the_small_file_is_json_with_an_item_a_line() -> None:
    document = {"machine": {"cores": 2}, "rows": [[1, 2], [3]], "lines": []}
    text = text_of(document)
    assert json.loads(text) == document
    assert "\n  [1,2],\n  [3]\n" in text
