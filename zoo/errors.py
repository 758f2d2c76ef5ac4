"""The errors `zoo` raises on purpose: one line that names the value, the place and the fix."""

from collections.abc import Iterable


class ZooError(Exception):
    """Base of every deliberate error. The command line prints its message alone; `--debug` adds the trace."""


class Interrupted(ZooError):
    """Stopped on request, with everything saved; `signal` is the number of what stopped it."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class ConfigError(ZooError):
    """An unknown key, a wrong type or an impossible combination in a configuration."""


class DataError(ZooError):
    """Missing, empty or unreadable data."""


class WeightsError(ZooError):
    """Weights that are missing, damaged, or do not fit the network."""


def unknown(what: str, value: str, known: Iterable[str]) -> str:
    """One line for an unknown name: what was given, the nearest match, everything there is."""
    import difflib

    known = sorted(known)
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {value!r}.{hint} Known: {', '.join(known) or 'none'}"
