"""The block of the network (tests/offline) works, here and in subprocesses, and importing zoo does not run into it."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

AWAY = "192.0.2.1"  # of a range for documents: nobody has it
CALLS: dict[str, Callable[[], object]] = {
    "connect": lambda: socket.socket().connect((AWAY, 80)),
    "connect_ex": lambda: socket.socket().connect_ex((AWAY, 80)),
    "connect IPv6": lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)),
    "create_connection": lambda: socket.create_connection(("zoo3d.example", 80)),
    "sendto": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", (AWAY, 80)),
    "sendmsg": lambda: socket.socket(type=socket.SOCK_DGRAM).sendmsg([b"x"], [], 0, (AWAY, 80)),
    "getaddrinfo": lambda: socket.getaddrinfo(b"zoo3d.example", 80),
    "gethostbyname": lambda: socket.gethostbyname("zoo3d.example"),
    "gethostbyaddr": lambda: socket.gethostbyaddr(AWAY),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_other_machines_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match="tests reach this machine alone"):
        call()


def test_this_machine_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(b"here")
        assert server.accept()[0].recv(4) == b"here"
    ours, theirs = socket.socketpair()
    theirs.sendmsg([b"too"])
    assert ours.recv(3) == b"too"
    socket.getfqdn()  # asks for the name of this machine


def test_a_subprocess_is_refused() -> None:
    code = f"import socket; socket.create_connection(({AWAY!r}, 80))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "NetworkBlockedError" in done.stderr
    # Programs that are not Python's ask these.
    assert os.environ["https_proxy"] == os.environ["HTTP_PROXY"] == "http://127.0.0.1:9"


@pytest.mark.slow  # imports everything anew
def test_no_module_asks_for_the_network_when_it_is_imported(tmp_path: Path) -> None:
    # Swallowed attempts count, too; that of a module of ours or of what it imports.
    code = """
import sys
attempts = []
sys.addaudithook(lambda event, given: attempts.append((event, given)) if event.startswith("socket.") else None)
from zoo.doctor import _own_modules
print(_own_modules())
print({event for event, _ in attempts} & {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    check, attempts = done.stdout.splitlines()[-2:]
    assert "state='ok'" in check
    assert attempts == "set()"
