"""Keys and values as files have them, the ones among them that are easily taken for something else."""

from __future__ import annotations

from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(
    ["#", "##1", '"', "\\", '":', "\n", '","#1":']
)
SCALARS = st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
KEYS = SCALARS | st.lists(SCALARS, max_size=2).map(tuple)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
