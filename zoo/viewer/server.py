"""The server of the page: one generator, one worker, and a page for every browser that comes."""

import contextlib
import errno
import io
import ipaddress
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..editing.reconstruction import Reconstruction
from ..errors import ConfigError, ZooError
from ..generators.base import Generator
from .controls import plain, when
from .page import Page, theme
from .state import Abilities
from .view import fov_of
from .worker import Worker

_TRIES = 100  # ports, from the wanted one upwards


@dataclass(frozen=True)
class Serving:
    """Where the page is.

    Attributes:
        url: Is its address.
        port: Is the port that was free.
        pages: Are those of the browsers that are here now, by viser's number of the browser.
    """

    url: str
    port: int
    pages: dict[int, Page]


@contextmanager
def serve(
    generator: Generator, photo: Reconstruction | None = None, *, host: str = "127.0.0.1", port: int = 8080
) -> Iterator[Serving]:
    """Serve the page of a generator until the context ends.

    Args:
        generator: Makes the pictures, and finds objects in photographs. Nobody else may use it meanwhile.
        photo: Is shown at first, in place of seed 0; drawn with its own weights, if it was tuned.
        host: Is the address to listen at; the default can only be reached from this machine.
        port: Is the first port to try.

    Raises:
        ConfigError: There is no such address, or no port is free.
        ZooError: The package viser is missing.
    """
    try:
        import viser
    except ModuleNotFoundError:
        raise ZooError("zoo view needs the package viser: pip install 'zoo3d[view]'") from None

    free, able = free_port(host, port), Abilities.of(generator)
    first, title, pages = able.first(photo), _title(generator), dict[int, Page]()
    # A browser may go while its picture is drawn, which is no news.
    warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection")
    worker = Worker(generator)
    with contextlib.redirect_stdout(io.StringIO()):  # it has its own word for where it listens
        server = viser.ViserServer(host, free, label="zoo view", verbose=False)
    try:
        # No page may let strangers in through a server of others.
        object.__setattr__(server, "request_share_url", lambda: None)
        server.scene.set_up_direction("+y")
        # Lights are ours: those of viser would add to them.
        server.scene.configure_default_lights(False)
        server.scene.configure_environment_map(None)
        theme(server.gui, dark=False)
        server.gui.main_panel.dock_right()
        camera = server.initial_camera
        camera.position, camera.look_at, camera.up = first.view.position(generator.scene), (0.0, 0.0, 0.0), (0, 1, 0)
        camera.fov = fov_of(generator.scene, 1.0)

        def come(client: Any) -> None:
            pages[client.client_id] = Page(client, worker, able, title, first)

        def go(client: Any) -> None:
            if page := pages.pop(client.client_id, None):
                page.leave()

        when(server.on_client_connect, come)
        when(server.on_client_disconnect, go)
        shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
        yield Serving(f"http://{shown}:{server.get_port()}", server.get_port(), pages)
    finally:
        worker.close()
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_port(host: str, port: int) -> int:
    """The first free port from `port` upwards.

    Raises:
        ConfigError: There is no such address here, or no port is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in range(port, min(port + _TRIES, 65536)):
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            try:
                tried.bind((host, number))
            except PermissionError:
                raise ConfigError(f"port {number}: not allowed to listen there; use one from 1024 upwards") from None
            except socket.gaierror:
                raise ConfigError(f"host {host}: no such address; use 127.0.0.1, or 0.0.0.0 for all networks") from None
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ConfigError(f"host {host}: not an address of this machine; use 127.0.0.1") from None
                continue
        return number
    raise ConfigError(f"port {port}: it and the {_TRIES} after it are taken; use another --port")


def _title(generator: Generator) -> str:
    card = generator.card
    summary = "" if card is None else card.summary  # a stranger may have written it
    return f"### {plain(generator.title)}\n{plain(summary)}"
