"""The exceptions: each says what, where and what to do, survives pickling, and is what callers already catch."""

from __future__ import annotations

import copy
import errno
import pickle
import re

import pytest

import tastypy
from tastypy import errors
from tastypy.errors import CommitError, StorageError, TastypyError, explained, storage_error


def all_below(kind: type[TastypyError]) -> list[type[TastypyError]]:
    """The exceptions below this one, each after its parent."""
    return [each for child in kind.__subclasses__() for each in (child, *all_below(child))]


KINDS: list[type[TastypyError]] = [TastypyError, *all_below(TastypyError)]


def of_module(kind: type[TastypyError]) -> bool:
    """Whether it is one of those that the module has: tests make others."""
    return kind.__module__ == errors.__name__


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_every_exception_reaches_the_parent_of_a_worker_whole(kind: type[TastypyError], protocol: int) -> None:
    error = kind("what happened", "/some/path", errno.EIO)
    for other in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(other) is kind
        assert (str(other), other.message) == ("what happened", "what happened")
        assert (other.path, other.errno) == ("/some/path", errno.EIO)


@pytest.mark.parametrize("kind", KINDS)
def test_every_exception_is_its_message_without_a_path_too(kind: type[TastypyError]) -> None:
    """Those of KeyError would show it in quotes, those of OSError with a number."""
    error = kind("what happened")
    assert str(error) == "what happened"
    assert (error.path, error.errno) == (None, None)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_exception_is_one_that_callers_already_catch(kind: type[TastypyError]) -> None:
    builtin = [
        base for base in kind.__mro__ if base.__module__ == "builtins" and base not in (Exception, BaseException)
    ]
    assert builtin[0] is not object


def drawn() -> dict[str, tuple[str, str]]:
    """The tree of the module's docstring: of each exception its parent there and the builtin in parentheses."""
    found: dict[str, tuple[str, str]] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)( \((?P<builtin>\w+)\))?(  |$)", line)
        if match:
            depth = len(match["branch"]) // 4
            del parents[depth:]
            found[match["name"]] = (parents[-1] if parents else "", match["builtin"] or "")
            parents.append(match["name"])
    return found


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    real = {
        kind.__name__: (
            next((base.__name__ for base in kind.__bases__ if issubclass(base, TastypyError)), ""),
            next((base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"), ""),
        )
        for kind in KINDS
        if of_module(kind)
    }
    real["TastypyError"] = ("", "")
    assert drawn() == real


def test_every_exception_is_exported() -> None:
    for kind in KINDS:
        if of_module(kind):
            assert getattr(tastypy, kind.__name__) is kind
            assert kind.__name__ in tastypy.__all__


def test_a_bare_error_of_the_system_is_explained_with_path_and_number() -> None:
    with pytest.raises(StorageError, match=r"/my\.pod.*No space left.*/my\.pod/file") as caught, explained("/my.pod"):
        raise OSError(errno.ENOSPC, "No space left", "/my.pod/file")
    assert caught.value.path == "/my.pod"
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value.__cause__, OSError)
    assert "(" not in str(storage_error("/my.pod", OSError(errno.EIO, "broken")))


@pytest.mark.parametrize("error", [CommitError("already", "/path", 5), ValueError("other"), KeyboardInterrupt()])
def test_any_other_exception_is_passed_on_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, explained("/my.pod"):
        raise error
    assert caught.value is error
