"""Faults between settings that are valid one by one."""

from pathlib import Path

import pytest

from htsget_flask.config import read_config
from tests.support.config import faults


class TestEachDatasetCanBeReached:
    READS = "reads: {BAM: {storage: a, key: a.bam}}"

    @pytest.mark.parametrize(
        ("entries", "expected"),
        [
            (f"{{id: service-info, {READS}}}", ["datasets[0].id: service-info "]),
            (f"{{id: /a, {READS}}}", ["datasets[0].id: must not start or end with '/'"]),
            (f"{{id: a/, {READS}}}", ["datasets[0].id: must not start or end with '/'"]),
            (f"{{id: a//b, {READS}}}", ["datasets[0].id: must not start or end with '/'"]),
            ("{prefix: /a, storage: a}", ["datasets[0].prefix: must not start with '/'"]),
            ("{prefix: a//, storage: a}", ["datasets[0].prefix: must not start with '/'"]),
            (
                f"{{prefix: x, storage: a}}, {{id: b, {READS}}}, {{id: b, {READS}}}",
                ["datasets[2].id: datasets[1] has this id"],
            ),
            ("{prefix: '', storage: a}, {prefix: b/, storage: a}", ["datasets[1].prefix: no request reaches it"]),
            (
                f"{{prefix: '', storage: a}}, {{id: b, {READS}}}, {{prefix: c, storage: a}}",
                ["datasets[1].id: no request reaches it", "datasets[2].prefix: no request reaches it"],
            ),
            (
                "{prefix: b/, storage: a}, {prefix: b/, storage: a}",
                [
                    "datasets[1].prefix: no request reaches it, because datasets[0] has all ids that start with 'b/':"
                    " give it another prefix"
                ],
            ),
            (f"{{prefix: b/, storage: a}}, {{id: b/c, {READS}}}", ["datasets[1].id: no request reaches it"]),
        ],
    )
    def test_or_is_refused(self, tmp_path: Path, entries: str, expected: list[str]) -> None:
        text = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{entries}]\n"
        lines = faults(tmp_path, text)
        assert len(lines) == len(expected)
        assert all(map(str.startswith, lines, expected))

    def test_hidden_ones_belong_to_no_earlier_prefix(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets:\n"
            f"- {{prefix: '', storage: a}}\n- {{id: .old/b, {self.READS}}}\n- {{prefix: a/.old/, storage: a}}\n"
        )
        assert read_config(path)

    def test_ids_may_have_segments(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets:\n"
            f"- {{id: a/service-info, {self.READS}}}\n- {{prefix: a/, storage: a}}\n- {{id: a, {self.READS}}}\n"
            "- {prefix: '', storage: a}\n"
        )
        assert read_config(path)
