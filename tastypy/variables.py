"""The type variables of what users see.

Where nothing tells the types, as in `POD("my.pod")`, keys are `str`, and values `Any`; a `Task` may have any key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # which has `default` before Python 3.13 has it, for checkers

    K = TypeVar("K", default=str)
    V = TypeVar("V", default=Any)
    KeyOfTask = TypeVar("KeyOfTask", default=Any)
else:
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")
    KeyOfTask = TypeVar("KeyOfTask")
