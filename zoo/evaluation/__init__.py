"""Named protocols, the rows they give, and reports."""

from .comparison import Comparison, compare
from .protocols import BASELINES, PROTOCOLS, Benchmark, Protocol, Row, evaluate, protocol
from .report import text_table, write_report

__all__ = [
    "BASELINES",
    "PROTOCOLS",
    "Benchmark",
    "Comparison",
    "Protocol",
    "Row",
    "compare",
    "evaluate",
    "protocol",
    "text_table",
    "write_report",
]
