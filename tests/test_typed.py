"""`POD(path, type=...)`: objects in memory, plain JSON of their fields in files, and nothing of another type in either."""

from __future__ import annotations

import html
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, end, exactly, files, hear, start, stored, tell
from typed_values import Page, Positive, Result, Step, add_one

from tastypy import POD, TastypyError, Tracker, UnstorableTypeError, UnstorableValueError, WrongTypeError

GOOD = Result(
    1.5,
    "good",
    [Step("a", 1), Step("b")],
    {"x": 1},
    (3, 4),
    ("p", "q"),
    "done",
    Step("c"),
    "n",
    Result(2),
    {"any": [1]},
)
BAD: Any = [
    pytest.param(Result("x"), "field 'score' must be float, not 'x'", id="a field"),  # type: ignore[arg-type]  # that is the point
    pytest.param(Result(1.5, steps=[Step("a"), Step(1)]), r"field 'steps\[1\].name' must be str, not 1", id="deep"),  # type: ignore[arg-type]  # as above
    pytest.param({"score": 1.5}, "must be Result, not {'score': 1.5}", id="a dict"),
    pytest.param(None, "must be Result, not None", id="None"),
]


@dataclass
class Seen:
    """One that adds to what it is given."""

    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.tags:
            self.tags.append("seen")


@dataclass
class Link:
    """One that holds another of its kind."""

    number: int = 0
    next: Link | None = None

    @classmethod
    def chain(cls, length: int) -> Link:
        """Return so many, each in the one before it."""
        made = cls()
        for number in range(1, length):
            made = cls(number, made)
        return made


@dataclass
class Numbers:
    """One whose fields a dict may have as well."""

    a: list[int]


@pytest.fixture
def results(opened: Opener) -> POD[str, Result]:
    """A POD of results."""
    return opened(type=Result)


@pytest.fixture
def plain(opened: Opener, results: POD[str, Result]) -> POD[str, Any]:
    """The same directory without a type."""
    return opened()


# ---------------------------------------------------------------------------------------------- what is stored and read


def test_an_object_is_stored_as_a_plain_json_object_and_read_as_an_equal_one(
    results: POD[str, Result], opened: Opener
) -> None:
    results["a"] = GOOD
    assert results["a"] == GOOD
    assert stored(results.path) == {"a": json.loads(json.dumps(asdict(GOOD)))}
    assert stored(results.path)["a"]["size"] == [3, 4]
    again = opened(type=Result)
    assert again["a"] == GOOD
    results.sync()
    assert opened(type=Result, mode="r")["a"] == GOOD


def test_a_typed_dict_is_checked_and_stays_a_dict(opened: Opener) -> None:
    pages = opened(type=Page)
    page: Page = {"url": "/", "links": [{"url": "/a", "status": 200}]}
    pages["a"] = page
    assert exactly(opened(type=Page)) == exactly({"a": page})
    with pytest.raises(WrongTypeError, match=r"the value of 'b': field 'links\[0\].url' is missing"):
        pages["b"] = {"url": "/", "links": [{"status": 200}]}
    assert list(pages) == ["a"]


def test_a_type_may_be_less_than_a_class_with_fields(opened: Opener) -> None:
    scores = opened(type=float)
    scores["a"] = 0.5
    assert scores.incr("a", 1.5) == 2.0
    with pytest.raises(WrongTypeError, match="the value of 'a' must be float, not 'x'"):
        scores["a"] = "x"
    lists = opened(Path(scores.path).with_name("lists.pod"), type=list[Step])
    lists["a"] = [Step("a")]
    assert lists["a"] == [Step("a")]


def test_what_is_stored_is_a_copy(results: POD[str, Result]) -> None:
    mine = Result(1.5, steps=[Step("a")])
    results["a"] = mine
    mine.score = 2.5
    mine.steps.append(Step("b"))
    assert results["a"] == Result(1.5, steps=[Step("a")])
    assert results.setdefault("b", mine) == mine
    assert results.setdefault("b", mine) is not mine


