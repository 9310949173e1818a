"""What happens to a synthetic town between two pictures, and how the second one is taken."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from .synthetic_litter import Litter
from .synthetic_look import Look, pick
from .synthetic_shapes import Points


@dataclass(frozen=True)
class Incident:
    """What happens to a town between its two pictures.

    Attributes:
        hazard: A key of `HAZARDS`.
        share: Of buildings that are damaged, 0 to 1.
        clustering: How much of a building's fate it shares with its neighbours, 0 to 1.
        leans: (2, 2) displacement in the pictures before and after, in metres for a metre of height.
        shift_px: (2,) rows and columns by which the second picture is off.
        cluttered: Share of roofs with things on them.
        painted: Shares of roofs that are painted: always, and anew between the dates.
        litters: What lies on open ground, before and after.
        dust: How thick it lies around rubble, 0 to 1.
        felled: Share of trees that are gone between the dates, and within damage by a storm.
    """

    hazard: str
    share: float
    clustering: float
    leans: Points
    shift_px: Points
    cluttered: float
    painted: tuple[float, float]
    litters: tuple[Litter, Litter]
    dust: float
    felled: tuple[float, float]


def draw_incident(rng: Generator, share: float | None = None, hazard: str = "") -> Incident:
    """Draw what happens between two pictures; `share` and `hazard` as in `generate_pair`."""
    drawn = pick(_HAZARDS, rng)
    kind = int(rng.choice(4, p=[0.08, 0.42, 0.28, 0.22]))
    shares = (
        0.0,
        np.exp(rng.uniform(np.log(0.01), np.log(0.05))),
        rng.uniform(0.05, 0.2),
        rng.uniform(0.2, 0.6),
    )
    struck = float(shares[kind]) if share is None else share
    hazard = hazard or drawn
    angle = rng.uniform(0, 2 * np.pi, 2)
    reach = np.array(
        [rng.uniform(0, 0.15) * (rng.random() < 0.5), rng.uniform(0, 0.38) * (rng.random() < 0.8)]
    )
    heaps, junk, shells = rng.uniform(0, 0.12), rng.uniform(0, 0.2) * rng.random(), rng.uniform(0, 0.02)
    always = Litter(heaps, junk, shells, tents=0.03 * float(rng.random() < 0.15))
    relief = rng.random() * min(1.0, 4 * struck)
    after = replace(
        always,
        junk=junk * rng.uniform(0.5, 2),
        heaps=heaps * rng.uniform(0.6, 1.6),
        tents=0.05 * float(rng.random() < 0.3) + 0.12 * relief,
        camps=0.05 * relief,
    )
    return Incident(
        hazard=hazard,
        share=struck,
        clustering=rng.uniform(0.75, 0.95) if hazard == "fire" else rng.uniform(0.25, 0.8),
        leans=reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1),
        shift_px=rng.normal(0, rng.choice([0.5, 1.5, 3.0]), 2),
        cluttered=float(rng.choice([0.0, 0.3, 0.8])),
        painted=(float(rng.choice([0.0, 0.1, 0.35])), float(rng.choice([0.0, 0.02, 0.06]))),
        litters=(always, after),
        dust=rng.uniform(0.2, 0.9) * (rng.random() < 0.7),
        felled=(float(rng.uniform(0, 0.1)), float(rng.uniform(0.3, 0.9))),
    )


def draw_another_day(look: Look, rng: Generator) -> Look:
    """Draw the light and the season of the second picture."""
    before = float(np.arctan2(*look.sun))
    azimuth = before + rng.normal(0, 0.5) if rng.random() < 0.8 else rng.uniform(0, 2 * np.pi)
    elevation = np.degrees(np.arctan(1 / np.hypot(*look.sun))) + rng.normal(0, 12)
    length = 1 / np.tan(np.radians(np.clip(elevation, 22, 75)))
    seasons = ["temperate", "winter", "mediterranean", "tropical"]
    biome = str(rng.choice(seasons)) if look.biome in seasons and rng.random() < 0.4 else look.biome
    return replace(look, biome=biome, sun=length * np.array([np.sin(azimuth), np.cos(azimuth)]))


_HAZARDS = {"earthquake": 7.0, "storm": 1.5, "fire": 1.5}
