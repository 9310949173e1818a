"""Levels of damage and the fields of the building layer: what both sides call them.

Standard library only, Python 3.9: the plugin styles and exports by these names, the worker writes them.
Names have at most ten characters, so that a Shapefile keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

UNKNOWN = 0
"""Damage of a building of which too little was seen: it is unknown, not undamaged."""


@dataclass(frozen=True)
class Level:
    """A level of damage on the Joint Damage Scale of xBD.

    Attributes:
        code: 1 to 4; 0 is unknown.
        name: What an analyst reads.
        colour: Colour-blind-safe, from no damage to destroyed.
        field: Field with its probability; none for unknown.
        ems: The class of Copernicus EMS that it stands for.
        unosat: The class of UNOSAT that it stands for.
    """

    code: int
    name: str
    colour: str
    field: Optional[str]  # noqa: UP045  Python 3.9
    ems: str
    unosat: str


LEVELS = (
    Level(UNKNOWN, "unknown", "#b3b3b3", None, "Not analysed", "Not analysed"),
    Level(1, "no visible damage", "#2c7bb6", "p_none", "No visible damage", "No visible damage"),
    Level(2, "minor damage", "#fee090", "p_minor", "Possibly damaged", "Possible damage"),
    Level(3, "major damage", "#f46d43", "p_major", "Damaged", "Severe damage"),
    Level(4, "destroyed", "#a50026", "p_destr", "Destroyed", "Destroyed"),
)

FIELDS = (
    ("damage", "int", "Level of damage, 0 to 4; 0 is unknown"),
    ("damage_nam", "str", "Name of the level, as the model tells levels apart"),
    ("p_none", "real", "Probability of no visible damage; empty where unknown"),
    ("p_minor", "real", "Probability of minor damage; empty where the model does not tell it apart"),
    ("p_major", "real", "Probability of major damage; likewise"),
    ("p_destr", "real", "Probability of destruction, with the levels that are merged into it"),
    ("severity", "real", "Expected level, 1 to 4"),
    ("confidence", "real", "Probability of the level that is named"),
    ("seen", "real", "Share of the footprint that the images show, 0 to 1"),
    ("moved_m", "real", "How far the footprint was moved to where the image shows the building, in metres"),
    ("area_m2", "real", "Area of the footprint in square metres"),
    ("triage", "real", "Probability of destruction times area: where to look first"),
    ("ems", "str", "Class of Copernicus EMS"),
    ("unosat", "str", "Class of UNOSAT"),
    ("source_id", "str", "Id of the footprint in its source"),
    ("pre_date", "str", "When the image before was taken"),
    ("post_date", "str", "When the image after was taken"),
    ("off_nadir", "real", "Off-nadir angle of the image after, in degrees"),
    ("model", "str", "Model"),
    ("reviewed", "int", "1 once an analyst has looked at it"),
    ("analyst", "str", "Who looked"),
    ("model_dam", "int", "Level that the model named, where an analyst has named another"),
)
"""Name, type and meaning of the fields of the building layer, in their order."""

CERTAIN = 0.6
"""Probability from which a level, or a class of EMS or UNOSAT, is stated without reserve."""

MIN_SEEN = 0.5
"""Share of a footprint that must be seen for its damage to be known."""


def level_of(code: int) -> Level:
    """The level of a code.

    Raises:
        KeyError: There is no such level.
    """
    return {level.code: level for level in LEVELS}[code]
