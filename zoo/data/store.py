"""Where picture bytes come from: a folder, a zip or shards, listed once, in an order that every machine shares.

Everything that lists pictures lists them here: training, benchmarks, runs, `zoo data check`. Files that look like
pictures but are passed over are counted, with the reason.
"""

import logging
import os
import stat
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..errors import DataError
from ..resources import user_path
from ..runtime.files import printable
from .pictures import CONVERT, SUFFIXES, UNREADABLE, BadImage
from .shards.reader import CATALOGUE, Shards, has_shards, is_url

log = logging.getLogger(__name__)

MAX_BYTES = 512 * 1024 * 1024
# Suffixes of pictures that are not read: they are counted, so that nobody trains on half of a folder unawares.
_OTHER_PICTURES = {
    *(".heic", ".heif", ".hif", ".avif", ".avifs", ".jxl", ".jp2", ".j2k", ".jpx", ".psd", ".svg"),
    *(".ppm", ".pgm", ".pnm", ".pbm", ".tga", ".exr", ".hdr", ".ico", ".dib", ".pcx", ".sgi"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
} - set(SUFFIXES)
# Folders that operating systems put beside pictures, with shadows, thumbnails or deleted files in them.
_SHADOWS = ("__macosx", "@eadir", "$recycle.bin", "#recycle")
HIDDEN, UNREAD, TWICE, LINK = "hidden or shadow file", "format not read", "same name twice", "link inside the zip"


def need_empty(out: Path) -> None:
    """Refuse to write a set of pictures where something is already.

    Raises:
        DataError: `out` is a file, or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{printable(out)} is not an empty folder; name a new one or empty it")


class Files(Protocol):
    """Picture files. Their names are paths relative to the root, with `/` between the parts.

    Attributes:
        root: The folder or zip.
        names: The names of all pictures, sorted.
        unreadable: The folders that cannot be listed.
        skipped: The names of pictures that were passed over, under each reason.
    """

    root: Path
    names: list[str]
    unreadable: list[str]
    skipped: dict[str, list[str]]

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            BadImage: The file cannot be read.
        """
        ...

    def where(self, name: str) -> str:
        """The path that messages show, with escapes for what cannot be shown."""
        ...

    def stamp(self, name: str) -> str:
        """What changes when the picture does, found without reading it.

        Raises:
            BadImage: The file is gone.
        """
        ...

    def text(self, name: str) -> str | None:
        """A text file beside the pictures (a list of splits), or None if there is none."""
        ...


def open_files(root: str | os.PathLike[str]) -> Files:
    """The folder, the zip file or the shards at `root`, which is a URL only for shards.

    A line names what is passed over: folders that cannot be listed, and pictures of formats that are not read.

    Raises:
        DataError: Nothing is there, it is neither a folder nor a zip, it holds no pictures that can be listed, or
            shards are damaged.
    """
    if is_url(root):
        return Shards(root)
    path = user_path(root, DataError)
    shown = printable(path)
    if not path.exists():
        raise DataError(f"{shown} does not exist: give a folder of images or a .zip")
    files: Files
    if path.is_dir() and has_shards(path):
        return Shards(path)
    if path.is_dir():
        files = Folder(path)
    elif zipfile.is_zipfile(path):
        files = Zip(path)
    else:
        raise DataError(f"{shown} is neither a folder nor a complete zip file")
    unread = Counter(PurePosixPath(name).suffix.lower() for name in files.skipped.get(UNREAD, []))
    left_out = ", ".join(f"{count} {printable(suffix)}" for suffix, count in sorted(unread.items()))
    advice = f"passed over, because their format is not read: {left_out}; {CONVERT}"
    if not files.names and path.is_dir() and any(path.glob("*.tar")):
        raise DataError(f"{shown} holds tar files without their {CATALOGUE}; unpack them, and use zoo data shard")
    if files.unreadable:
        more = f", nor can {len(files.unreadable) - 1} more" if len(files.unreadable) > 1 else ""
        lost = f"{files.where(files.unreadable[0])}: folder cannot be listed{more}; check its permissions"
        if not files.names:
            raise DataError(lost)
        log.warning("%s", lost)
    if not files.names:
        raise DataError(f"{shown} holds no images ({' '.join(SUFFIXES)})" + (f"; {advice}" if unread else ""))
    if unread:
        log.warning("%s: %s", shown, advice)
    return files


def topmost(files: Files) -> list[str]:
    """The pictures of the folder itself; if it has none, those of the level below, and so on."""
    depth = min((name.count("/") for name in files.names), default=0)
    return [name for name in files.names if name.count("/") == depth]


def read_file(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        BadImage: The file is missing, is not a plain file, or is larger than `MAX_BYTES`.
    """
    shown = printable(path)
    try:
        if not path.is_file():
            # A pipe with the name of a picture would block for ever; a dead link lands here, too.
            raise BadImage(shown, UNREADABLE, "there is no such file, or it is not a plain one")
        if path.stat().st_size > MAX_BYTES:
            raise BadImage(shown, "too large", f"more than {MAX_BYTES:,} bytes; shrink it")
        return path.read_bytes()
    except OSError as error:
        raise BadImage(shown, UNREADABLE, f"{error.strerror or error}; check its permissions") from error


def _reason(name: str) -> str | None:
    """Why a file is passed over; "" for files to read, None for files that are not pictures."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES and suffix not in _OTHER_PICTURES:
        return None
    if any(map(_hidden, path.parts)):
        return HIDDEN
    return "" if suffix in SUFFIXES else UNREAD


def _hidden(part: str) -> bool:
    # macOS puts a shadow "._name.jpg" or "__MACOSX/" beside every file; shadows are not pictures.
    return part.startswith(".") or part.lower() in _SHADOWS


class Folder:
    """Pictures below a folder, also through symbolic links; each folder is entered only once, so loops end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[str] = []
        self.skipped: dict[str, list[str]] = {}
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
                entries = list(os.scandir(self.root / prefix))
            except OSError:
                self.unreadable.append(prefix or ".")
                continue
            entries.sort(key=lambda entry: entry.name, reverse=True)
            for entry in entries:
                name = prefix + entry.name
                if _is_folder(entry):
                    if not _hidden(entry.name):
                        stack.append(name + "/")
                elif (reason := _reason(entry.name)) == "":
                    found.append(name)
                elif reason:
                    self.skipped.setdefault(reason, []).append(name)
        return found

    def read(self, name: str) -> bytes:
        return read_file(self.root / name)

    def where(self, name: str) -> str:
        return printable(self.root / name)

    def stamp(self, name: str) -> str:
        try:
            status = os.stat(self.root / name)
        except OSError as error:
            raise BadImage(self.where(name), UNREADABLE, f"{error.strerror or error}") from error
        return f"{status.st_size} {status.st_mtime_ns}"

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

    Names have `/` between their parts, even if the zip has the `\\` of Windows. Of two entries with one name, the last
    counts, as it would after unpacking.

    Every process opens the file for itself: a handle shared across a fork shares its read position, and two workers
    would then get each other's bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[str] = []
        self.skipped: dict[str, list[str]] = {}
        self._open: tuple[int, zipfile.ZipFile] | None = None
        try:
            entries = self._archive().infolist()
        except Exception as error:  # zipfile raises all sorts on damaged directories and names
            raise DataError(f"{printable(root)}: not a readable zip ({error}); copy it again") from error
        self._entries: dict[str, int] = {}
        for number, entry in enumerate(entries):
            if entry.filename.endswith(("/", "\\")):
                continue
            name = str(PurePosixPath(entry.filename.replace("\\", "/")))
            reason = _reason(name)
            if reason == "" and stat.S_ISLNK(entry.external_attr >> 16):
                reason = LINK
            elif reason == "" and name in self._entries:
                self.skipped.setdefault(TWICE, []).append(name)
            if reason:
                self.skipped.setdefault(reason, []).append(name)
            else:
                self._entries[name] = number
        self.names = sorted(name for name in self._entries if _reason(name) == "")

    def _archive(self) -> zipfile.ZipFile:
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), zipfile.ZipFile(self.root))
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def read(self, name: str) -> bytes:
        try:
            member = self._archive().infolist()[self._entries[name]]
            if member.file_size > MAX_BYTES:
                raise BadImage(self.where(name), "too large", f"more than {MAX_BYTES:,} bytes unpacked")
            with self._archive().open(member) as file:
                return file.read()
        except BadImage:
            raise
        except NotImplementedError as error:  # a RuntimeError, as that of a missing password is
            fix = f"{error}; unpack it and zip it again with deflate"
            raise BadImage(self.where(name), "unsupported zip", fix) from error
        except RuntimeError as error:
            raise BadImage(self.where(name), "encrypted", "unpack the zip with its password first") from error
        except OSError as error:
            raise BadImage(self.where(name), UNREADABLE, f"{error.strerror or error}") from error
        except Exception as error:  # zlib.error, BadZipFile, EOFError
            raise BadImage(self.where(name), "damaged", f"{error}; copy the zip again") from error

    def where(self, name: str) -> str:
        return printable(f"{self.root}:{name}")

    def stamp(self, name: str) -> str:
        member = self._archive().infolist()[self._entries[name]]
        return f"{member.file_size} {member.CRC:08x}"

    def text(self, name: str) -> str | None:
        if name not in self._entries:
            return None
        return self.read(name).decode("utf-8", errors="replace")