def test_every_mutator_takes_and_gives_objects(results: POD[str, Result], opened: Opener) -> None:
    results.update({"a": Result(1)}, b=Result(2))
    results |= {"c": Result(3)}
    results.setdefault("d", Result(4))
    with results.transaction():
        results["e"] = Result(5)
    with results.edit("a") as first:
        first.score = 10
    with results.edit("f", default=Result(6)) as last:
        last.label = "new"
    assert results.pop("b") == Result(2)
    assert results.popitem(last=False) == ("a", Result(10))
    results.move_to_end("c")
    expected = {"d": Result(4), "e": Result(5), "f": Result(6, "new"), "c": Result(3)}
    assert list(results.items()) == list(expected.items())
    assert list(opened(type=Result).items()) == list(expected.items())
    assert results.copy() == expected
    results.clear()
    assert opened(type=Result) == {}


@pytest.mark.parametrize("call", ["update", "sync_key"])
def test_an_object_that_is_mutated_in_place_is_committed_by_its_key_and_stays_the_same_object(
    results: POD[str, Result], plain: POD[str, Any], call: str
) -> None:
    results["a"] = Result(1)
    mine = results["a"]
    for score in (2, 3):
        mine.score = score
        getattr(results, call)("a")
        assert results["a"] is mine
        plain.refresh()
        assert plain["a"]["score"] == score


@pytest.mark.parametrize("held", [False, True])
def test_what_it_is_mutated_into_is_made_what_the_file_has(
    results: POD[str, Result], opened: Opener, held: bool
) -> None:
    results["a"] = Result(1)
    if held:
        results.hold()
        results["a"] = Result(1)
    results["a"].more = (1, 2)
    if held:
        results.unhold()
    else:
        results.update("a")
    assert exactly(results) == exactly(opened(type=Result)) == exactly({"a": Result(1, more=[1, 2])})


def test_an_object_that_is_mutated_into_what_its_class_refuses_is_not_stored(opened: Opener) -> None:
    pod = opened(type=Positive)
    pod["a"] = Positive(1)
    pod["a"].number = -1
    with pytest.raises(WrongTypeError, match="the value of 'a' is not what Positive takes: ValueError: it is negative"):
        pod.update("a")
    assert opened(type=Positive) == {"a": Positive(1)}


def test_a_class_that_changes_a_field_in_place_is_refused_before_memory_and_disk_differ(opened: Opener) -> None:
    pod = opened(type=Seen)
    with pytest.raises(
        WrongTypeError, match=r"'tags' comes back as \['x', 'seen', 'seen'\], not \['x', 'seen'\]: Seen"
    ):
        pod["b"] = Seen(["x"])
    pod["a"] = Seen()
    pod["a"].tags.append("x")
    with pytest.raises(WrongTypeError, match=r"'tags' comes back as \['x', 'seen'\], not \['x'\]: Seen changes it"):
        pod.update("a")
    assert opened(type=Seen) == {"a": Seen()}


def test_a_value_that_was_taken_can_be_read_from_a_deep_stack(opened: Opener) -> None:
    pod = opened(type=Link)
    with pytest.raises(UnstorableValueError, match="the value of 'a' is nested more than 60 levels deep"):
        pod["a"] = Link.chain(61)
    assert pod == {}
    pod["a"] = Link.chain(60)

    def deeper(calls: int) -> dict[str, Any]:
        return deeper(calls - 1) if calls else dict(opened(type=Link))

    assert deeper(400) == {"a": Link.chain(60)}
    opened()["a"] = asdict(Link.chain(100))
    with pytest.raises(
        WrongTypeError, match=r"my.pod: the value of 'a' is nested too deep for .* stack here: (?!.*stored)"
    ):
        deeper(600)
    assert opened(type=Link)["a"] == Link.chain(100)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Numbers | dict, {"a": (1, 2)}),
        (Numbers | Any, {"a": (1, 2)}),
        (Numbers | dict, {"a": {1, 2}}),
        (dict[str, Numbers | dict], {"inner": {"a": (1, 2)}}),  # type: ignore[type-arg]  # whatever is in it
    ],
)
def test_what_json_makes_another_member_of_a_union_is_refused(opened: Opener, kind: Any, value: Any) -> None:
    pod = opened(type=kind, default=list)
    with pytest.raises(WrongTypeError, match=r"(Any|dict\[str, Any\]), and would come back as Numbers"):
        pod["a"] = value
    pod["a"] = {}
    pod["a"].update(value)
    with pytest.raises(WrongTypeError, match="would come back as Numbers"):
        pod.update("a")
    assert opened(type=kind, default=list) == {"a": {}}


