"""Writing files so that nobody ever reads half of one."""

import os
from pathlib import Path


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write a whole file or nothing: temporary file beside the target, fsync, rename, fsync of the folder.

    The temporary file must share the folder: a rename across file systems is a copy, and a copy can be cut short.

    Args:
        path: target; missing parent folders are made. An existing file is replaced.
        data: the content; text is written as UTF-8.

    Returns:
        The path.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an existing file at `path` is then unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    import tempfile  # here, for the sake of a quick `import zoo`

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            # mkstemp makes private files; give this one the rights that a plain open() would have given.
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
            file.write(data.encode() if isinstance(data, str) else data)
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
    return path
