"""`tastypy ls`, `keys`, `get`, `set` and `del`: what they print, change and refuse."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Command, in_process
from helpers import batches, exactly, files, stored
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tracker_programs import ask, kill, start

from tastypy import POD, Tracker
from tastypy.entries import FRESH

ITEMS: dict[Any, Any] = {
    "foo": {"lines": 12, "tags": ["a", "b"]},
    "name": "Ada ☃",
    1: None,
    ("a", 1): -2.5,
    "#x": [],
    "a b": True,
    "": "\x1b[31m\n",
}
NAMES = ["foo", "name", "#1", '#["a",1]', '#"#x"', "a b", ""]


@pytest.fixture
def tastypy(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in this process."""
    return in_process(capsys)


@pytest.fixture
def full(path: Path) -> Path:
    """A POD with keys and values of all kinds."""
    with POD[Any, Any](path) as pod:
        pod.update(ITEMS)
    return path


# ----------------------------------------------------------------------------------------------------------- ls and keys


def test_keys_are_one_a_line_in_order_and_as_in_the_files(full: Path, tastypy: Command) -> None:
    assert tastypy("keys", full) == (0, "".join(f"{name}\n" for name in NAMES), "")
    assert tastypy("keys", full, "-0").out == "".join(f"{name}\0" for name in NAMES)
    assert [json.loads(line) for line in tastypy("keys", full, "--json").out.splitlines()] == NAMES


def test_ls_in_a_pipe_is_a_key_a_tab_and_all_of_the_value(full: Path, tastypy: Command) -> None:
    lines = [
        f"{name}\t{json.dumps(value, separators=(',', ':'), ensure_ascii=False)}\n"
        for name, value in zip(NAMES, ITEMS.values(), strict=True)
    ]
    assert tastypy("ls", full) == (0, "".join(lines), "")


def test_ls_as_json_is_an_object_a_line(full: Path, tastypy: Command) -> None:
    found = [json.loads(line) for line in tastypy("ls", full, "--json").out.splitlines()]
    assert [list(one) for one in found] == [["key", "value"]] * len(ITEMS)
    assert [(one["key"], one["value"]) for one in found] == [*zip(NAMES, ITEMS.values(), strict=True)]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--limit", "2"], [0, 1]),
        (["--limit", "0"], []),
        (["--limit", "9" * 30], [0, 1, 2, 3, 4, 5, 6]),
        (["--tail", "2"], [5, 6]),
        (["--tail", "0"], []),
        (["--tail", "9" * 30], [0, 1, 2, 3, 4, 5, 6]),
        (["--pattern", "#*"], [2, 3, 4]),
        (["--pattern", "#*", "--limit", "1"], [2]),
        (["--pattern", "#*", "--tail", "1"], [4]),
        (["--pattern", "F*"], []),
        (["--pattern", "?o[mo]"], [0]),
    ],
)
def test_a_part_can_be_chosen(full: Path, tastypy: Command, options: list[str], numbers: list[int]) -> None:
    for command in ("ls", "keys"):
        out = tastypy(command, full, *options).out.splitlines()
        assert [line.partition("\t")[0] for line in out] == [NAMES[number] for number in numbers]


def test_of_an_empty_pod_nothing_is_printed(path: Path, tastypy: Command) -> None:
    POD[str, int](path).close()
    assert [tastypy(command, path) for command in ("ls", "keys")] == [(0, "", "")] * 2


# ------------------------------------------------------------------------------------------------------------------ get


def test_get_prints_a_line_for_each_key(full: Path, tastypy: Command) -> None:
    assert tastypy("get", full, *NAMES[:5]).out.splitlines() == [
        '{"lines":12,"tags":["a","b"]}', '"Ada ☃"', "null", "-2.5", "[]",
    ]  # fmt: skip


def test_raw_is_for_texts_only(full: Path, tastypy: Command) -> None:
    assert tastypy("get", full, "name", "#1", "--raw", "foo").out == 'Ada ☃\nnull\n{"lines":12,"tags":["a","b"]}\n'


def test_json_names_the_key_as_the_files_do(full: Path, tastypy: Command) -> None:
    assert tastypy("get", full, "--json", "#1.0", "foo").out.splitlines() == [
        '{"key":"#1","value":null}', '{"key":"foo","value":{"lines":12,"tags":["a","b"]}}',
    ]  # fmt: skip


def test_a_key_that_is_not_there_is_named_and_nothing_else_printed(full: Path, tastypy: Command) -> None:
    told = f"tastypy: nope: there is no such key in {full}\ntastypy: #2: there is no such key in {full}\n"
    assert tastypy("get", full, "foo", "nope", "#2") == (1, "", told)


