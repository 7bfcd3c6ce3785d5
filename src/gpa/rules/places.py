"""Where in cgroup v2 a caller is, and which selectors of local rules that meets.

A place is the part of a cgroup's path whose names only root could have given: who has a part of the
hierarchy for himself names what is below as he likes, so that nothing there says who he is.
"""

from __future__ import annotations

from gpa.rules import units


def means(selector: str, value: str, place: str) -> bool:
    """Whether one of `model.CGROUP_SELECTORS` holds at a place."""
    match selector:
        case "cgroup":
            return place == value or place.startswith(value + "/")
        case "systemdUnit":
            return units.parse(place).unit == value
        case "containerId":
            return units.parse(place).container == value
    return False
