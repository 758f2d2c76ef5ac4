"""Benchmarks: named protocols, the rows they give, and reports."""
