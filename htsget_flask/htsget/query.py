"""Requests as values: all parameters of htsget 1.3.0, and every fault that they can have."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from werkzeug.datastructures import MultiDict

from htsget_flask.errors import InvalidInput, InvalidRange, PayloadTooLarge
from htsget_flask.fields import EVERYTHING, FIELDS, MAX_TAGS, TAG, FieldSelection, select_fields
from htsget_flask.htsget.misspelling import refuse_misspellings
from htsget_flask.regions import Region

UNPLACED = "*"
_SELECTION_NAMES = ("fields", "tags", "notags")
PARAMETERS = ("format", "class", "referenceName", "referenceMD5", "start", "end", *_SELECTION_NAMES)

# An extension: whether the ticket may contain data: URLs.
_INLINE = "inline"
_GET_NAMES = dict.fromkeys((*PARAMETERS, _INLINE))
_POST_NAMES = ("format", "class", *_SELECTION_NAMES, "regions", _INLINE)
_REGION_NAMES = ("referenceName", "start", "end")
# JBrowse 2 requests each header with this name of a reference.
_NO_REFERENCE = "na"
_MD5 = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_UNSIGNED = re.compile(r"[0-9]{1,20}", re.ASCII)
_MAX_START = (1 << 32) - 1
# For "to the end" igv.js sends the largest integer that JavaScript represents exactly.
_MAX_END = 1 << 53


class Query(NamedTuple):
    """The parameters of a ticket; `regions` None: the whole file.

    With `needs_header` there is one region, and only the file's header decides which reference it is on
    (`reference_names.resolve`): `md5` is the reference's checksum in lower case, and the region's name is empty if the
    request has none. `selection`: of each record; everything of variants, which have no such fields.
    """

    format: str | None
    header_only: bool
    regions: tuple[Region, ...] | None
    may_inline: bool = True
    needs_header: bool = False
    md5: str | None = None
    selection: FieldSelection = EVERYTHING


def parse_get(arguments: "MultiDict[str, str]", endpoint: str, *, strict_header_class: bool | None) -> Query:
    """The query of a GET request.

    Raises:
        InvalidInput, InvalidRange: as the specification defines them.
    """
    values: dict[str, str] = {}
    for name, texts in arguments.lists():
        if name in _GET_NAMES and len(texts) > 1:
            raise InvalidInput(f"{name} occurs {len(texts)} times")
        values[name] = texts[0]
    if not _GET_NAMES.keys() >= values.keys():
        refuse_misspellings(values, _GET_NAMES)
    inline = values.get(_INLINE, "true")
    if inline not in ("true", "false"):
        raise InvalidInput(f"{_INLINE} must be true or false, not {inline[:40]!r}")
    may_inline = inline == "true"
    header_only = _header_only(values, strict_header_class)
    selection = EVERYTHING
    if endpoint == "reads" and not values.keys().isdisjoint(_SELECTION_NAMES):
        fields = values.get("fields")
        selection = _selection(
            None if fields is None else fields.split(","), _split(values.get("tags")), _split(values.get("notags"))
        )
    format_name, md5 = _format(values.get("format")), values.get("referenceMD5")
    if md5 is not None and not _MD5.fullmatch(md5):
        raise InvalidInput(f"referenceMD5 must have 32 hexadecimal digits, not {md5[:40]!r}")
    reference_name = values.get("referenceName")
    start = _position(values.get("start"), "start", _MAX_START)
    end = _position(values.get("end"), "end", _MAX_END)
    if reference_name is None and md5 is None:
        if start is not None or end is not None:
            raise InvalidInput("start and end need a referenceName")
        return Query(format_name, header_only, None, may_inline, selection=EVERYTHING if header_only else selection)
    if start is not None and end is not None and start > end:
        raise InvalidRange(f"start {start} is greater than end {end}")
    region = Region("", start or 0, end) if reference_name is None else _region(reference_name, start, end, endpoint)
    if header_only and strict_header_class is not None:
        return Query(format_name, header_only, None, may_inline)
    needs_header = header_only or md5 is not None or " " in region.reference_name
    return Query(format_name, header_only, (region,), may_inline, needs_header, md5 and md5.lower(), selection)


def refuse_arguments(arguments: "MultiDict[str, str]") -> None:
    """Refuse parameters in the URL of a POST request.

    Raises:
        InvalidInput: for any of them, and for misspellings.
    """
    names = [name for name in _GET_NAMES if name in arguments]
    if names:
        raise InvalidInput(f"a POST request has its parameters in the body, not in the URL: {', '.join(names)}")
    refuse_misspellings(arguments, _GET_NAMES)


def parse_post(body: bytes, endpoint: str, *, strict_header_class: bool | None, max_regions: int) -> Query:
    """The query of a POST request's JSON body.

    Raises:
        InvalidInput, InvalidRange: as the specification defines them.
        PayloadTooLarge: for more than `max_regions` regions.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidInput("the body must be a JSON object")
    values = {name: value for name, value in content.items() if value is not None or name == "regions"}
    for name in _REGION_NAMES:
        if name in values:
            raise InvalidInput(f"{name} belongs in the objects of regions")
    refuse_misspellings(content, (*_POST_NAMES, *_REGION_NAMES))
    for name in ("format", "class"):
        if not isinstance(values.get(name, ""), str):
            raise InvalidInput(f"{name} must be a string")
    for name in _SELECTION_NAMES:
        texts = values.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InvalidInput(f"{name} must be an array of strings")
    may_inline = values.get(_INLINE, True)
    if not isinstance(may_inline, bool):
        raise InvalidInput(f"{_INLINE} must be true or false")
    header_only = _header_only(values, strict_header_class)
    selection = EVERYTHING
    if endpoint == "reads":
        # An empty array of fields has no meaning in the specification, which lets a server answer with more fields.
        selection = _selection(values.get("fields") or None, values.get("tags"), values.get("notags"))
    regions = _regions(values["regions"], endpoint, max_regions) if "regions" in values else None
    format_name = _format(values.get("format"))
    if header_only:
        return Query(format_name, header_only, None, may_inline)
    return Query(format_name, header_only, regions, may_inline, selection=selection)


