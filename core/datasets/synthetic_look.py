"""What kinds of town there are, and the colours and the light of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from .synthetic_shapes import Points


@dataclass(frozen=True)
class Style:
    """What kind of town: sizes in metres; the rest are probabilities or relative weights.

    Attributes:
        cell_m: Spacing of the through roads.
        block_m: Longest and shortest side that a block may have.
        slant: How far a street may stray from the middle and from the square, 0 to 0.3.
        bends: (amplitude, wavelength) of the warps that bend the plan.
        through: Weights of what a lattice line is: motorway, avenue, street, track, nothing.
        avenue_m: Width range of avenues, without their median.
        street_m: Width range of streets.
        lands: Weights of what a block is used for.
        biomes: Weights of the climates.
        alley: Probability that a street is an alley of 3 to 5 m.
        track: Probability that a street is unpaved.
        missing: Probability that two blocks meet without a street.
        dead_end: Probability that a street ends inside.
        trees: Density of street and garden trees, 0 to 1.
        roundabout: Probability at a crossing of through roads.
        ribbon: Probability that a river, canal, railway or dry bed runs through a row of cells.
    """

    cell_m: float
    block_m: tuple[float, float]
    slant: float
    bends: tuple[tuple[float, float], ...]
    through: tuple[float, float, float, float, float]
    avenue_m: tuple[float, float]
    street_m: tuple[float, float]
    lands: Mapping[str, float]
    biomes: Mapping[str, float]
    alley: float
    track: float
    missing: float
    dead_end: float
    trees: float
    roundabout: float
    ribbon: float


_ANY_CLIMATE = {"temperate": 4.0, "winter": 2.0, "mediterranean": 2.0, "tropical": 1.5, "desert": 0.7}

# fmt: off
STYLES: dict[str, Style] = {
    "suburb": Style(
        cell_m=380,
        block_m=(210, 88),
        slant=0.12,
        bends=((26, 340), (55, 1300)),
        through=(0.4, 2, 6, 0.2, 0.5),
        avenue_m=(10, 15),
        street_m=(5, 8),
        lands={
            "houses": 11, "park": 1, "apartments": 0.7, "forest": 0.7, "bare": 0.5, "parking": 0.4,
            "halls": 0.3, "water": 0.3, "site": 0.3,
        },
        biomes=_ANY_CLIMATE,
        alley=0.05, track=0.03, missing=0.06, dead_end=0.2, trees=0.7, roundabout=0.25, ribbon=0.12,
    ),
    "old_town": Style(
        cell_m=330,
        block_m=(100, 52),
        slant=0.24,
        bends=((4.5, 110), (22, 420)),
        through=(0.1, 1, 6, 0, 1),
        avenue_m=(9, 12),
        street_m=(3.6, 6.5),
        lands={
            "terraces": 12, "shacks": 1.5, "apartments": 1, "square": 0.5, "park": 0.4, "bare": 0.4,
            "parking": 0.25,
        },
        biomes={"temperate": 2, "winter": 1, "mediterranean": 5, "tropical": 1.5, "desert": 2},
        alley=0.45, track=0.03, missing=0.05, dead_end=0.1, trees=0.25, roundabout=0.1, ribbon=0.1,
    ),
    "grid": Style(
        cell_m=380,
        block_m=(160, 100),
        slant=0.02,
        bends=((5, 2500),),
        through=(0.3, 3, 6, 0, 0),
        avenue_m=(11, 17),
        street_m=(6, 10),
        lands={
            "apartments": 6, "houses": 4, "terraces": 3, "parking": 1, "halls": 1, "park": 0.8, "square": 0.4,
            "bare": 0.4, "site": 0.3,
        },
        biomes=_ANY_CLIMATE,
        alley=0.12, track=0.0, missing=0.05, dead_end=0.02, trees=0.4, roundabout=0.08, ribbon=0.08,
    ),
    "desert": Style(
        cell_m=420,
        block_m=(170, 75),
        slant=0.06,
        bends=((30, 900), (15, 400)),
        through=(0.6, 2, 5, 1.5, 0.6),
        avenue_m=(11, 17),
        street_m=(5, 9),
        lands={
            "compounds": 7, "bare": 4, "apartments": 1, "halls": 0.6, "parking": 0.3, "water": 0.4,
            "park": 0.3, "site": 1, "terraces": 0.8,
        },
        biomes={"desert": 1},
        alley=0.08, track=0.25, missing=0.15, dead_end=0.08, trees=0.15, roundabout=0.3, ribbon=0.15,
    ),
    "rural": Style(
        cell_m=560,
        block_m=(300, 170),
        slant=0.2,
        bends=((45, 900), (18, 300)),
        through=(0.3, 1, 4, 2, 1),
        avenue_m=(8, 12),
        street_m=(3.8, 6.5),
        lands={"field": 10, "forest": 3, "farm": 2.5, "houses": 1.2, "water": 0.3, "bare": 0.4},
        biomes={"temperate": 4, "winter": 3, "mediterranean": 2.5, "tropical": 1.5, "desert": 1},
        alley=0.1, track=0.5, missing=0.55, dead_end=0.1, trees=0.3, roundabout=0.1, ribbon=0.22,
    ),
    "industrial": Style(
        cell_m=460,
        block_m=(210, 120),
        slant=0.06,
        bends=((20, 1200),),
        through=(0.8, 3, 5, 0.3, 0.3),
        avenue_m=(11, 17),
        street_m=(6, 10),
        lands={
            "halls": 9, "parking": 1, "bare": 1.5, "apartments": 0.6, "field": 0.5, "park": 0.4, "water": 0.4,
            "site": 1,
        },
        biomes={"temperate": 3, "winter": 2, "mediterranean": 2, "tropical": 1, "desert": 2},
        alley=0.03, track=0.08, missing=0.12, dead_end=0.12, trees=0.2, roundabout=0.2, ribbon=0.2,
    ),
}
# fmt: on


def _rgb(*codes: tuple[int, int, int]) -> Points:
    return np.array(codes, float) / 255


GRASS = {
    "temperate": _rgb((82, 104, 58), (112, 122, 76), (66, 88, 52)),
    "winter": _rgb((128, 116, 88), (104, 100, 74), (142, 130, 104)),
    "mediterranean": _rgb((134, 128, 88), (156, 142, 104), (108, 112, 70)),
    "tropical": _rgb((84, 112, 56), (118, 118, 70), (96, 104, 58)),
    "desert": _rgb((202, 182, 150), (188, 168, 138), (212, 196, 170)),
}
SOIL = {
    "temperate": _rgb((134, 114, 88), (158, 140, 112)),
    "winter": _rgb((118, 100, 80), (138, 122, 102)),
    "mediterranean": _rgb((172, 146, 112), (186, 166, 136)),
    "tropical": _rgb((158, 104, 74), (148, 118, 90)),
    "desert": _rgb((206, 186, 156), (190, 170, 142)),
}
LEAVES = {
    "temperate": _rgb((52, 76, 38), (70, 92, 48)),
    "winter": _rgb((98, 84, 70), (54, 66, 44)),
    "mediterranean": _rgb((70, 80, 50), (88, 94, 64)),
    "tropical": _rgb((46, 80, 36), (68, 96, 44)),
    "desert": _rgb((84, 90, 60), (104, 104, 76)),
}
TILES = _rgb((160, 96, 70), (142, 84, 64), (176, 122, 92), (112, 88, 76), (96, 92, 92))
SHEETS = _rgb((70, 96, 130), (120, 72, 60), (92, 116, 100), (150, 120, 96), (190, 192, 194))
CARS = _rgb(
    (226, 226, 226),
    (168, 170, 172),
    (48, 48, 52),
    (92, 94, 98),
    (140, 44, 40),
    (52, 72, 112),
    (200, 192, 176),
)
CAR_SHARES = (0.28, 0.2, 0.14, 0.14, 0.08, 0.08, 0.08)


@dataclass(frozen=True)
class Look:
    """The colours and the light of one town.

    Attributes:
        biome: Name of the climate.
        asphalt: Brightness range of paving and of flat roofs, 0 to 1.
        tint: Colour cast of paving, (3,), about 1.
        dust: How much of the soil may lie on paving, 0 to 1.
        tiled: Share of pitched roofs with tiles instead of greys.
        sun: (2,) the shadow of one metre of height on the ground, in metres.
        verge_m: Width of sidewalks, 0 for none.
        verge_rgb: Their colour, (3,).
        markings: How bright lane markings are, 0 for none.
        traffic: Cars per metre of lane.
    """

    biome: str
    asphalt: tuple[float, float]
    tint: Points
    dust: float
    tiled: float
    sun: Points
    verge_m: float
    verge_rgb: Points
    markings: float
    traffic: float

    @property
    def tallest_m(self) -> float:
        """Height up to which shadows are drawn: none is longer than 45 m."""
        return float(min(34.0, 45.0 / np.hypot(*self.sun)))

    @property
    def to_sun(self) -> Points:
        """Unit vector (2,) towards the sun."""
        toward: Points = -self.sun / np.hypot(*self.sun)
        return toward

    def paving(self, rng: Generator) -> Points:
        """A colour of asphalt, concrete or a flat roof, (3,)."""
        grey = rng.uniform(*self.asphalt) * self.tint * rng.uniform(0.985, 1.015, 3)
        dust = self.dust * rng.random()
        paved: Points = np.clip(grey * (1 - dust) + SOIL[self.biome][0] * dust, 0, 0.9)
        return paved

    def soil(self, rng: Generator) -> Points:
        """A colour of bare ground, (3,)."""
        bare: Points = rng.choice(SOIL[self.biome]) * rng.uniform(0.9, 1.08)
        return bare

    def grass(self, rng: Generator) -> Points:
        """A colour of lawns and open ground, (3,)."""
        green: Points = rng.choice(GRASS[self.biome]) * rng.uniform(0.9, 1.1)
        return green

    def leaves(self, rng: Generator, count: int) -> Points:
        """Colours of crowns, (count, 3)."""
        greens: Points = LEAVES[self.biome][rng.integers(0, 2, count)] * rng.uniform(0.75, 1.2, (count, 1))
        return greens


def pick(weights: Mapping[str, float], rng: Generator) -> str:
    """Draw a name by its weight."""
    names, shares = list(weights), np.cumsum(list(weights.values()))
    return names[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]


def draw_look(style: Style, rng: Generator) -> Look:
    """Draw the colours and the light of a town."""
    biome = pick(style.biomes, rng)
    base = rng.uniform(0.2, 0.62)
    sandy = rng.uniform(0, 0.16) if biome in ("desert", "mediterranean", "tropical") else rng.uniform(0, 0.05)
    azimuth = rng.uniform(0, 2 * np.pi)
    length = 1 / np.tan(np.radians(rng.uniform(24, 72)))
    warm = np.array([1 + sandy, 1.0, 1 - sandy])
    return Look(
        biome=biome,
        asphalt=(max(base - 0.05, 0.14), min(base + rng.uniform(0.03, 0.14), 0.75)),
        tint=warm * rng.uniform(0.98, 1.02, 3),
        dust=rng.uniform(0, 0.7) if biome == "desert" else rng.uniform(0, 0.25),
        tiled=float(rng.choice([0.0, 0.2, 0.5, 0.85])),
        sun=length * np.array([np.sin(azimuth), np.cos(azimuth)]),
        verge_m=float(rng.choice([0.0, 1.2, 2.2])),
        verge_rgb=np.clip((base + rng.uniform(-0.02, 0.2)) * warm, 0, 0.85),
        markings=float(rng.choice([0.0, rng.uniform(0.3, 1)])),
        traffic=rng.uniform(0.002, 0.02),
    )
