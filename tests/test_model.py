"""Several PODs on one directory against a plain dict: the quick form of what `python -m stress.model` does."""

from __future__ import annotations

from hypothesis import settings

from stress.model.disturbed import DisturbedPods

TestPods = DisturbedPods.TestCase
TestPods.settings = settings(max_examples=max(100, settings.default.max_examples if settings.default else 0))
