"""docs/architecture.md names code that exists, and the documents link to files and headings that exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "htsget_flask"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"[a-z0-9_]+(?:\.[A-Za-z0-9_]+)+")
_PATH = re.compile(r"[A-Za-z0-9_]+(?:/[A-Za-z0-9_.]+)*/?")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def names_of_code() -> Iterator[str]:
    text = _FENCED.sub("", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    yield from dict.fromkeys(_CODE.findall(text))


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of the package, or a function, class, method or value in one.

    Read from the source, as imports of all modules would import Flask and boto3.
    """
    path, rest = PACKAGE, name.split(".")
    while rest and (path / rest[0]).is_dir():
        path /= rest.pop(0)
    if rest and (path / f"{rest[0]}.py").is_file():
        path /= f"{rest.pop(0)}.py"
    elif (path / "__init__.py").is_file():
        path /= "__init__.py"
    body: list[ast.stmt] = ast.parse(path.read_bytes()).body
    for part in rest:
        matches = [statement for statement in body if part in names_in(statement)]
        if not matches:
            return False
        body = matches[0].body if isinstance(matches[0], ast.ClassDef) else []
    return True


def names_in(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module or class defines."""
    match statement:
        case ast.FunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Assign():
            return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return set()


@pytest.mark.parametrize("name", [name for name in names_of_code() if _DOTTED.fullmatch(name)])
def test_a_name_of_code_exists(name: str) -> None:
    assert (PACKAGE / name).is_file() or (ROOT / name).is_file() or resolves(name)


@pytest.mark.parametrize("name", [name for name in names_of_code() if "/" in name and _PATH.fullmatch(name)])
def test_a_path_exists(name: str) -> None:
    assert (PACKAGE / name).exists() or (ROOT / name).exists()


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for name, anchor in _LINK.findall(_FENCED.sub("", path.read_text(encoding="utf-8"))):
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"