def _regions(values: Any, endpoint: str, max_regions: int) -> tuple[Region, ...]:
    if not isinstance(values, list) or not values:
        raise InvalidInput("regions must be an array with at least one region")
    if len(values) > max_regions:
        raise PayloadTooLarge(f"{len(values)} regions exceed this server's limit of {max_regions}")
    refuse_misspellings((name for region in values if isinstance(region, dict) for name in region), _REGION_NAMES)
    return tuple(_posted_region(region, number, endpoint) for number, region in enumerate(values))


def _posted_region(region: Any, number: int, endpoint: str) -> Region:
    where = f"regions[{number}]"
    if not isinstance(region, dict):
        raise InvalidInput(f"{where} must be an object")
    reference_name = region.get("referenceName")
    if not isinstance(reference_name, str):
        raise InvalidInput(f"{where}.referenceName must be a string")
    start, end = region.get("start"), region.get("end")
    for name, value, limit in (("start", start, _MAX_START), ("end", end, _MAX_END)):
        if value is not None and (type(value) is not int or not 0 <= value <= limit):
            raise InvalidInput(f"{where}.{name} must be an unsigned 32-bit integer")
    if start is not None and end is not None and start >= end:
        raise InvalidRange(f"{where}: start {start} is greater than or equal to end {end}")
    return _region(reference_name, start, end, endpoint)


def _region(reference_name: str, start: int | None, end: int | None, endpoint: str) -> Region:
    if not reference_name:
        raise InvalidInput("referenceName is empty")
    if reference_name == UNPLACED and endpoint == "reads" and (start is not None or end is not None):
        raise InvalidInput("start and end have no meaning with referenceName=*")
    return Region(reference_name, start or 0, end)


def _header_only(values: Mapping[str, Any], strict: bool | None) -> bool:
    value = values.get("class")
    if value is None:
        return False
    if value != "header":
        raise InvalidInput(f"class must be header, not {value[:40]!r}")
    others = [name for name in (*PARAMETERS, "regions") if name in values and name not in ("format", "class")]
    if not others or strict is False:
        return True
    if strict is None and others == ["referenceName"] and values["referenceName"] == _NO_REFERENCE:
        return True
    raise InvalidInput(f"class=header excludes {', '.join(others)}")


def _format(value: str | None) -> str | None:
    return None if value is None else value.upper()[:40]


def _position(value: str | None, name: str, limit: int) -> int | None:
    if value is None:
        return None
    position = int(value) if _UNSIGNED.fullmatch(value) else limit + 1
    if position > limit:
        raise InvalidInput(f"{name} must be an unsigned 32-bit integer, not {value[:40]!r}")
    return position


def _split(value: str | None) -> list[str] | None:
    return None if value is None else [tag for tag in value.split(",") if tag]


def _selection(
    fields: Sequence[str] | None, tags: Sequence[str] | None, notags: Sequence[str] | None
) -> FieldSelection:
    for field in fields or ():
        if field not in FIELDS:
            raise InvalidInput(f"there is no field {field[:40]!r}; there are {', '.join(sorted(FIELDS))}")
    for name, values in (("tags", tags), ("notags", notags)):
        if values and len(values) > MAX_TAGS:
            raise InvalidInput(f"{name} has {len(values)} tags; at most {MAX_TAGS} are possible")
        for tag in values or ():
            if not TAG.fullmatch(tag):
                raise InvalidInput(f"{tag[:40]!r} is not a tag")
    if both := set(tags or ()).intersection(notags or ()):
        raise InvalidInput(f"tags and notags both name {', '.join(sorted(both))}")
    return select_fields(fields, tags, notags or ())
