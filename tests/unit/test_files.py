"""What takes a while to write appears whole, or not at all."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from zoo.data.store import need_empty
from zoo.errors import DataError
from zoo.runtime.files import at_once, naming


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "pictures"
    with at_once(out) as place:
        assert place.parent.parent == out.parent
        assert place.parent.name.startswith(".pictures.")
        assert place.parent.name.endswith(".tmp")  # which `tidy` removes after a kill
        place.mkdir()
        (place / "a.png").write_bytes(b"a")
        assert not out.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "pictures", "a.png"]
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask  # a temporary folder's own would shut everybody out


def test_an_empty_folder_is_replaced_and_a_full_one_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with at_once(out) as place:
        place.mkdir()
        (place / "a").touch()
    with pytest.raises(OSError, match="not empty"), at_once(out) as place:
        place.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"the film before")

    def stopped(place: Path) -> None:
        place.write_bytes(b"half of a fi")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), at_once(film) as place:
        stopped(place)
    assert film.read_bytes() == b"the film before"
    with at_once(film) as place:
        assert place.suffix == ".mp4"
        place.write_bytes(b"the film after")
    assert film.read_bytes() == b"the film after"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("inner", [nullcontext, naming])
def test_a_full_disk_is_named_once_with_what_is_left(inner: Any, tmp_path: Path) -> None:
    out = tmp_path / "set"
    told = r"MB left in .*make room, then run it again: .*set"
    with pytest.raises(OSError, match=told) as caught, at_once(out) as place, inner(out):
        raise OSError(28, "No space left on device", str(place / "a.png"))
    assert str(caught.value).count("make room") == 1
    assert not list(tmp_path.iterdir())


def test_pictures_are_written_to_empty_places_only(tmp_path: Path) -> None:
    need_empty(tmp_path)
    need_empty(tmp_path / "new")
    (tmp_path / "notes.txt").touch()
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match="is not an empty folder; name a new one or empty it"):
            need_empty(taken)
