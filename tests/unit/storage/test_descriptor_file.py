import io
import os
import resource
import signal
from pathlib import Path

import pytest

from htsget_flask.ranges import ByteRange
from htsget_flask.storage.descriptor_file import DescriptorFile, create_temporary_file


def test_a_temporary_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with create_temporary_file() as file:
        assert list(tmp_path.iterdir()) == []
        file.write(b"0123456789")
        file.writelines([b"abc", b"", memoryview(b"def")])
        assert os.fstat(file.fileno()).st_size == 16
        assert b"".join(file.stream(ByteRange(8, 13))) == b"89abc"
        descriptor = file.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_bytes_of_a_long_range_come_in_buffers(tmp_path: Path) -> None:
    path = tmp_path / "x"
    content = os.urandom((3 << 20) + 5)
    path.write_bytes(content)
    with DescriptorFile(os.open(path, os.O_RDONLY)) as file:
        buffers = list(file.stream(ByteRange(7, len(content) - 1)))
        assert b"".join(buffers) == content[7:-1]
        assert max(map(len, buffers)) == 1 << 20
        assert list(file.stream(ByteRange(4, 4))) == []
        with pytest.raises(OSError, match="ended 4 bytes early"):
            list(file.stream(ByteRange(0, len(content) + 4)))


def test_a_part_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """The system writes as much as fits, without an error."""
    before, limit = resource.getrlimit(resource.RLIMIT_FSIZE), 5000
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    plain = io.FileIO(tmp_path / "plain", "w")
    file = DescriptorFile(os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT), "r+b")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        assert plain.write(bytes(8000)) == limit
        assert file.write(bytes(3000)) == 3000
        with pytest.raises(OSError, match="File too large"):
            file.write(bytes(3000))
        with pytest.raises(OSError, match="File too large"):
            file.writelines([bytes(3000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        plain.close()
        file.close()
