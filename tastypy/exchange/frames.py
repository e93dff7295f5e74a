"""Entries as a table of pandas or polars, with types that lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tastypy.exchange.places import extra
from tastypy.exchange.rows import columns_of, spelled

if TYPE_CHECKING:
    from tastypy.pod import PersistentOrderedDict

_MOST = 2**63 - 1  # of an Int64
_EXACT = 2**53  # up to which every integer is a float


def dataframe(pod: PersistentOrderedDict[Any, Any], library: str, *, key: str) -> Any:
    """Do what `POD.to_dataframe` says."""
    if library not in ("pandas", "polars"):
        message = f'library must be "pandas" or "polars", not {library!r}'
        raise ValueError(message)
    module = extra(library, library)
    pod.refresh()
    items = pod.copy()
    columns = {key: _keys(items), **columns_of(items, key)}
    if library == "pandas":
        return module.DataFrame({name: _pandas_series(module, values) for name, values in columns.items()})
    return module.DataFrame([_polars_series(module, name, values) for name, values in columns.items()])


def _keys(items: dict[Any, Any]) -> list[Any]:
    """Return the keys as they are, if they are of one type that a column can have."""
    kinds = set(map(type, items))
    return list(items) if len(kinds) == 1 and kinds <= {str, int, float, bool} else [spelled(key) for key in items]


def _pandas_series(pandas: Any, values: list[Any]) -> Any:
    kinds = set(map(type, values))
    if kinds == {bool, type(None)}:
        return pandas.Series(values, dtype="boolean")
    if int in kinds and kinds <= {int, type(None)}:
        numbers = [value for value in values if value is not None]
        unsigned = min(numbers) >= 0
        if max(numbers) > _MOST:
            return pandas.Series(values, dtype="UInt64" if unsigned else "object")
        return pandas.Series(values, dtype="Int64" if len(numbers) < len(values) else "int64")
    if float in kinds and kinds <= {int, float, type(None)} and _are_exact(values):
        return pandas.Series(values, dtype="float64")
    if kinds == {bool} or (str in kinds and kinds <= {str, type(None)}):
        return pandas.Series(values)
    # several types, and what lies deeper, stay the objects that they are
    return pandas.Series(values, dtype="object")


def _polars_series(polars: Any, name: str, values: list[Any]) -> Any:
    kinds = set(map(type, values))
    if kinds >= {int, float} and kinds <= {int, float, type(None)} and _are_exact(values):
        return polars.Series(name, values, dtype=polars.Float64, strict=False)
    try:
        return polars.Series(name, values, strict=True)
    except (TypeError, OverflowError, polars.exceptions.PolarsError):
        return polars.Series(name, values, dtype=polars.Object)


def _are_exact(values: list[Any]) -> bool:
    """Tell whether every integer among numbers is a float, too."""
    return all(type(value) is not int or abs(value) <= _EXACT for value in values)
