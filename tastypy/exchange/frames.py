"""Entries as a table of pandas or polars, with types that lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tastypy.exchange.places import extra
from tastypy.exchange.rows import columns_of, items_of
from tastypy.exchange.types import BOOL, FLOAT, INT, NULL, STR, UNSIGNED, ListOf, MixedTypesError, Struct, Type, type_of
from tastypy.values import name_of

if TYPE_CHECKING:
    from tastypy.pod import PersistentOrderedDict

# without and with some that are missing; all other types are objects
_PANDAS = {
    BOOL: ("bool", "boolean"),
    INT: ("int64", "Int64"),
    UNSIGNED: ("uint64", "UInt64"),
    FLOAT: ("float64", "float64"),
    STR: (None, None),  # what pandas has for them
}
_POLARS = {NULL: "Null", BOOL: "Boolean", INT: "Int64", UNSIGNED: "UInt64", FLOAT: "Float64", STR: "String"}


def dataframe(pod: PersistentOrderedDict[Any, Any], library: str, *, key: str) -> Any:
    """Do what `POD.to_dataframe` says."""
    if library not in ("pandas", "polars"):
        message = f'library must be "pandas" or "polars", not {library!r}'
        raise ValueError(message)
    module = extra(library, library)
    items = items_of(pod)
    columns = {key: _keys(items), **columns_of(items, key)}
    make = _pandas_series if library == "pandas" else _polars_series
    return module.DataFrame({name: make(module, values) for name, values in columns.items()})


def _keys(items: dict[Any, Any]) -> list[Any]:
    """Return the keys as they are, if they are of one type that a column can have."""
    kinds = set(map(type, items))
    return list(items) if len(kinds) == 1 and kinds <= {str, int, float, bool} else [name_of(key) for key in items]


def _pandas_series(pandas: Any, values: list[Any]) -> Any:
    try:
        kind = type_of(values)
    except MixedTypesError:
        kind = NULL
    whole, lacking = _PANDAS.get(kind, ("object", "object")) if isinstance(kind, str) else ("object", "object")
    return pandas.Series(values, dtype=lacking if any(value is None for value in values) else whole)


def _polars_series(polars: Any, values: list[Any]) -> Any:
    try:
        kind = _polars_type(polars, type_of(values))
    except MixedTypesError:
        kind = polars.Object
    return polars.Series(values, dtype=kind)


def _polars_type(polars: Any, kind: Type) -> Any:
    if isinstance(kind, ListOf):
        return polars.List(_polars_type(polars, kind.item))
    if isinstance(kind, Struct):
        return polars.Struct({name: _polars_type(polars, part) for name, part in kind.fields.items()})
    return getattr(polars, _POLARS[kind])
