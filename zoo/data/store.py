"""Where picture bytes come from: a folder or a zip, listed once, in an order that every machine shares."""

import io
import os
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..errors import DataError
from .transforms import BadImage

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_BYTES = 512 * 1024 * 1024


class Files(Protocol):
    """Picture files with names that are paths relative to the root, `/` between the parts."""

    root: Path
    names: list[str]
    unreadable: list[str]

    def read(self, name: str) -> bytes:
        """The bytes of one file; raises BadImage with its path."""
        ...

    def where(self, name: str) -> str:
        """The path that messages show."""
        ...

    def text(self, name: str) -> str | None:
        """A text file beside the pictures (a list of splits), or None if there is none."""
        ...


def open_files(root: str | os.PathLike[str]) -> Files:
    """The folder or the zip file at `root`.

    Raises:
        DataError: nothing there, not a folder or zip, or no pictures inside.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"data.root={path} does not exist: give a folder of images or a .zip")
    files: Files
    if path.is_dir():
        files = Folder(path)
    elif zipfile.is_zipfile(path):
        files = Zip(path)
    else:
        raise DataError(f"data.root={path} is neither a folder nor a complete zip file")
    if not files.names and not files.unreadable:
        raise DataError(f"data.root={path} holds no images ({' '.join(SUFFIXES)})")
    return files


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(map(_hidden, path.parts))


def _hidden(part: str) -> bool:
    # macOS puts a "._name.jpg" or "__MACOSX/" shadow beside every file; they are no pictures.
    return part.startswith(".") or part == "__MACOSX"


class Folder:
    """Pictures below a folder, through symbolic links too; a folder is entered once, so loops end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[str] = []
        self.names = sorted(self._walk())

    def _walk(self) -> list[str]:
        found: list[str] = []
        seen: set[tuple[int, int]] = set()
        stack = [""]
        while stack:
            prefix = stack.pop()
            try:
                status = os.stat(self.root / prefix)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                entries = [e for e in os.scandir(self.root / prefix) if not _hidden(e.name)]
            except OSError:
                self.unreadable.append(prefix or ".")
                continue
            entries.sort(key=lambda entry: entry.name, reverse=True)
            stack.extend(prefix + e.name + "/" for e in entries if _is_folder(e))
            found.extend(prefix + e.name for e in entries if not _is_folder(e) and _wanted(e.name))
        return found

    def read(self, name: str) -> bytes:
        path = self.root / name
        try:
            if not path.is_file():
                # A pipe named like a picture would block for ever; a dead link lands here as well.
                raise BadImage(str(path), "unreadable", "no such file, or not a plain one")
            if path.stat().st_size > MAX_BYTES:
                raise BadImage(str(path), "too large", f"more than {MAX_BYTES:,} bytes; shrink it")
            return path.read_bytes()
        except OSError as error:
            detail = f"{error.strerror or error}; check its permissions"
            raise BadImage(str(path), "unreadable", detail) from error

    def where(self, name: str) -> str:
        return str(self.root / name)

    def text(self, name: str) -> str | None:
        path = self.root / name
        return path.read_text("utf-8", errors="replace") if path.is_file() else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself
        return False


class Zip:
    """Pictures inside a zip, read straight into memory; nothing is ever unpacked to disk.

    Every process opens the file for itself: a handle shared across a fork shares its read position, and two
    workers would then get each other's bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[str] = []
        self._open: tuple[int, zipfile.ZipFile] | None = None
        try:
            self.names = sorted(n for n in self._archive().namelist() if _wanted(n))
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise DataError(f"data.root={root}: not a readable zip ({error}); copy it again") from error

    def _archive(self) -> zipfile.ZipFile:
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), zipfile.ZipFile(self.root))
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def read(self, name: str) -> bytes:
        try:
            member = self._archive().getinfo(name)
            if member.file_size > MAX_BYTES:
                raise BadImage(self.where(name), "too large", f"more than {MAX_BYTES:,} bytes unpacked")
            with self._archive().open(member) as file:
                return file.read()
        except BadImage:
            raise
        except RuntimeError as error:
            raise BadImage(self.where(name), "encrypted", "unpack the zip with its password first") from error
        except Exception as error:  # zlib.error, BadZipFile, EOFError, unsupported methods, a lost disk
            raise BadImage(self.where(name), "damaged", f"{error}; copy the zip again") from error

    def where(self, name: str) -> str:
        return f"{self.root}:{name}"

    def text(self, name: str) -> str | None:
        try:
            with self._archive().open(name) as file:
                return io.TextIOWrapper(file, "utf-8", errors="replace").read()
        except KeyError:
            return None
