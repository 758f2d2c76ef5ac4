"""The errors that `zoo` raises on purpose: one line that names the value, the place and the fix."""

from collections.abc import Iterable


class ZooError(Exception):
    """The base of every deliberate error. The command line prints only its message; `--debug` adds the traceback."""


class Interrupted(ZooError):
    """The run was stopped on request, with everything saved; `signal` is the number of the signal that stopped it."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class ConfigError(ZooError):
    """A configuration has an unknown key, a wrong type or an impossible combination."""


class DataError(ZooError):
    """Data are missing, empty or unreadable."""


class WeightsError(ZooError):
    """Weights are missing or damaged, or do not fit the network."""


def unknown(what: str, value: str, known: Iterable[str]) -> str:
    """One line for an unknown name: what was given, and the nearest matches, or every known name if none is near."""
    import difflib

    known = sorted(known)
    if near := difflib.get_close_matches(value, known, n=3, cutoff=0.5):
        *others, last = map(repr, near)
        return f"unknown {what} {value!r}. Did you mean {', '.join(others)}{' or ' * bool(others)}{last}?"
    return f"unknown {what} {value!r}. Known: {', '.join(known) or 'none'}"