def test_default_converts_what_stands_where_the_type_leaves_it_open(opened: Opener) -> None:
    results = opened(type=Result, default=sorted)
    results["a"] = Result(1, more={2, 1})
    assert results["a"].more == [1, 2]
    with pytest.raises(WrongTypeError, match="'counts'"):
        results["b"] = Result(1, counts={2, 1})  # type: ignore[arg-type]  # that is the point


# ------------------------------------------------------------------------------------------------------ what is refused

WAYS: dict[str, Callable[[POD[str, Any], Any], object]] = {
    "assignment": lambda pod, value: pod.__setitem__("a", value),
    "update": lambda pod, value: pod.update({"new": Result(1), "a": value}),
    "|=": lambda pod, value: pod.__ior__({"a": value}),
    "setdefault": lambda pod, value: pod.setdefault("a", value),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("value", "message"), BAD)
def test_a_value_of_another_type_is_refused_by_key_and_field_and_nothing_changes(
    results: POD[str, Any], way: str, value: Any, message: str
) -> None:
    results["b"] = GOOD
    before = files(Path(results.path))
    with pytest.raises(WrongTypeError, match=f"^the value of 'a':? {message}$") as caught:
        WAYS[way](results, value)
    assert isinstance(caught.value, TastypyError)
    assert isinstance(caught.value, TypeError)
    assert caught.value.path == results.path
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert dict(results.items()) == {"b": GOOD}
    assert files(Path(results.path)) == before


def test_what_json_lacks_is_refused_as_ever(results: POD[str, Result]) -> None:
    with pytest.raises(UnstorableValueError, match=r"the value of 'a'\['score'\] is NaN"):
        results["a"] = Result(float("nan"))
    with pytest.raises(UnstorableTypeError, match=r"the value of 'a'\['more'\] is of type builtins.set"):
        results["a"] = Result(1, more={1})
    endless = Result(1)
    endless.before = endless
    with pytest.raises(UnstorableValueError, match="the value of 'a' is nested too deep, or holds itself"):
        results["a"] = endless
    assert results == {}


def test_an_edit_that_leaves_a_wrong_type_changes_nothing(results: POD[str, Result], plain: POD[str, Any]) -> None:
    results["a"] = Result(1, steps=[Step("a")])
    with pytest.raises(WrongTypeError, match=r"the value of 'a': field 'steps\[0\].seconds' must be float, not 'x'"):  # noqa: SIM117 - it is the end of the block that raises
        with results.edit("a") as result:
            result.steps[0].seconds = "x"  # type: ignore[assignment]  # that is the point
    assert results["a"] == Result(1, steps=[Step("a")])
    plain.refresh()
    assert plain["a"]["steps"] == [{"name": "a", "seconds": 0.0}]


def test_a_transaction_is_rolled_back_to_objects(results: POD[str, Result]) -> None:
    results.update(a=Result(1), b=Result(2))
    with pytest.raises(LookupError), results.transaction():
        results["a"] = Result(3)
        del results["b"]
        results["c"] = Result(4)
        with pytest.raises(WrongTypeError):
            results["d"] = 4  # type: ignore[assignment]  # that is the point
        raise LookupError
    assert list(results.items()) == [("a", Result(1)), ("b", Result(2))]


def test_a_held_object_that_becomes_wrong_stays_held_and_the_others_are_written(
    results: POD[str, Result], plain: POD[str, Any]
) -> None:
    results.hold()
    results.update(a=Result(1), b=Result(2))
    results["a"].score = "x"  # type: ignore[assignment]  # that is the point
    with pytest.raises(WrongTypeError, match="the value of 'a': field 'score' must be float, not 'x'"):
        results.sync()
    assert results.dirty() == {"a"}
    plain.refresh()
    assert list(plain) == ["b"]
    results["a"].score = 3
    results.unhold()
    plain.refresh()
    assert plain["a"]["score"] == 3


def test_revert_brings_back_objects(results: POD[str, Result]) -> None:
    results["a"] = Result(1)
    with results.hold():
        results["a"] = Result(2)
        results["b"] = Result(3)
        results.revert()
    assert results == {"a": Result(1)}


