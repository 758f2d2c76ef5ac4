"""Writing files in such a way that nobody ever reads half of one."""

import errno
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ROOM = "; make room, then run it again"


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write a whole file or nothing: a temporary file beside the target, fsync, rename, fsync of the folder.

    The temporary file must share the folder: a rename across file systems is a copy, and a copy can be cut short.

    Args:
        path: Where to write. Missing parent folders are made, and an existing file is replaced.
        data: The content. Text is written as UTF-8; characters that UTF-8 cannot encode are written as escapes.

    Returns:
        The path.

    Raises:
        OSError: The folder cannot be written, or the disk is full; an existing file at `path` is then unchanged.
    """
    path = Path(path)
    with naming(path):
        _write(path, data)
    return path


def _write(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    import tempfile  # here, for the sake of a quick `import zoo`

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            # mkstemp makes private files; give this one the permissions that a plain open() would have given.
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
            file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system inside name the file; of a full disk, also what is left on it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or str(error.strerror).endswith(_ROOM):  # the file inside was named
            if error.filename is None and error.errno is not None:  # others have words of their own
                error.filename = str(path)
            raise
        raise OSError(error.errno, f"{error.strerror}{_left(path)}{_ROOM}", str(path)) from None


def _left(path: Path) -> str:
    """` (12 MB left on /data)`."""
    import shutil  # here, for the sake of a quick `import zoo`

    folder = next((p for p in path.absolute().parents if p.is_dir()), Path("/"))
    return f" ({shutil.disk_usage(folder).free / 1e6:,.1f} MB left in {folder})"


@contextmanager
def at_once(path: Path) -> Iterator[Path]:
    """A hidden place beside `path` for a file or folder that is made bit by bit; it appears at `path` when all is made.

    If the block raises, nothing appears and nothing is left; errors are those of `naming`. An empty folder at `path`
    is replaced, and so is a file by a file.

    Args:
        path: Where the file or folder will be. Missing parent folders are made.

    Yields:
        A path where nothing is yet, with the same suffix. It shares the folder of `path`, as a rename across file
        systems is a copy.
    """
    import tempfile  # here, for the sake of a quick `import zoo`

    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Temporary folders are private; what lies inside has the permissions of any new file or folder.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp") as folder:
            place = Path(folder) / path.name
            yield place
            if place.is_dir() and path.is_dir():
                path.rmdir()  # some systems rename folders to new names only
            os.replace(place, path)


def need_place(path: Path, *, folder: bool = False) -> None:
    """Refuse a path, before the work, at which nothing could be written after it.

    Args:
        path: Where to write; folders above it that are missing will be made.
        folder: Whether the path is a folder for several files.

    Raises:
        ConfigError: A folder lies where a file should, or a file where a folder should, or the folder is read-only.
    """
    place = path.absolute()
    there = next(p for p in (place, *place.parents) if p.exists())
    is_folder = there.is_dir()
    if is_folder != (folder or there != place):
        kind = "folder" if is_folder else "file"
        raise ConfigError(f"{printable(path)} cannot be written: {printable(there)} is a {kind}; name another")
    holder = there if is_folder else there.parent
    if not os.access(holder, os.W_OK | os.X_OK):
        raise ConfigError(f"{printable(path)} cannot be written: {printable(holder)} is read-only; name another folder")


def tidy(folder: Path) -> None:
    """Remove what writers of files and films left below a folder when they were killed.

    Only while nobody writes there: hold the folder's lock.
    """
    import shutil

    for path in folder.rglob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def printable(text: object) -> str:
    """Text that is safe to show and to store.

    Control characters, marks that change the direction of writing, and bytes of a file name that are not UTF-8 become
    escapes such as `\\x1b`.
    """
    return "".join(_escaped(character) for character in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    turns = 0x200E <= code <= 0x200F or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    if turns or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode()
    return character
