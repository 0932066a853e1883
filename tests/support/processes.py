"""What the kernel says of processes."""

from pathlib import Path

_LONGEST_MAPPING = 256 << 20


def children(process: int | str = "self") -> set[int]:
    """The processes that a process started and has not waited for."""
    found: set[int] = set()
    for task in Path(f"/proc/{process}/task").iterdir():
        found |= {int(child) for child in (task / "children").read_text(encoding="ascii").split()}
    return found


def status(process: int) -> dict[str, str]:
    """What is in /proc/PID/status, by its names; nothing of a process that was waited for."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_ended(process: int) -> bool:
    """Whether a process runs no more."""
    return status(process).get("State", "Z").startswith("Z")


def is_stopped(process: int) -> bool:
    """Whether a process was halted by a signal."""
    return status(process)["State"].startswith("T")


def memory(process: int | str = "self") -> bytes:
    """What a process may have written in its memory."""
    found = bytearray()
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{process}/maps").read_text(encoding="utf-8").splitlines():
            span, rights, *_ = line.split()
            start, end = (int(edge, 16) for edge in span.split("-"))
            if not rights.startswith("rw") or end - start > _LONGEST_MAPPING:
                continue
            try:
                file.seek(start)
                found += file.read(end - start)
            except OSError:
                continue
    return bytes(found)