@pytest.mark.parametrize("kind", [set, dict[int, str], 5, list[bytes]], ids=str)
def test_a_type_that_json_cannot_hold_is_refused_before_anything_is_made(path: Path, kind: Any) -> None:
    with pytest.raises(TypeError, match=r"^type=.* cannot be the type of a POD's values: .* JSON cannot hold"):
        POD(path, type=kind)
    assert not path.exists()


def test_a_tracker_has_no_type(path: Path) -> None:
    options: dict[str, Any] = {"type": Result}
    with pytest.raises(TypeError, match="a tracker has no type=: its values are the entries of tasks"):
        Tracker(path, **options)
    assert not path.exists()
    Tracker(path, **{**options, "type": None}).close()


def test_an_alias_that_holds_itself_is_refused_by_what_it_is(path: Path) -> None:
    class TypeAliasType:
        """What `type Nested = int | list[Nested]` makes, which Python has from 3.12 on."""

        @property
        def __value__(self) -> Any:
            return int | list[self]  # type: ignore[valid-type]  # it is what `type` would make

    nested: Any = TypeAliasType()
    with pytest.raises(TypeError, match="a `type` alias in it holds itself"):
        POD(path, type=nested)
    assert not path.exists()


# ------------------------------------------------------------------- what others wrote, without a type or with another


@dataclass
class Other:
    """Another type."""

    name: str


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"score": "x"}, "field 'score' must be float, not 'x'"),
        ({}, "field 'score' is missing"),
        ({"score": 1, "more": 1, "extra": 1}, "field 'extra' is unknown: Result has no such field"),
        (
            {"score": 1, "steps": [{"name": "a", "seconds": None}]},
            r"field 'steps\[0\].seconds' must be float, not None",
        ),
        (7, " must be Result, not 7"),
    ],
)
def test_a_directory_with_another_value_is_not_opened_and_stays_as_it_is(
    opened: Opener, value: Any, message: str
) -> None:
    plain = opened()
    plain.update(good={"score": 1}, bad=value)
    before = files(Path(plain.path))
    with pytest.raises(WrongTypeError, match=rf"my.pod: the value of 'bad':? ?{message}\. .*open the POD without it"):
        opened(type=Result)
    assert files(Path(plain.path)) == before
    plain.sync()
    with pytest.raises(WrongTypeError, match="the value of 'bad'"):
        opened(type=Result)
    del plain["bad"]
    assert opened(type=Result) == {"good": Result(1)}