# ------------------------------------------------------------------------------------------------------------------ set


def test_what_was_set_is_there_and_is_one_commit(full: Path, tastypy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tastypy.store.Store.fold", lambda _: None)  # which a close does, and would begin a new journal
    before = len(batches(full))
    assert tastypy("set", full, "foo", '{"a": [1, 2.0, null]}') == (0, "", "")
    assert tastypy("set", full, "#2", "-5") == (0, "", "")
    assert len(batches(full)) == before + 2
    assert exactly(stored(full)) == exactly({**ITEMS, "foo": {"a": [1, 2.0, None]}, 2: -5})


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ('{"a": 1}\n', [], {"a": 1}),
        ("a text\n\n", ["--str"], "a text\n"),
        ("", ["--str"], ""),
        ("12", ["--str"], "12"),
        ("☃", ["--str"], "☃"),
    ],
)
def test_a_value_is_read_from_standard_input(
    full: Path, tastypy: Command, monkeypatch: pytest.MonkeyPatch, text: str, options: list[str], value: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert tastypy("set", full, "foo", "-", *options) == (0, "", "")
    assert stored(full)["foo"] == value


def test_a_text_on_the_command_line_is_taken_as_it_is(full: Path, tastypy: Command) -> None:
    assert tastypy("set", full, "foo", "--str", "12\n") == (0, "", "")
    assert stored(full)["foo"] == "12\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("hello", "--str stores a text"),
        ("", "is no JSON"),
        ("[1,", "is no JSON"),
        ("1 2", "is no JSON"),
        ("NaN", "NaN"),
        ("1e999", "infinite"),
        ("123456789012345678901234567890", "beyond 64 bits"),
        ("9" * 5000, "is no JSON"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('"\\ud800"', "lone surrogate"),
        ("[" * 300 + "]" * 300, "nested too deep"),
        ("[" * 100_000, "nested too deep"),
        ("caf\udce9", "is no JSON"),
    ],
)
def test_what_is_no_value_is_refused(full: Path, tastypy: Command, text: str, what: str) -> None:
    before = files(full)
    code, out, told = tastypy("set", full, "foo", text)
    assert (code, out, told.count("\n"), what in told) == (2, "", 1, True), told
    assert len(told) < 300
    assert files(full) == before


