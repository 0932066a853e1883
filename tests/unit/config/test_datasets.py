"""The settings of tracks."""

from pathlib import Path

import pytest

from tests.support.config import faults


class TestTracksOfAMergedTrack:
    @pytest.mark.parametrize("tracks", ["[]", "[5]", "[{name: a}]", "[{url: a.bw}]", "{url: 'https://x.example/a'}"])
    def test_need_urls(self, tmp_path: Path, tracks: str) -> None:
        (line,) = faults(
            tmp_path,
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\n"
            f"datasets: [{{prefix: '', storage: a, tracks: [{{type: merged, tracks: {tracks}}}]}}]\n",
        )
        assert line.startswith("datasets[0].tracks[0]: ") and "url" in line
