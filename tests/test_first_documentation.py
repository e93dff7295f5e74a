"""The first documentation of this project, promise by promise and example by example: each holds."""

from __future__ import annotations

import gc
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, end, hear, journal, run, shards, start, stored

import tastypy
from tastypy import POD


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples use a relative path."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Its code blocks as they were, but for the kind of white space, and the calls that stand in its text.
EXAMPLES = [
    """\
>>> from tastypy import POD
>>>
>>> my_pod = POD('path/to/my.pod')
>>> my_pod['foo'] = 'bar'
>>> my_pod['foo']
'bar'
>>>
>>> for key in my_pod:
...     print(key + ' ' + my_pod[key])
...
foo bar
""",
    """\
>>> del my_pod
>>> my_pod = POD('path/to/my.pod')
>>> my_pod['foo']
'bar'
""",
    """\
>>> my_pod['mutable'] = [1,2,3] # synchronization happens
>>> my_pod['mutable'].append(4) # no synchronization!
""",
    ">>> my_pod['foo'] = 'baz'\n",
    ">>> my_pod.update(key)\n",
]


def test_the_examples_are_in_todays_documentation_in_their_order() -> None:
    """Where they run: see `test_docs`."""
    page = (Path(__file__).parent.parent / "docs/basics.md").read_text()
    examples = "".join(re.findall(r"^```\{doctest\}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    places = [examples.find(example) for example in EXAMPLES]
    assert -1 not in places
    assert places[:3] == sorted(places[:3])
    for call in ("hold", "unhold", "sync"):
        assert f"my_pod.{call}()" in examples
    assert "pip install tastypy" in (Path(__file__).parent.parent / "docs/tutorial.md").read_text()


def test_dict_like_objects_are_persisted_to_disk(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first two examples, line by line; `del` of a POD that holds nothing loses nothing."""
    my_pod = POD[str, str]("path/to/my.pod")
    my_pod["foo"] = "bar"
    assert my_pod["foo"] == "bar"
    for key in my_pod:
        print(key + " " + my_pod[key])  # noqa: T201 - as in the example
    assert capsys.readouterr().out == "foo bar\n"
    del my_pod
    my_pod = POD("path/to/my.pod")
    assert my_pod["foo"] == "bar"
    my_pod.close()
    assert (here / "path" / "to" / "my.pod").is_dir()


def test_you_can_pick_up_where_you_left_off_when_the_program_is_stopped_or_crashes(path: Path) -> None:
    """A long-running program is killed; its next run goes on after what it did."""
    first = start("assign_and_say", path)
    assert hear(first) == "ready"
    while int(hear(first)) < 20:
        pass
    first.kill()
    end(first)
    done = stored(path)
    assert list(done) == list(range(len(done)))
    assert len(done) > 20
    second = start("assign_and_say", path)
    assert hear(second) == "ready"
    second.kill()
    end(second)
    assert stored(path).items() >= done.items()


def test_the_long_name_is_aliased_to_pod() -> None:
    assert tastypy.POD is tastypy.PersistentOrderedDict
    assert tastypy.POD.__name__ == "PersistentOrderedDict"


def test_just_like_a_dict_you_can_key_into_it_and_iterate_over_it(pod: POD[Any, Any]) -> None:
    pod["a"], pod["b"] = 1, 2
    assert [(key, pod[key]) for key in pod] == [("a", 1), ("b", 2)]


def test_the_restriction_of_keys_to_text_was_removed_as_planned(pod: POD[Any, Any]) -> None:
    keys = ["text", "ünïcode", 1, 2.5, False, None, ("a", 1)]
    for key in keys:
        pod[key] = "value"
    assert list(stored(pod.path)) == keys
    assert list(map(type, stored(pod.path))) == list(map(type, keys))


def test_an_assignment_triggers_synchronisation(pod: POD[Any, Any]) -> None:
    pod["foo"] = "baz"
    assert stored(pod.path) == {"foo": "baz"}


def test_a_mutated_value_is_synchronised_by_update(pod: POD[Any, Any]) -> None:
    """The third example, and what its text says."""
    pod["mutable"] = [1, 2, 3]  # synchronization happens
    assert stored(pod.path) == {"mutable": [1, 2, 3]}
    pod["mutable"].append(4)  # no synchronization!
    assert pod["mutable"] == [1, 2, 3, 4]
    assert stored(pod.path) == {"mutable": [1, 2, 3]}
    pod.update("mutable")
    assert stored(pod.path) == {"mutable": [1, 2, 3, 4]}


def test_hold_suspends_synchronisation_and_unhold_reactivates_it(pod: POD[Any, Any]) -> None:
    pod.hold()
    pod["a"] = 1
    del pod["a"]
    pod["b"] = [2]
    assert pod == {"b": [2]}, "changes are reflected in memory"
    assert stored(pod.path) == {}, "and in memory only"
    pod.unhold()
    assert stored(pod.path) == {"b": [2]}, "unhold synchronizes all as-yet unsynchronized changes"
    pod["c"] = 3
    assert stored(pod.path) == {"b": [2], "c": 3}, "and reactivates synchronization"


def test_sync_synchronises_to_the_current_state_but_does_not_lift_the_hold(pod: POD[Any, Any]) -> None:
    pod.hold()
    pod["a"] = 1
    pod.sync()
    assert stored(pod.path) == {"a": 1}
    pod["b"] = 2
    assert stored(pod.path) == {"a": 1}


@pytest.mark.parametrize("ending", ["return", "exit", "raise"])
def test_pods_always_synchronise_at_exit(path: Path, ending: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Also if the program crashes."""
    run("hold_and", ending, path)
    assert stored(path) == {"assigned": 1, "held": 2}
    assert capfd.readouterr().err.count("Traceback") == (ending == "raise")


def test_you_do_not_need_to_worry_about_hitting_ctrl_c(path: Path) -> None:
    program = start("hold_and", "wait", path)
    assert hear(program) == "ready"
    program.send_signal(signal.SIGINT)
    end(program)
    assert stored(path) == {"assigned": 1, "held": 2}


def test_only_a_very_bad_crash_loses_data_and_then_only_what_was_held(path: Path) -> None:
    program = start("hold_and", "wait", path)
    assert hear(program) == "ready"
    program.kill()
    end(program)
    assert stored(path) == {"assigned": 1}


def test_a_pod_with_held_changes_may_be_deleted(path: Path) -> None:
    """`del my_pod` is in the first example."""
    pod = POD[str, int](path)
    pod.hold()
    pod["a"] = 1
    del pod
    gc.collect()
    program = start("hold_and", "return", path)
    end(program)
    with POD[str, int](path) as again:
        again.sync()
        assert again.items() >= {"assigned": 1, "held": 2}.items()


def test_it_is_not_necessary_to_be_aware_of_disk_writes_since_small_changes_rewrite_no_files(
    pod: POD[Any, Any],
) -> None:
    """What the documentation announced for the future: an assignment appends a line, and no more."""
    pod.update({str(number): "x" * 100 for number in range(1000)})
    pod.sync()
    before = {shard: shard.stat().st_mtime_ns for shard in shards(Path(pod.path))}
    size = journal(Path(pod.path)).stat().st_size
    for number in range(100):
        pod[str(number)] = "y"
    assert {shard: shard.stat().st_mtime_ns for shard in shards(Path(pod.path))} == before
    assert len(batches(Path(pod.path))) == 100
    assert journal(Path(pod.path)).stat().st_size - size < 100 * 100
