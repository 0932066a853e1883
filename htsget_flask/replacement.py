"""Atomic writes: a file appears under its name complete or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacement(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A new file with these permissions, which is renamed to `path` at the end.

    Other users may write in the folder: its name cannot be guessed, and no link there is followed.

    Raises:
        OSError: when the folder cannot be written; no part of the file remains then.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def default_mode() -> int:
    """The permissions that this process gives to new files."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
