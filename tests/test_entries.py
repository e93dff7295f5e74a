"""What an entry says: its state, what is wrong with a damaged one, what the end of a try makes of it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stress.model.plain_tracker import merged
from stress.recount import state_of
from tastypy import Counts, UnstorableTypeError, UnstorableValueError, entries
from tastypy.entries import FRESH, RESERVED, kind_of, problem

Entry = dict[str, Any]

CLAIM = {"token": "0123456789abcdef", "worker": "fedcba9876543210"}
WORKER = "node17:4711"
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "_done": st.booleans(),
    "_aborted": st.booleans(),
    "_tries": st.integers(0, 4),
    "_claim": st.just(CLAIM),
    "_error": st.sampled_from(["", "ValueError: x"]),
    "_worker": st.just("node1:1"),
    "_at": st.sampled_from([0, 1.5]),
    "mine": st.none(),
}
SOUND = st.fixed_dictionaries({}, optional=FIELDS)

# ------------------------------------------------------------------------------------------------------------- states


@given(SOUND, st.integers(0, 3))
def test_a_sound_entry_is_in_the_first_state_that_fits(entry: Entry, max_tries: int) -> None:
    kind = kind_of(entry, max_tries)
    assert kind is not None
    state, tries, aborted, worker = kind
    assert state == state_of(entry, max_tries)
    assert tries == entry.get("_tries", 0)
    assert aborted is entry.get("_aborted", False)
    assert worker == (CLAIM["worker"] if "_claim" in entry else "")


@given(SOUND, st.integers(0, 3))
def test_missing_fields_are_those_of_a_new_task(entry: Entry, max_tries: int) -> None:
    assert kind_of(entry, max_tries) == kind_of({**FRESH, **entry}, max_tries)
    assert entries.should_do(entry, max_tries) is entries.should_do({**FRESH, **entry}, max_tries)


def test_every_state_is_a_field_of_counts_and_can_be_had() -> None:
    examples: list[Entry] = [
        {"_done": True},
        {"_aborted": True},
        {"_claim": CLAIM},
        {"_tries": 2},
        {"_error": ""},
        {},
    ]
    kinds = [kind_of(entry, 2) for entry in examples]
    assert [kind and kind[0] for kind in kinds] == list(Counts._fields[1:])


@pytest.mark.parametrize(
    ("tries", "max_tries", "given_up"), [(0, 0, False), (99, 0, False), (1, 2, False), (2, 2, True)]
)
def test_a_task_is_given_up_when_it_was_tried_as_often_as_it_may(tries: int, max_tries: int, given_up: bool) -> None:
    kind = kind_of({"_tries": tries, "_error": "x"}, max_tries)
    assert kind is not None
    assert kind[0] == ("given_up" if given_up else "failed")
    assert entries.should_do({"_tries": tries}, max_tries) is not given_up


@pytest.mark.parametrize(
    ("entry", "expected", "with_aborted"),
    [
        ({}, True, True),
        ({"_done": True}, False, False),
        ({"_aborted": True}, False, True),
        ({"_done": True, "_aborted": True}, False, False),
        ({"_aborted": True, "_tries": 3}, False, False),
        ({"_tries": 2, "_error": "x"}, True, True),
        ({"_claim": CLAIM}, True, True),
    ],
)
def test_a_task_should_be_done_unless_it_is_done_aborted_or_given_up(
    entry: Entry, expected: bool, with_aborted: bool
) -> None:
    assert entries.should_do(entry, 3) is expected
    assert entries.should_do(entry, 3, allow_aborted=True) is with_aborted


def test_what_was_claimed_alone_is_in_hand_and_of_a_batch_what_the_worker_names() -> None:
    ahead = {**CLAIM, "ahead": True}
    assert entries.is_in_hand(CLAIM, set())
    assert not entries.is_in_hand(ahead, {"another"})
    assert entries.is_in_hand(ahead, {"another", CLAIM["token"]})


# ------------------------------------------------------------------------------------------------------------- damage

DAMAGED: list[tuple[Any, str]] = [
    (3, "is 3, not a dict"),
    (None, "is None, not a dict"),
    ([], "not a dict"),
    ("x" * 1000, "is 'xxx"),
    ({"_done": 1}, "_done=1, which must be true or false"),
    ({"_done": None}, "_done=None"),
    ({"_aborted": "no"}, "_aborted='no'"),
    ({"_tries": True}, "_tries=True, which must be an int"),
    ({"_tries": -1}, "_tries=-1"),
    ({"_tries": 1.0}, "_tries=1.0"),
    ({"_tries": None}, "_tries=None"),
    ({"_claim": None}, "_claim=None, which must be a dict"),
    ({"_claim": {}}, "_claim={}"),
    ({"_claim": {"token": "t"}}, "_claim="),
    ({"_claim": {"token": 1, "worker": "w"}}, "_claim="),
    ({"_claim": {"token": "t", "worker": None}}, "_claim="),
    ({"_error": None}, "_error=None, which must be a str"),
    ({"_error": ["x"]}, "_error="),
    ({"_at": "now"}, "_at='now', which must be seconds"),
    ({"_at": None}, "_at=None"),
    ({"_at": True}, "_at=True"),
]


@pytest.mark.parametrize(("entry", "reason"), DAMAGED, ids=lambda value: repr(value)[:40])
def test_a_damaged_entry_has_no_kind_and_it_is_said_what_is_wrong_with_it(entry: Any, reason: str) -> None:
    assert kind_of(entry, 0) is None
    said = problem(entry)
    assert said is not None
    assert reason in said
    assert len(said) < 200


@pytest.mark.parametrize(("entry", "reason"), DAMAGED, ids=lambda value: repr(value)[:40])
def test_a_damaged_entry_is_refused_by_key_and_directory(entry: Any, reason: str) -> None:
    kind = UnstorableValueError if isinstance(entry, dict) else UnstorableTypeError
    with pytest.raises(kind) as caught:
        entries.sound(("a", 1), entry, "/some/where")
    assert type(caught.value) is kind
    assert caught.value.path == "/some/where"
    for part in ("('a', 1)", reason, "/some/where"):
        assert part in str(caught.value)


@given(SOUND)
def test_a_sound_entry_gets_the_fields_that_it_lacks_and_nothing_else(entry: Entry) -> None:
    before = dict(entry)
    whole = entries.sound("a", entry, "/some/where")
    assert whole == {"_done": False, "_aborted": False, "_tries": 0} | entry
    assert list(whole)[:3] == ["_done", "_aborted", "_tries"]
    assert whole is not entry
    assert entry == before


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_field_of_the_tracker_cannot_be_stored_as_one_of_the_users(name: str) -> None:
    with pytest.raises(UnstorableValueError, match=name) as caught:
        entries.check_fields("the key", {"mine": 1, name: 1}, "/some/where")
    assert "the key" in str(caught.value)
    entries.check_fields("the key", {"mine": 1, f"{name}_": 1, name.strip("_"): 1}, "/some/where")


# -------------------------------------------------------------------------------------------- changes of two processes


@given(SOUND, SOUND, SOUND)
def test_what_two_changed_of_an_entry_is_merged_field_by_field(before: Entry, ours: Entry, theirs: Entry) -> None:
    copies = dict(before), dict(ours), dict(theirs)
    entry = entries.merged(before, ours, theirs)
    assert entry == merged(before, ours, theirs)
    assert (before, ours, theirs) == copies
    assert entries.merged(before, before, theirs) == theirs
    assert entries.merged(theirs, ours, theirs) == ours
    assert entries.merged(theirs, entry, theirs) == entry, "doing it twice changes nothing"


def test_a_claim_that_came_meanwhile_stays_and_one_that_ended_is_not_brought_back() -> None:
    before: Entry = {**FRESH, "mine": 0}
    claimed = {**before, "_claim": CLAIM}
    assert entries.merged(before, {**before, "mine": 1}, claimed) == {**claimed, "mine": 1}
    finished = entries.done(claimed, 9.5, WORKER)
    assert entries.merged(claimed, {**claimed, "mine": 1}, finished) == {**finished, "mine": 1}


# --------------------------------------------------------------------------------------------------- the end of a try


@given(SOUND)
def test_the_end_of_a_try_leaves_the_users_fields_and_changes_nothing_in_place(entry: Entry) -> None:
    before = dict(entry)
    state = {"_done", "_aborted", "_tries", "_claim", "_error", "_worker", "_at"}
    kept = {name: value for name, value in entry.items() if name not in state}
    done, failed = entries.done(entry, 9.5, WORKER), entries.failed(entry, "y", 9.5, WORKER)
    assert done["_worker"] == failed["_worker"] == WORKER
    for ended in (entries.released(entry, 9.5), done, failed, entries.untried(entry, 9.5)):
        assert {name: value for name, value in ended.items() if name not in state} == kept
        assert ("_claim" in ended) is (ended == entries.untried(entry, 9.5) and "_claim" in entry)
        assert ended["_at"] == 9.5
        assert problem(ended) is None
    assert entry == before


def test_a_try_that_succeeded_is_counted_and_forgets_the_claim_and_the_error() -> None:
    entry = {"_done": False, "_aborted": True, "_tries": 1, "_claim": CLAIM, "_error": "x", "_at": 1.5, "mine": [1]}
    done = {"_done": True, "_aborted": True, "_tries": 2, "_at": 9.5, "_worker": WORKER, "mine": [1]}
    assert entries.done(entry, 9.5, WORKER) == done
    assert entries.done({}, 9.5, WORKER) == {**FRESH, "_done": True, "_tries": 1, "_at": 9.5, "_worker": WORKER}


def test_a_try_that_failed_is_counted_keeps_the_error_and_forgets_the_claim() -> None:
    entry = {"_done": True, "_aborted": True, "_tries": 1, "_claim": CLAIM, "_error": "x", "_at": 1.5, "mine": [1]}
    state = {"_error": "y", "_at": 9.5, "_worker": WORKER}
    failed = {"_done": True, "_aborted": True, "_tries": 2, "mine": [1], **state}
    assert entries.failed(entry, "y", 9.5, WORKER) == failed
    assert entries.failed({}, "y", 9.5, WORKER) == {**FRESH, "_tries": 1, **state}


def test_a_release_is_no_try() -> None:
    kept = {"_done": False, "_aborted": False, "_tries": 1, "_error": "x", "_worker": WORKER, "mine": [1]}
    assert entries.released({**kept, "_claim": CLAIM}, 9.5) == {**kept, "_at": 9.5}


def test_a_task_whose_tries_are_forgotten_has_neither_an_error_nor_a_worker_of_any() -> None:
    entry = {"_done": False, "_aborted": True, "_tries": 1, "_error": "x", "_worker": WORKER, "mine": [1]}
    assert entries.untried(entry, 9.5) == {**FRESH, "_aborted": True, "_at": 9.5, "mine": [1]}


def test_the_time_is_in_seconds_since_the_epoch_to_the_millisecond() -> None:
    before, now, after = time.time(), entries.time_now(), time.time()
    assert before - 0.001 <= now <= after + 0.001
    assert now == round(now, 3)


class SomeError(Exception):
    """An error with whatever text."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
        ("only text", "only text"),
        ("", ""),
        (SomeError("two\nlines"), "SomeError: two\nlines"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
    ],
)
def test_of_an_error_its_type_and_message_are_stored(error: BaseException | str, text: str) -> None:
    assert entries.error_text(error).removeprefix(f"{__name__}.") == text


def test_of_a_long_error_the_beginning_is_stored() -> None:
    text = entries.error_text(ValueError("x" * 1_000_000))
    assert text.startswith("ValueError: xxx")
    assert text.endswith(" ...")
    assert len(text) < 5000


def test_an_error_that_cannot_be_shown_has_a_text_yet() -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    assert "UnspeakableError" in entries.error_text(UnspeakableError())
