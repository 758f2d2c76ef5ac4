"""Benchmarks: named protocols, the rows they give, and reports."""

from ..runtime.deprecation import names_left

names_left(__name__)