def test_standard_input_that_is_no_text_is_refused(
    full: Path, tastypy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    code, out, told = tastypy("set", full, "foo", "-", "--str")
    assert (code, out, told.count("\n"), "not UTF-8" in told) == (2, "", 1, True)


@pytest.mark.parametrize(
    "command",
    [
        ["get", "{}", "#x"],
        ["set", "{}", "#x", "1"],
        ["del", "{}", "#x"],
        ["get", "{}", "caf\udce9"],
        ["set", "{}", "#12345678901234567890123", "1"],  # which orjson would make a float
        ["del", "{}", "#[18446744073709551617]"],
        ["get", "{}", "#NaN"],
        ["get", "{}", "#" + 100_000 * "["],
    ],
)
def test_what_is_no_key_is_refused(full: Path, tastypy: Command, command: list[str]) -> None:
    before = files(full)
    code, out, told = tastypy(*[part.format(full) for part in command])
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert len(told) < 500
    assert files(full) == before


def test_a_pod_is_made_only_if_that_is_asked_for(path: Path, tastypy: Command) -> None:
    for command in (
        ["set", path, "foo", "1"],
        ["del", path, "foo"],
        ["get", path, "foo"],
        ["ls", path],
        ["keys", path],
    ):
        assert tastypy(*command) == (2, "", f"tastypy: there is no POD at {path}\n")
    assert not path.exists()
    assert tastypy("set", path, "foo", "1", "--create") == (0, "", "")
    assert tastypy("set", path, "bar", "2", "--create") == (0, "", ""), "if it is not there"
    assert stored(path) == {"foo": 1, "bar": 2}


def test_nothing_is_made_for_a_value_that_is_refused(path: Path, tastypy: Command) -> None:
    for value in ("hello", "NaN", "1" * 30):
        assert tastypy("set", path, "foo", value, "--create").code == 2
    assert tastypy("set", path, "#x", "1", "--create").code == 2
    assert not path.exists()


# ------------------------------------------------------------------------------------------------------------------ del


def test_keys_are_deleted_all_at_once(full: Path, tastypy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tastypy.store.Store.fold", lambda _: None)
    before = len(batches(full))
    assert tastypy("del", full, "foo", "#1", "#1.0", "#true", "") == (0, "", "")
    assert len(batches(full)) == before + 1
    assert list(stored(full)) == [key for key in ITEMS if key not in ("foo", 1, "")]


def test_if_one_is_missing_nothing_is_deleted(full: Path, tastypy: Command) -> None:
    before = files(full)
    told = f"tastypy: nope: there is no such key in {full}; nothing was deleted\n"
    assert tastypy("del", full, "foo", "nope") == (1, "", told)
    assert files(full) == before


@pytest.mark.parametrize("option", [["--timeout", "5"], ["--timeout=5"], ["--time", "5"]])
def test_options_may_stand_between_keys(full: Path, tastypy: Command, option: list[str]) -> None:
    assert tastypy("del", full, "foo", *option, "#1", "--force", "name") == (0, "", "")
    assert list(stored(full)) == [key for key in ITEMS if key not in ("foo", 1, "name")]


def test_a_key_that_begins_with_a_dash_stands_behind_two(full: Path, tastypy: Command) -> None:
    assert tastypy("set", full, "--", "-k", "-1e5") == (0, "", "")
    assert tastypy("get", full, "--", "-k").out == "-100000.0\n"
    assert tastypy("del", full, "--", "-k") == (0, "", "")
    assert "-k" not in stored(full)
    for number in ("-5", "-.5", "-"):
        told = f"tastypy: {number}: there is no such key in {full}\n"
        assert tastypy("get", full, number) == (1, "", told), "which is no option"


def test_a_key_of_two_dashes_stands_behind_two(full: Path, tastypy: Command) -> None:
    """Each argument behind the first `--` is what it says, as `xargs` and scripts rely on."""
    assert tastypy("set", full, "--", "--", "5") == (0, "", "")
    assert tastypy("set", full, "--", "text", "--").err.count("'--' is no JSON") == 1
    assert tastypy("get", full, "--", "--", "name", "--").out == '5\n"Ada ☃"\n5\n'
    assert tastypy("get", full, "nope", "--", "--") == (1, "", f"tastypy: nope: there is no such key in {full}\n")
    assert tastypy("del", full, "--", "--") == (0, "", "")
    assert stored(full) == ITEMS
    assert tastypy("del", full, "--", "--") == (
        1, "", f"tastypy: --: there is no such key in {full}; nothing was deleted\n",
    )  # fmt: skip
    assert "arguments: --;" in tastypy("set", full, "--", "a", "5", "--").err


@pytest.mark.parametrize("number", ["-5", "-5e3", "-1E-5", "-0.5e+3"])
def test_a_negative_number_is_no_option(full: Path, tastypy: Command, number: str) -> None:
    assert tastypy("set", full, "foo", number) == (0, "", "")
    assert stored(full)["foo"] == float(number)


def test_what_is_no_option_is_said_to_stand_behind_two_dashes(full: Path, tastypy: Command) -> None:
    for command in (["set", full, "k", "--str", "-q"], ["del", full, "-q"]):
        code, out, told = tastypy(*command)
        assert (code, out, told.count("\n")) == (2, "", 1)
        assert "there is no option -q; what begins with a dash and is none stands behind --" in told


# --------------------------------------------------------------------------------------------------------- of a tracker


@pytest.fixture
def tracker(path: Path) -> Path:
    """A tracker with a task that is done, one that failed, and one that is open."""
    with Tracker[str](path) as tracker:
        tracker.update({"done": {"_done": True, "_tries": 1, "_at": 5.0, "result": 1}})
        tracker.update({"failed": {"_tries": 1, "_at": 6.0, "_error": "ValueError: no"}})
        tracker.add("open", depth=1)
    return path


def test_of_a_task_only_its_own_fields_are_set(tracker: Path, tastypy: Command) -> None:
    assert tastypy("set", tracker, "done", '{"result": 2}') == (0, "", "")
    assert tastypy("set", tracker, "failed", '{"_error": "ValueError: no", "a": 1, "_tries": 1}') == (0, "", "")
    assert tastypy("set", tracker, "open", "{}") == (0, "", "")
    assert tastypy("set", tracker, "new", '{"depth": 2}') == (0, "", "")
    assert stored(tracker) == {
        "done": {"_done": True, "_aborted": False, "_tries": 1, "_at": 5.0, "result": 2},
        "failed": {**FRESH, "_tries": 1, "_at": 6.0, "_error": "ValueError: no", "a": 1},
        "open": FRESH,
        "new": {**FRESH, "depth": 2},
    }
    with Tracker[str](tracker, mode="r") as reader:
        assert reader.counts().total == 4


def test_what_get_has_printed_can_be_set_again(tracker: Path, tastypy: Command) -> None:
    before = stored(tracker)
    for name in before:
        assert tastypy("set", tracker, name, tastypy("get", tracker, name).out) == (0, "", "")
    assert stored(tracker) == before


@pytest.mark.parametrize(
    "fields", ['{"_done": false}', '{"_claim": null}', '{"_tries": 2}', '{"_at": 7.0}', '{"_error": ""}']
)
def test_the_trackers_own_fields_are_not_set(tracker: Path, tastypy: Command, fields: str) -> None:
    before = files(tracker)
    code, out, told = tastypy("set", tracker, "done", fields)
    assert (code, out, told.count("\n"), "the tracker's own field" in told) == (2, "", 1, True)
    assert files(tracker) == before


@pytest.mark.parametrize("value", ["3", "null", "[1]", '"text"'])
def test_a_task_is_an_object(tracker: Path, tastypy: Command, value: str) -> None:
    before = files(tracker)
    code, _, told = tastypy("set", tracker, "open", value)
    assert (code, told.count("\n"), "must be a JSON object" in told) == (2, 1, True)
    assert files(tracker) == before


@pytest.mark.parametrize("damaged", [5, None, [], "text"])
def test_an_entry_of_a_tracker_that_is_no_dict_is_replaced(tracker: Path, tastypy: Command, damaged: Any) -> None:
    with POD[str, Any](tracker) as pod:
        pod["open"] = damaged
    assert tastypy("set", tracker, "open", '{"depth": 7}') == (0, "", "")
    assert stored(tracker)["open"] == {**FRESH, "depth": 7}


def test_a_new_tracker_is_known_by_its_worker(path: Path, tastypy: Command) -> None:
    with Tracker[str](path) as tracker:
        tracker.add("a")
        task = tracker.claim()
        assert task is not None
        del tracker["a"]
        assert tastypy("set", path, "b", "3").code == 2
        assert tastypy("set", path, "b", "{}").code == 0
        assert stored(path) == {"b": FRESH}


def test_a_claim_stays_when_a_task_is_set_while_a_worker_has_it(tracker: Path, tastypy: Command) -> None:
    worker = start("obey", tracker)
    assert ask(worker, "claim") == "open"
    assert tastypy("set", tracker, "open", '{"depth": 7}') == (0, "", "")
    assert stored(tracker)["open"]["_claim"]
    assert ask(worker, "done") == "done"
    assert (stored(tracker)["open"]["_done"], stored(tracker)["open"]["depth"]) == (True, 7)


def test_a_task_that_a_live_worker_has_is_deleted_only_by_force(tracker: Path, tastypy: Command) -> None:
    worker = start("obey", tracker)
    assert ask(worker, "claim") == "open"
    before = stored(tracker)
    told = "tastypy: open: a live worker has this task; --force deletes it all the same; nothing was deleted\n"
    assert tastypy("del", tracker, "done", "open") == (1, "", told)
    assert stored(tracker) == before
    assert tastypy("del", tracker, "--force", "done", "open") == (0, "", "")
    assert list(stored(tracker)) == ["failed"]


def test_a_task_of_a_dead_worker_is_deleted(tracker: Path, tastypy: Command) -> None:
    worker = start("obey", tracker)
    assert ask(worker, "claim") == "open"
    kill(worker)
    assert tastypy("del", tracker, "open") == (0, "", "")
    assert "open" not in stored(tracker)


# ------------------------------------------------------------------------------------------------------------- whatever

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)
KEYS = st.recursive(
    st.text() | st.integers(-(2**63), 2**63) | st.booleans() | st.none(),
    lambda parts: st.tuples(parts, parts),
    max_leaves=4,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_what_get_and_keys_print_is_what_set_and_del_take(
    quick_directory: Path, capsys: pytest.CaptureFixture[str], items: dict[Any, Any]
) -> None:
    """A copy of a POD made with nothing but the command is the same, and it can be emptied with it."""
    command = in_process(capsys)
    number = len(os.listdir(quick_directory))
    one, two = quick_directory / f"{number}", quick_directory / f"{number} copy"
    with POD[Any, Any](one) as pod:
        pod.update(items)
    names = command("keys", one, "-0").out.split("\0")[:-1]
    for name in names:
        assert command("set", two, "--create", "--", name, command("get", one, "--", name).out) == (0, "", "")
    assert exactly(stored(two)) == exactly(stored(one))
    assert command("del", two, "--", *names) == (0, "", "")
    assert stored(two) == {}


def test_the_command_writes_nothing_where_it_only_reads(public_directory: Path, tastypy: Command) -> None:
    place = public_directory / "my.pod"
    with POD[Any, Any](place) as pod:
        pod.update(ITEMS)
    before = files(place)
    for command in (["ls"], ["keys"], ["info"], ["log"], ["check"]):
        assert tastypy(command[0], place, *command[1:]).code == 0
    assert tastypy("get", place, "foo").code == 0
    assert files(place) == before
