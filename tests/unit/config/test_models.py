"""The settings of reference sequences."""

from pathlib import Path

import pytest

from tests.support.config import faults


class TestFaultsOfReferenceSequences:
    @pytest.mark.parametrize(
        ("setting", "fault"),
        [
            ("fastas: [{storage: a}]", "refget.fastas[0]: needs either a key or a prefix"),
            ("fastas: [{storage: a, key: b.fa, prefix: ''}]", "refget.fastas[0]: needs either a key or a prefix"),
            ("fastas: [{storage: x, key: b.fa}]", "refget.fastas[0].storage: there is no storage 'x' (known: a)"),
            ("store: {storage: x}", "refget.store.storage: there is no storage 'x' (known: a)"),
            ("fastas: [{storage: a, key: ../b.fa}]", "refget.fastas[0].key: must be a relative path"),
            ("fastas: [{storage: a, key: b.fa, namespace: 'a:b'}]", "refget.fastas[0].namespace: must be letters"),
            (
                "fastas: [{storage: a, key: b.fa, aliases: {c: [d]}}]",
                "refget.fastas[0].aliases.c[0]: must be a namespace",
            ),
            ("subsequence_limit: 0", "refget.subsequence_limit: Input should be greater than or equal to 1"),
        ],
    )
    def test_a_fault_is_reported_with_its_path(self, tmp_path: Path, setting: str, fault: str) -> None:
        text = (
            f"storages: {{a: {{type: local, root: .}}}}\ndatasets: [{{prefix: '', storage: a}}]\nrefget: {{{setting}}}"
        )
        assert [line[: len(fault)] for line in faults(tmp_path, text)] == [fault]