def test_a_refresh_that_meets_another_value_changes_nothing_and_the_one_after_it_is_mended_all(
    results: POD[str, Result], plain: POD[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    results["a"] = Result(1)
    plain.update(b={"score": 2})
    plain["a"] = {"score": None}
    plain.update(c={"score": 3})
    before = files(Path(results.path))
    for change in (
        results.refresh,
        lambda: results.update(d=Result(4)),
        lambda: results.pop("a"),
        lambda: results.transaction().__enter__(),
        results.sync,
    ):
        with pytest.raises(WrongTypeError, match="the value of 'a': field 'score' must be float, not None"):
            change()
        assert dict(results.items()) == {"a": Result(1)}
    assert files(Path(results.path)) == before
    assert caplog.text == ""
    plain["a"] = {"score": 5}  # the value before it stays in the journal, and does not count
    assert results.refresh() == {"a", "b", "c"}
    results["d"] = Result(4)
    assert list(results.items()) == [("a", Result(5)), ("b", Result(2)), ("c", Result(3)), ("d", Result(4))]


@pytest.mark.parametrize("mend", ["del", "clear", "put", "del and put"])
@pytest.mark.parametrize("held", [False, True])
def test_a_bad_value_that_is_gone_by_the_time_of_the_refresh_is_none(
    results: POD[str, Result], plain: POD[str, Any], mend: str, held: bool
) -> None:
    results.update(a=Result(1), b=Result(2))
    if held:
        results.hold()
        results["h"] = Result(9)
    plain["a"] = "bad"
    if "del" in mend:
        del plain["a"]
    if "clear" in mend:
        plain.clear()
    if "put" in mend:
        plain["a"] = {"score": 3}
    changed = results.refresh()
    rest = {} if mend == "clear" else {"b": Result(2)}
    there = {"put": {"a": Result(3), **rest}, "del and put": {**rest, "a": Result(3)}}.get(mend, rest)
    assert list(results.items()) == list({**there, **({"h": Result(9)} if held else {})}.items())
    assert changed == ({"a", "b"} if mend == "clear" else {"a"})


def test_a_repair_tells_what_it_did_whatever_others_wrote(results: POD[str, Result], plain: POD[str, Any]) -> None:
    plain["b"] = {"score": 1}
    plain.sync()
    plain["a"] = {"score": "x"}
    (shard,) = Path(results.path).glob("0000-*.json")
    shard.write_text("{}")
    assert any(shard.name in done for done in results.repair())
    with pytest.raises(WrongTypeError, match="the value of 'a'"):
        results.refresh()


def test_an_empty_pod_stays_empty_where_all_that_is_new_is_bad(results: POD[str, Result], plain: POD[str, Any]) -> None:
    for _ in range(3):
        plain["a"] = {"score": "x"}
        plain.sync()
    with pytest.raises(WrongTypeError, match="the value of 'a'"):
        results.refresh()
    assert results == {}


def test_a_refresh_over_folds_tells_the_keys_that_changed_and_no_others(
    results: POD[str, Result], plain: POD[str, Any]
) -> None:
    results.update(a=Result(1), b=Result(2), c=Result(3))
    for score in (4, 5, 6):
        plain["a"] = {"score": score}
        plain.sync()
    del plain["b"]
    assert results.refresh() == {"a", "b"}
    assert list(results.items()) == [("a", Result(6)), ("c", Result(3))]
    for _ in range(3):
        plain["c"] = None
        plain.sync()
    with pytest.raises(WrongTypeError, match="the value of 'c' must be Result, not None"):
        results.refresh()
    assert list(results.items()) == [("a", Result(6)), ("c", Result(3))]
    plain.pop("c")
    assert results.refresh() == {"c"}


@pytest.mark.parametrize("end", ["unhold", "close", "__exit__"])
@pytest.mark.parametrize("folds", [0, 3])
def test_what_is_held_gets_written_whatever_others_wrote(
    results: POD[str, Result], plain: POD[str, Any], end: str, folds: int
) -> None:
    results["a"] = Result(1)
    results.hold()
    results.update(a=Result(2), new=Result(3))
    plain.update(bad="bad", more={"score": 4})
    for number in range(folds):
        plain["more"] = {"score": number}
        plain.sync()
    with pytest.raises(WrongTypeError, match="'bad'"):
        results.sync()
    assert results.dirty() == {"a", "new"}
    if end == "__exit__":
        results.__exit__(None, None, None)
    else:
        getattr(results, end)()
    plain.refresh()
    assert list(plain) == ["a", "bad", "more", "new"]
    assert [plain["a"]["score"], plain["new"]["score"]] == [2, 3]
    if end == "unhold":
        with pytest.raises(WrongTypeError, match="'bad'"):
            results["b"] = Result(5)
        del plain["bad"]
        results["b"] = Result(5)
        assert list(results) == ["a", "more", "new", "b"]
    plain.sync()
    assert plain.check() == []


def test_what_is_held_gets_written_after_a_wait_for_the_lock_and_a_look_at_what_is_bad(
    results: POD[str, Result], plain: POD[str, Any]
) -> None:
    results.hold()
    results["new"] = Result(1)
    plain["bad"] = "bad"
    holder = start("stand_in_transaction", results.path)
    assert hear(holder) == "inside"
    threading.Timer(0.1, tell, [holder]).start()
    results.unhold()
    assert end(holder) == 0
    assert list(stored(results.path)) == ["bad", "inside", "new"]


def test_what_is_held_gets_written_at_exit_whatever_others_wrote(path: Path) -> None:
    program = f"""
from typed_values import *
pod = POD({str(path)!r}, type=Result)
pod.hold()
pod["new"] = Result(1)
POD({str(path)!r})["bad"] = "bad"
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60, capture_output=True)
    assert b"the value of 'bad' must be Result, not 'bad'" in done.stderr
    assert b"what is held here is written all the same" in done.stderr
    assert list(stored(path)) == ["bad", "new"]


def test_a_held_value_over_a_bad_one_wins(results: POD[str, Result], plain: POD[str, Any]) -> None:
    results.hold()
    results["a"] = Result(1)
    plain["a"] = "bad"
    results.unhold()
    assert results.refresh() == set()
    assert results == {"a": Result(1)}


def test_a_revert_that_meets_another_value_drops_nothing(results: POD[str, Result], plain: POD[str, Any]) -> None:
    results.hold()
    results["a"] = Result(1)
    plain["b"] = "bad"
    with pytest.raises(WrongTypeError, match="the value of 'b'"):
        results.revert()
    assert results.dirty() == {"a"}
    assert results == {"a": Result(1)}
    plain["b"] = {"score": 2}
    results.revert()
    assert results == {"b": Result(2)}
    results.unhold()


def test_another_type_is_refused_as_well(results: POD[str, Result], opened: Opener) -> None:
    results["a"] = Result(1)
    with pytest.raises(WrongTypeError, match="the value of 'a': field 'score' is unknown: Other has no such field"):
        opened(type=Other)


# --------------------------------------------------------------------------------------------------------- in and out


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_objects_are_exported_as_in_files_and_imported_as_objects(
    results: POD[str, Result], opened: Opener, tmp_path: Path, suffix: str
) -> None:
    results.update(a=GOOD, b=Result(2))
    results.export_to(tmp_path / f"all.{suffix}")
    for kind in (Result, None):
        other = opened(tmp_path / f"{kind}.pod", type=kind)
        assert other.import_from(tmp_path / f"all.{suffix}").added == 2
        assert exactly(other) == exactly(results if kind else stored(results.path))
    results.export_to(tmp_path / "columns.jsonl", columns=True)
    assert json.loads((tmp_path / "columns.jsonl").read_text().splitlines()[1])["score"] == 2


def test_what_is_not_of_the_type_is_not_imported(results: POD[str, Result], tmp_path: Path) -> None:
    source = tmp_path / "some.jsonl"
    source.write_text('{"key":"a","value":{"score":1}}\n{"key":"b","value":{"score":"x"}}\n')
    with pytest.raises(
        WrongTypeError, match=r"some.jsonl, line 2: the value of 'b': field 'score' must be float, not 'x'"
    ):
        results.import_from(source)
    assert results == {}
    assert len(results.import_from(source, skip_unstorable=True).unstorable) == 1
    assert results == {"a": Result(1)}


def test_pickled_objects_are_imported_as_what_they_are(results: POD[str, Result], tmp_path: Path) -> None:
    (tmp_path / "old.pickle").write_bytes(pickle.dumps({"a": GOOD, "b": {"score": 1}}))
    results.import_from(tmp_path / "old.pickle", unpickle=True)
    assert results == {"a": GOOD, "b": Result(1)}


def test_a_notebook_shows_objects_by_their_fields_cut_short(results: POD[str, Result]) -> None:
    results["a"] = Result(1, steps=[Step(str(number)) for number in range(1000)])
    (shown,) = re.findall(r"Result\([^<]*", html.unescape(results._repr_html_()))
    assert shown.startswith("Result(score=1, label='none', steps=[Step(name='0', seconds=0.0), Step(name='1'")
    assert len(shown) < 150


# ---------------------------------------------------------------------------------------------------- other processes


def test_workers_reopen_it_with_its_type(results: POD[str, Result]) -> None:
    results["a"] = Result(1)
    with ProcessPoolExecutor(2) as executor:
        scores = [result.score for result in executor.map(add_one, [results] * 4)]
    assert max(scores) == 5
    assert results.refresh() == {"a"}
    assert results["a"] == Result(5)
    assert pickle.loads(pickle.dumps(results))["a"] == Result(5)


def test_what_others_committed_while_an_assignment_waited_comes_in_as_objects(
    results: POD[str, Result], opened: Opener
) -> None:
    twin = opened(type=Result)
    with twin.transaction():
        twin["a"] = Result(1)
    twin["b"] = Result(2)
    results["c"] = Result(3)
    assert list(results.values()) == [Result(1), Result(2), Result(3)]
    twin.sync()
    results["d"] = Result(4)
    assert [*opened(type=Result).values()] == [Result(1), Result(2), Result(3), Result(4)]
