"""Writes docs/configuration.md: configuration.md, next to this file, with a table of settings for each marked model."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from htsget_flask.config import auth, datasets, models, storages

TEMPLATE = Path(__file__).with_suffix("").with_name("configuration.md")
DOCUMENT = Path(__file__).parents[1] / "docs" / "configuration.md"

# A line such as `{auth.policy: PolicyConfig}`: the path of a section, and its model.
_MARK = re.compile(r"^\{([^:}]*): (\w+)\}$", re.M)
_MODELS: Mapping[str, type[BaseModel]] = {
    name: model
    for module in (auth, datasets, models, storages)
    for name, model in vars(module).items()
    if isinstance(model, type) and issubclass(model, BaseModel)
}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The text of docs/configuration.md."""
    template = TEMPLATE.read_text(encoding="utf-8")
    return _MARK.sub(lambda mark: "\n".join(_table(mark[1], _MODELS[mark[2]])), template)


def _table(path: str, model: type[BaseModel]) -> Iterator[str]:
    """The rows of a model's settings, the required ones first."""
    schema = model.model_json_schema()
    required = schema.get("required", ())
    yield "| setting | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, setting in sorted(schema["properties"].items(), key=lambda item: item[0] not in required):
        default = "required" if name in required else _default(setting.get("default"))
        meaning = " ".join((model.model_fields[name].description or "").split())
        yield f"| `{path and path + '.'}{name}` | {_type(setting)} | {default} | {meaning} |"


def _default(value: Any) -> str:
    if value in (None, "", [], {}):
        return "none"
    if isinstance(value, dict):
        return "see there"
    return f"`{json.dumps(value)}`" if isinstance(value, list) else f"`{str(value).lower()}`"


def _type(setting: Mapping[str, Any]) -> str:
    """The type of a setting in words, of its JSON schema."""
    alternatives = setting.get("anyOf") or setting.get("oneOf") or setting.get("allOf")
    if alternatives is not None:
        return " or ".join(dict.fromkeys(_type(one) for one in alternatives if one.get("type") != "null"))
    values = setting.get("enum", [setting["const"]] if "const" in setting else None)
    if values is not None:
        return ", ".join(f"`{value}`" for value in values)
    kind = setting.get("type", "settings" if "$ref" in setting else "value")
    if kind == "array":
        return f"list of {_type(setting['items'])}"
    if kind == "object":
        return "mapping"
    if kind == "string":
        return {"password": "secret", "path": "path"}.get(setting.get("format", ""), "text")
    return ", ".join(
        [kind, *(f"{words} {setting[bound]:.10g}" for bound, words in _BOUNDS.items() if bound in setting)]
    )


if __name__ == "__main__":
    main()
