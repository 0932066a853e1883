"""Reports words that the repository does not use: `python -m tools.words FILE ...`; words.txt holds the rules."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

RULES = Path(__file__).with_suffix(".txt")
EXCEPTION = "words: ok"

# Between two words of a phrase: a space, or the end of a line with the next one's indentation and comment sign.
_GAP = r"(?: |\s*\n\s*(?:[#>*]\s*)?)"
# Of a fixed width, so a gap cannot stand there.
_LOOKBEHIND = re.compile(r"(\(\?<!.*?\))")


class Rule(NamedTuple):
    """A regular expression, and what to write instead."""

    pattern: re.Pattern[str]
    suggestion: str


class Hit(NamedTuple):
    """A word that a rule matches; `line` is 1-based."""

    line: int
    word: str
    suggestion: str


def read_rules(text: str) -> list[Rule]:
    """The rules, one per line: `expression -> suggestion`; empty lines and those that start with # are comments.

    Raises:
        ValueError: for a line that is not a rule.
    """
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        expression, arrow, suggestion = line.partition("->")
        if not arrow or not suggestion.strip():
            raise ValueError(f"line {number} is not a rule: {line}")
        parts = _LOOKBEHIND.split(expression.strip())
        parts[::2] = [part.replace(" ", _GAP) for part in parts[::2]]
        phrase = "".join(parts)
        rules.append(Rule(re.compile(rf"(?<![^\W_])(?:{phrase})(?![^\W_])", re.I), suggestion.strip()))
    return rules


def find_words(text: str, rules: Iterable[Rule]) -> Iterator[Hit]:
    """The words in a text that a rule matches, rule by rule, except on lines that are marked as exceptions."""
    lines = text.splitlines()
    for pattern, suggestion in rules:
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if EXCEPTION not in lines[line - 1]:
                yield Hit(line, " ".join(match.group().split()), suggestion)


def main(paths: Iterable[str]) -> int:
    """Print each hit as `path:line: word -> suggestion`; the exit code is 1 if there is one."""
    rules = read_rules(RULES.read_text(encoding="utf-8"))
    status = 0
    for path in paths:
        for line, word, suggestion in sorted(find_words(Path(path).read_text(encoding="utf-8"), rules)):
            print(f"{path}:{line}: {word} -> {suggestion}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
