"""What calls at the wrong moment get: a closed POD, one opened for reading, a lock that cannot be had, a missing key."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, end, files, hear, start, stored, tell

from tastypy import POD, ClosedPODError, LockTimeout, MissingKeyError, ReadOnlyError

READERS = {
    "__class__",
    "__class_getitem__",
    "__dir__",
    "__doc__",
    "__format__",
    "__getattribute__",
    "__hash__",
    "__init__",
} | {
    *("__init_subclass__", "__new__", "__repr__", "__setattr__", "__delattr__", "__str__", "__subclasshook__"),
    *("__sizeof__", "fromkeys", "__exit__", "__getstate__", "__weakref__"),
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("__getitem__", "__contains__", "__delitem__", "get", "pop", "setdefault", "update"), ("a",)),
    **dict.fromkeys(("move_to_end", "edit", "incr", "sync_key"), ("a",)),
    **dict.fromkeys(
        ("__eq__", "__ne__", "__or__", "__ror__", "__ior__", "__lt__", "__le__", "__gt__", "__ge__"), ({},)
    ),
    "__setitem__": ("a", 1),
    "__reduce_ex__": (2,),
    "__deepcopy__": ({},),
}


def test_a_closed_pod_raises_on_every_use_but_close(pod: POD[Any, Any]) -> None:
    """Every public and every special method that a POD has, found by looking."""
    pod["a"] = 1
    names = [
        name
        for name in dir(pod)
        if callable(getattr(pod, name)) and (name[0] != "_" or name[:2] == "__") and name not in READERS | {"close"}
    ]
    assert len(names) > 40
    pod.close()
    for name in names:
        with pytest.raises(ClosedPODError, match=str(pod.path)):
            getattr(pod, name)(*ARGUMENTS.get(name, ()))
    pod.close()
    assert stored(pod.path) == {"a": 1}


MUTATIONS: dict[str, Callable[[POD[Any, Any]], object]] = {
    "assignment": lambda pod: pod.__setitem__("a", 2),
    "deletion": lambda pod: pod.__delitem__("a"),
    "clear": lambda pod: pod.clear(),
    "pop": lambda pod: pod.pop("a"),
    "popitem": lambda pod: pod.popitem(),
    "setdefault": lambda pod: pod.setdefault("b", 1),
    "update": lambda pod: pod.update(a=2),
    "update of a key": lambda pod: pod.update("a"),
    "union": lambda pod: pod.__ior__({"a": 2}),
    "move_to_end": lambda pod: pod.move_to_end("a"),
    "hold": lambda pod: pod.hold(),
    "sync": lambda pod: pod.sync(),
    "incr": lambda pod: pod.incr("a"),
    "edit": lambda pod: pod.edit("a").__enter__(),
    "transaction": lambda pod: pod.transaction().__enter__(),
    "repair": lambda pod: pod.repair(),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_to_a_pod_opened_for_reading_is_refused(pod: POD[Any, Any], opened: Opener, name: str) -> None:
    pod["a"] = 1
    reader = opened(mode="r")
    before = files(Path(pod.path))
    with pytest.raises(ReadOnlyError, match=str(pod.path)):
        MUTATIONS[name](reader)
    assert reader == {"a": 1}
    assert files(Path(pod.path)) == before


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_lock_that_cannot_be_had_within_the_timeout_changes_nothing(path: Path, opened: Opener, name: str) -> None:
    pod = opened(timeout=0.05)
    pod["a"] = 1
    holder = start("stand_in_transaction", path)
    assert hear(holder) == "inside"
    before = files(path)
    if name == "hold":
        pod.hold()
        pod["a"] = 2
        with pytest.raises(LockTimeout, match=str(path)):
            pod.unhold()
        assert pod.dirty() == {"a"}
        pod.revert()
    else:
        with pytest.raises(LockTimeout, match=str(path)):
            MUTATIONS[name](pod)
    assert pod == {"a": 1}
    assert files(path) == before
    tell(holder)
    assert hear(holder) == "committed"
    assert end(holder) == 0
    pod["b"] = 3
    assert stored(path) == {"a": 1, "inside": 1, "b": 3}


def test_a_timeout_of_nothing_tries_once(path: Path, opened: Opener) -> None:
    pod = opened(timeout=0)
    pod["a"] = 1
    holder: subprocess.Popen[bytes] = start("stand_in_transaction", path)
    assert hear(holder) == "inside"
    with pytest.raises(LockTimeout):
        pod["a"] = 2
    tell(holder)
    assert hear(holder) == "committed"
    end(holder)


@pytest.mark.parametrize("call", ["update", "sync_key"])
def test_a_missing_key_is_named_with_its_pod(pod: POD[Any, Any], call: str) -> None:
    with pytest.raises(MissingKeyError, match="no such key") as caught:
        getattr(pod, call)("no such key")
    assert str(pod.path) in str(caught.value)
    assert caught.value.path == str(pod.path)
