"""igv.js tracks that mark the regions of a dataset to which a caller's access is limited."""

from collections.abc import Iterator, Mapping
from typing import Any

from htsget_flask.regions import Region, RegionSet

# More make the page slow.
_MAX_FEATURES = 20_000
# The largest position in igv.js's own indexes, for a reference of unknown length.
_FAR = (1 << 31) - 1
_GRANTED = {"name": "granted", "color": "#2e7d32"}
_NOT_GRANTED = {"name": "not granted", "color": "#757575"}
_TRACK = {"type": "annotation", "displayMode": "EXPANDED", "height": 45, "visibilityWindow": -1, "searchable": False}

TOO_MANY = "The regions that this token opens are too many to be marked."


def access_tracks(
    granted: Mapping[str, RegionSet | None], lengths: Mapping[str, int | None]
) -> list[dict[str, Any]] | None:
    """A track for each endpoint with a limited grant, or one for all if they are equal; None for too many regions.

    `lengths`: of the references of the dataset's files, in bases.
    """
    limited = {endpoint: regions for endpoint, regions in granted.items() if regions is not None}
    if any(2 * len(regions) + len(lengths) > _MAX_FEATURES for regions in limited.values()):
        return None
    features = {f"Access to {endpoint}": list(_features(regions, lengths)) for endpoint, regions in limited.items()}
    distinct = [*features.values()]
    if distinct and distinct == [distinct[0]] * len(granted):
        features = {"Access": distinct[0]}
    return [{**_TRACK, "name": name, "features": regions} for name, regions in features.items()]


def _features(regions: RegionSet, lengths: Mapping[str, int | None]) -> Iterator[dict[str, Any]]:
    """Each reference, divided into granted and other parts."""
    for name, length in (lengths or dict.fromkeys(region.reference_name for region in regions)).items():
        end = _FAR if length is None else length
        position = 0
        for part in regions.restrict([Region(name, 0, end)]):
            if position < part.start:
                yield {"chr": name, "start": position, "end": part.start, **_NOT_GRANTED}
            position = end if part.end is None else part.end
            yield {"chr": name, "start": part.start, "end": position, **_GRANTED}
        if position < end:
            yield {"chr": name, "start": position, "end": end, **_NOT_GRANTED}
