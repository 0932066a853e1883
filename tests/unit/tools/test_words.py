"""The word list: which words it reports, and where."""

from pathlib import Path

import pytest

from tools.words import RULES, find_words, main, read_rules


def words(text: str) -> list[tuple[int, str]]:
    """The hits of the repository's own rules: line and word."""
    return [(line, word) for line, word, _ in sorted(find_words(text, read_rules(RULES.read_text(encoding="utf-8"))))]


class TestWordsAreReported:
    @pytest.mark.parametrize(
        "text",
        [
            "what is behind the header",  # words: ok
            "It was told.",  # words: ok
            "is_told",  # words: ok
            "the client asked",  # words: ok
            "a region asked for",  # words: ok
            "So many seconds",  # words: ok
            "class Place:",  # words: ok
            "_place",  # words: ok
            "piece_of_data",  # words: ok
            "a cache of its own",  # words: ok
            "present: Services",  # words: ok
            "This is none that can be read.",  # words: ok
        ],
    )
    def test_whatever_stands_around_them(self, text: str) -> None:
        assert len(words(text)) == 1

    def test_with_their_line_even_where_a_phrase_is_wrapped(self) -> None:
        assert words('x = 1\n# has a folder of its\n    # own\n"""so\n    many"""') == [  # words: ok
            (2, "of its # own"),  # words: ok
            (4, "so many"),  # words: ok
        ]

    def test_but_not_where_a_line_is_marked(self) -> None:
        assert words("the client asked  # words: ok\nthe client asked") == [(2, "asked")]  # words: ok


class TestOtherTextIsNotReported:
    @pytest.mark.parametrize(
        "text",
        [
            "behind nginx",
            "behind a proxy",
            "servers behind a load balancer",
            "file.tell()",
            "igv.js asked twice",
            "it is sorted in place",
            "takes place",
            "replaces",
            "workplace",
            "tasked",
            "basked",
            "besides",
            "renewed",
        ],
    )
    def test_however_similar(self, text: str) -> None:
        assert words(text) == []


class TestRules:
    def test_are_read_line_by_line(self) -> None:
        rules = read_rules("# a comment\n\na word   -> another -> or none\n")
        assert [suggestion for _, suggestion in rules] == ["another -> or none"]

    @pytest.mark.parametrize("line", ["a word", "a word ->", "-- "])
    def test_without_a_suggestion_are_refused(self, line: str) -> None:
        with pytest.raises(ValueError, match="line 2"):
            read_rules(f"one -> two\n{line}\n")


def test_the_command_prints_each_hit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("Nothing to report.\n")
    bad.write_text("one\nanew\n")  # words: ok
    assert main([str(good)]) == 0
    assert capsys.readouterr().out == ""
    assert main([str(good), str(bad)]) == 1
    assert capsys.readouterr().out == f"{bad}:2: anew -> again\n"  # words: ok
