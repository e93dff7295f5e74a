"""What `stress.broken` breaks is there to be broken: each of its patches fits the code as it is, and what it makes can be compiled."""

from __future__ import annotations

import pytest

from stress.broken import BREAKAGES, Breakage, broken
from stress.command import WrongError


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_breakage_fits_the_code(name: str) -> None:
    """Here a change of the code is told at once, and not after the ten minutes till `stress.broken` runs in CI."""
    compile(broken(BREAKAGES[name]), BREAKAGES[name].file, "exec")


def test_one_that_does_not_fit_is_an_error() -> None:
    """A text that is not there, and one that is there more than once."""
    for old in ("nothing like this", "import"):
        with pytest.raises(WrongError, match=r"lock\.py has changed"):
            broken(Breakage("", "lock.py", old, "", ()))
