"""No network in tests: sockets reach this machine alone.

tests/conftest.py runs this file and puts its folder on PYTHONPATH, so that Python runs it at the start of every
subprocess, too. Names and addresses are refused before a packet leaves. The error is no OSError: code that falls back
to working offline would swallow that one.
"""

import re
import socket
import sys
from typing import Any

_ADDRESSED = ("socket.connect", "socket.sendto", "socket.sendmsg")  # what they get: a socket, then an address
_NAMED = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")  # a host
_HERE = re.compile(r"localhost|127(\.\d+){3}|::1|0\.0\.0\.0|::|")


class NetworkBlockedError(RuntimeError):
    """Code of a test asked for another machine."""


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _ADDRESSED and isinstance(arguments[1], tuple):  # else a path, or a socket that is connected
        host, own = arguments[1][0], ""
    elif event in _NAMED:
        # Asking for the name of this machine reaches nobody; torch.distributed does.
        host, own = arguments[0], socket.gethostname()
    else:
        return
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
    if name != own and not _HERE.fullmatch(name):
        raise NetworkBlockedError(
            f"{event} to {name}: tests reach this machine alone (tests/offline); use a file, or a server on 127.0.0.1"
        )


sys.addaudithook(_refuse)
