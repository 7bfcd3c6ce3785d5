"""Where in cgroup v2 a caller is, and which selectors of local rules that meets."""

from __future__ import annotations

from typing import NamedTuple

from gpa.rules import units


class Place(NamedTuple):
    """A cgroup by the names that say something.

    Attributes:
        path: the part of its path whose names only root could have given: who has a part of the
            hierarchy for himself names what is below as he likes.
        unit: the outermost of systemd's units in it.
        container: the outermost container.
    """

    path: str
    unit: str
    container: str

    @staticmethod
    def of(path: str) -> Place:
        """Read the names in a path."""
        words = units.parse(path)
        return Place(path, words.unit, words.container)

    def meets(self, selector: str, value: str) -> bool:
        """Whether one of `model.CGROUP_SELECTORS` holds here."""
        match selector:
            case "cgroup":
                return self.path == value or self.path.startswith(value + "/")
            case "systemdUnit":
                return self.unit == value
            case "containerId":
                return self.container == value
        return False
