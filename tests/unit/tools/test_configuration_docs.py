"""Every setting is described, in docs/configuration.md and in an example."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from htsget_flask.config import Config
from tests.support.config import ROOT, reference, reference_with_policy
from tools import configuration_docs


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_of(argument)


def suffix(annotation: Any) -> str:
    """What follows the name of a setting of this type in the paths of its settings."""
    origin = str(annotation)
    if "Literal['BAM'" in origin or "Literal['VCF'" in origin:
        return ".<format>"
    return ".<name>" if "dict[" in origin else "[]" if "list[" in origin else ""


def settings(model: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, str | None]]:
    """The path and the description of every setting."""
    for name, field in model.model_fields.items():
        yield path + name, field.description
        for inner in models_of(field.annotation):
            yield from settings(inner, f"{path}{name}{suffix(field.annotation)}.")


SETTINGS = sorted({path for path, _ in settings()})


def documented() -> list[str]:
    """The paths of settings in the tables of the document."""
    return re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.M)


def test_each_setting_has_a_description() -> None:
    assert not [path for path, description in settings() if not description]


def test_the_document_is_generated() -> None:
    assert configuration_docs.DOCUMENT.read_text() == configuration_docs.document()


@pytest.mark.parametrize("path", SETTINGS)
def test_the_document_has_each_setting(path: str) -> None:
    assert path.replace("variants.", "reads.") in documented()


def test_the_document_has_no_other_setting() -> None:
    assert set(documented()) <= set(SETTINGS)


def test_the_reference_has_an_example_of_each_setting() -> None:
    def names(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield name
                yield from names(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from names(inner)

    examples = [yaml.safe_load(text) for text in (reference(), reference_with_policy())]
    assert {path.rpartition(".")[2] for path in SETTINGS} <= set(names(examples))
