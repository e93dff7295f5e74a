"""What batches are said to have done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tastypy import POD, Tracker
from tastypy import format as form
from tastypy.entries import FRESH
from tastypy.happenings import Happening, Witness
from tastypy.history import Batch, History

HEADER = form.Header("0" * 16, 7, 6, 0, False, 1000, 0, ())


def claim(token: str = "t", worker: str = "w") -> dict[str, Any]:
    return {"_claim": {"token": token, "worker": worker}}


def happened(before: dict[str, Any] | None, *batches: dict[str, Any]) -> list[list[Happening]]:
    """What happens in batches to entries that were there before; None if these are not known."""
    witness = Witness(lambda header: None if before is None else dict(before))
    return [witness.of(HEADER, batch) for batch in batches]


def fate(before: dict[str, Any] | None, after: dict[str, Any]) -> Happening:
    """What happens to a task."""
    ((happening,),) = happened(
        {"a": {**FRESH, **before}} if before is not None else None, {"put": {"a": {**FRESH, **after}}}
    )
    assert happening.keys == ["a"]
    return happening


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({"put": {"a": 1, 2: {"depth": 1}}}, [Happening("put", ["a", "#2"])]),
        ({"del": ["a", ("b", 1)]}, [Happening("deleted", ["a", '#["b",1]'])]),
        ({"clear": True, "put": {"a": 1}}, [Happening("cleared", []), Happening("put", ["a"])]),
        ({"del": ["a"], "put": {"a": 1}}, [Happening("put", ["a"])]),
        ({"front": ["a", "b"], "synced": 5}, [Happening("moved", ["a", "b"])]),
        ({}, []),
    ],
)
def test_of_a_pod_it_is_keys_that_are_put_deleted_and_moved(batch: dict[str, Any], expected: list[Happening]) -> None:
    assert happened(None, batch) == [expected]


DONE = {"_done": True, "_tries": 1, "_at": 2.0}
FAILED = {"_tries": 1, "_error": "ValueError: no", "_at": 2.0}


@pytest.mark.parametrize(
    ("before", "after", "what", "worker", "error"),
    [
        ({}, {**claim(), "_at": 2.0}, "claimed", "w", ""),
        (FAILED, {**FAILED, **claim()}, "claimed", "w", ""),
        (claim("s", "dead"), {"_tries": 1, **claim()}, "claimed", "w", ""),
        (claim(), DONE, "done", "w", ""),
        ({}, DONE, "done", "", ""),
        (claim(), {**DONE, **claim()}, "done", "", ""),
        (claim(), FAILED, "failed", "w", "ValueError: no"),
        ({**FAILED, **claim()}, {**FAILED, "_tries": 2}, "failed", "w", "ValueError: no"),
        (claim(), {}, "released", "w", ""),
        ({**FAILED, **claim()}, FAILED, "released", "w", ""),
        ({}, {"_aborted": True}, "aborted", "", ""),
        (claim(), {"_aborted": True, **claim()}, "aborted", "", ""),
        ({"_aborted": True}, {}, "unaborted", "", ""),
        (FAILED, {}, "reopened", "", ""),
        (DONE, {}, "reopened", "", ""),
        ({**FAILED, **claim()}, {}, "reopened", "", ""),
        (DONE, {**DONE, "x": 1}, "changed", "", ""),
        (claim(), {**claim(), "x": 1}, "changed", "", ""),
        ({}, {"_tries": 1}, "changed", "", ""),
    ],
)
def test_what_becomes_of_a_task_shows_beside_what_it_was(
    before: dict[str, Any], after: dict[str, Any], what: str, worker: str, error: str
) -> None:
    happening = fate(before, after)
    assert (happening.what, happening.worker, happening.error) == (what, worker, error)
    assert happening.at == (after.get("_at") if what != "changed" else None)


@pytest.mark.parametrize(
    ("after", "what"),
    [(claim(), "claimed"), (DONE, "done"), (FAILED, "failed"), ({"_aborted": True}, "aborted"), ({}, "open")],
)
def test_where_it_is_not_known_what_it_was_its_state_is_told(after: dict[str, Any], what: str) -> None:
    assert fate(None, after).what == what


def test_what_was_told_before_is_known() -> None:
    done = {"put": {"a": {**FRESH, **DONE}}}
    changed = {"put": {"a": {**FRESH, **DONE, "x": 1}}}
    nothing: dict[str, Any] = {}
    for known in (None, nothing):
        assert [one.what for batch in happened(known, done, changed, {"del": ["a"]}) for one in batch] == [
            "done",
            "changed",
            "deleted",
        ]


def test_who_ended_a_try_is_what_the_entry_says() -> None:
    for before in ({}, claim(), None):
        assert [fate(before, {**state, "_worker": "h:1"}).who for state in (DONE, FAILED)] == ["h:1", "h:1"]
    assert fate({**DONE, "_worker": "h:1"}, {**DONE, "_worker": "h:1", "x": 1}).who == ""
    (done,) = happened(
        {},
        {"put": {key: {**FRESH, **DONE, "_worker": f"h:{number}"} for key, number in {"a": 1, "b": 1, "c": 2}.items()}},
    )
    assert [(one.keys, one.who) for one in done] == [(["a", "b"], "h:1"), (["c"], "h:2")]


@pytest.mark.parametrize(
    "damaged",
    [
        {"_done": False, "_tries": "x", "_error": "e"},
        {"_done": 1},
        {"_done": False, "_claim": {"token": 1, "worker": 2}},
        {"_done": False, "_at": "now"},
    ],
)
def test_what_cannot_be_a_task_is_put(damaged: dict[str, Any]) -> None:
    sound = {"_done": False, "_tries": 3, "_error": "e"}
    ((told,), (then,)) = happened({}, {"put": {"a": damaged}}, {"put": {"a": sound}})
    assert (told, then.what) == (Happening("put", ["a"]), "failed")
    assert [one.what for one in happened({"a": damaged}, {"put": {"a": sound}})[0]] == ["failed"]


def test_a_worker_that_is_no_text_is_nobody() -> None:
    assert fate({}, {**DONE, "_worker": 5}).who == ""


def test_equal_fates_of_several_tasks_are_one() -> None:
    tasks = {key: {**FRESH} for key in "abc"}
    (added, claimed, cleared) = happened(
        {},
        {"put": {**tasks, "d": 1}},
        {"put": {"a": {**FRESH, **claim("1")}, "b": {**FRESH, **claim("2")}, "c": {**FRESH, **claim("3", "v")}}},
        {"clear": True},
    )
    assert added == [Happening("added", [*"abc"]), Happening("put", ["d"])]
    assert claimed == [Happening("claimed", [*"ab"], "w"), Happening("claimed", ["c"], "v")]
    assert cleared == [Happening("cleared", [])]


def test_the_entries_are_asked_for_only_if_there_are_tasks_and_once_in_an_epoch() -> None:
    asked = []

    def load(header: form.Header) -> None:
        asked.append(header.epoch)

    witness = Witness(load)
    witness.of(HEADER, {"put": {"a": 1}})
    assert asked == []
    for epoch in (7, 7, 8, 8):
        witness.of(HEADER._replace(epoch=epoch), {"put": {"a": dict(FRESH)}})
    assert asked == [7, 8]
    witness.forget()
    witness.of(HEADER._replace(epoch=8), {"put": {"a": dict(FRESH)}})
    assert asked == [7, 8, 8]


def test_a_real_tracker_tells_its_story(path: Path) -> None:
    with Tracker[Any](path, max_tries=2) as tracker:
        tracker.add_many(["a", "b"], depth=1)
        tracker.sync()
        with History(str(path)) as history:
            witness = Witness(history.store.load)
            told: list[tuple[str, list[str]]] = []

            def listen() -> None:
                for event in history.new():
                    assert isinstance(event, Batch)
                    told.extend((one.what, one.keys) for one in witness.of(event.header, event.record))

            listen()
            told.clear()
            for task in tracker.claims(batch=2):
                task["x"] = 1
                (task.done if task.key == "a" else task.fail)(*([] if task.key == "a" else ["no"]))
                tracker.sync()
                listen()
                if task.key == "b":
                    break
            tracker.reset_tries("b")
            tracker.abort("b")
            tracker.unabort("b")
            tracker.mark_not_done("a")
            tracker.update({"a": {"y": 1}, ("c",): {}})
            del tracker["a"]
            tracker.clear()
            listen()
            assert told == [
                ("claimed", ["a", "b"]), ("done", ["a"]), ("failed", ["b"]), ("reopened", ["b"]), ("aborted", ["b"]),
                ("unaborted", ["b"]), ("reopened", ["a"]), ("changed", ["a"]), ("added", ['#["c"]']), ("deleted", ["a"]), ("cleared", []),
            ]  # fmt: skip


def test_a_pod_of_dicts_is_no_tracker(path: Path) -> None:
    with POD[str, Any](path) as pod:
        pod["a"] = {"depth": 1}
        with History(str(path)) as history:
            witness = Witness(history.store.load)
            (event,) = history.new()
            assert isinstance(event, Batch)
            assert witness.of(event.header, event.record) == [Happening("put", ["a"])]
