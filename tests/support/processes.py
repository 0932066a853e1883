"""What the kernel reports about processes."""

from contextlib import suppress
from pathlib import Path

_MAX_MAPPING = 256 << 20


def children(process: int | str = "self") -> set[int]:
    """The child processes of a process that it has not waited for."""
    pids: set[int] = set()
    for task in Path(f"/proc/{process}/task").iterdir():
        # A thread may end before its file is read.
        with suppress(FileNotFoundError, ProcessLookupError):
            pids |= {int(child) for child in (task / "children").read_text(encoding="ascii").split()}
    return pids


def status(process: int) -> dict[str, str]:
    """The fields of /proc/PID/status by name; empty for a process that was waited for."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_ended(process: int) -> bool:
    """Whether a process no longer runs."""
    return status(process).get("State", "Z").startswith("Z")


def is_stopped(process: int) -> bool:
    """Whether a signal has stopped a process."""
    return status(process)["State"].startswith("T")


def memory(process: int | str = "self") -> bytes:
    """The content of a process's writable memory, without mappings of more than 256 MiB."""
    content = bytearray()
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{process}/maps").read_text(encoding="utf-8").splitlines():
            span, permissions, *_ = line.split()
            start, end = (int(edge, 16) for edge in span.split("-"))
            if not permissions.startswith("rw") or end - start > _MAX_MAPPING:
                continue
            try:
                file.seek(start)
                content += file.read(end - start)
            except OSError:
                continue
    return bytes(content)
