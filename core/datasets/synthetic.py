"""Synthetic towns: georeferenced aerial images with exact road and building truth, from a seed.

They serve tests, the demo, benchmarks and pretraining. Roofs come in the very greys of the streets; yards,
car parks and squares are paved but no roads; what cars, trees and shadows hide of a road is road in truth.
A network can learn from them what the structure of roads is, but not their colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from .synthetic_blocks import furnish_block
from .synthetic_canvas import Canvas
from .synthetic_layout import Bounds, Layout
from .synthetic_look import GRASS, SOIL, STYLES, Look
from .synthetic_noise import hash_lattice, value_noise
from .synthetic_sensor import JPEG_BLOCK_PX, REACH_PX, Sensor, draw_sensor
from .synthetic_shapes import Layer, Plan, Texture
from .synthetic_streets import draw_ribbon, draw_roundabout, draw_street

__all__ = ["STYLES", "Occluder", "Scene", "Town", "generate_scene", "write_scene", "write_town"]


class Occluder(IntEnum):
    """What hides a road from above."""

    NONE = 0
    CAR = 1
    TREE = 2
    SHADOW = 3


@dataclass(frozen=True)
class Scene:
    """A georeferenced image with its truth.

    Attributes:
        image: uint8 (h, w, 3), red, green, blue.
        road: bool (h, w), the pixels whose centre lies on a road's surface, also under cars, trees and
            shadows; without sidewalks, grassy medians, car parks, yards, driveways and foot paths.
        building: bool (h, w), the pixels whose centre lies in a footprint.
        occluded: uint8 (h, w), the `Occluder` of each road pixel, 0 elsewhere.
        gsd_m: Metres per pixel.
        transform: Pixel to map coordinates, in metres.
        crs: A UTM zone as "EPSG:326.." or "EPSG:327..".
    """

    image: NDArray[np.uint8]
    road: NDArray[np.bool_]
    building: NDArray[np.bool_]
    occluded: NDArray[np.uint8]
    gsd_m: float
    transform: Affine
    crs: str


def generate_scene(
    seed: int, size_px: int | tuple[int, int] = 512, gsd_m: float = 0.5, style: str = ""
) -> Scene:
    """Draw a scene.

    Args:
        seed: The same seed gives the same scene, 0 or more.
        size_px: Side, or (height, width).
        gsd_m: Metres per pixel.
        style: A key of `STYLES`; "" draws one from the seed.

    Raises:
        ValueError: The seed is negative, the style unknown, or the size or ground resolution not positive.
    """
    height, width = _sides(size_px)
    return Town(seed, style, gsd_m).render(0, 0, height, width)


class Town:
    """An endless town, any window of which can be drawn alone; windows agree on the pixels that they share.

    Args:
        seed: Which town, 0 or more.
        style: A key of `STYLES`; "" draws one from the seed.
        gsd_m: Metres per pixel.

    Attributes:
        transform: Pixel to map coordinates of the town's grid.
        crs: A UTM zone as "EPSG:…".

    Raises:
        ValueError: The seed is negative, the style unknown, or the ground resolution not positive.
    """

    def __init__(self, seed: int, style: str = "", gsd_m: float = 0.5) -> None:
        if seed < 0:
            raise ValueError(f"A town's seed cannot be {seed}; give 0 or more.")
        if style and style not in STYLES:
            raise ValueError(f"There is no town style {style!r}; choose one of {', '.join(STYLES)}.")
        if not gsd_m > 0:
            raise ValueError(
                f"A pixel cannot be {gsd_m} m wide on the ground; give metres per pixel above 0."
            )
        rng = np.random.default_rng([seed, 0])
        drawn = str(rng.choice(list(STYLES)))
        self.seed, self.style, self.gsd_m = seed, style or drawn, gsd_m
        self._layout = Layout(seed, self.style, gsd_m)
        self._sensor = draw_sensor(rng, self.brightness)
        self._exposure = 0
        hemisphere = 32600 if rng.random() < 0.7 else 32700
        self.crs = f"EPSG:{hemisphere + int(rng.integers(1, 61))}"
        east, north = np.round([rng.uniform(3e5, 7e5), rng.uniform(1e6, 6e6)])
        self.transform = Affine(gsd_m, 0.0, float(east), 0.0, -gsd_m, float(north))

    @property
    def look(self) -> Look:
        """Its colours and light."""
        return self._layout.look

    @property
    def brightness(self) -> float:
        """Of its brighter ground, 0 to 1."""
        return max(float(SOIL[self.look.biome].mean()), self.look.asphalt[1], 0.5)

    def photographed_again(self, look: Look, sensor: Sensor) -> Town:
        """The same streets, buildings and trees in other light and colours, seen by another sensor."""
        town = copy(self)
        town._layout, town._sensor = self._layout.in_light(look), sensor
        town._exposure = self._exposure + 1
        return town

    def render(self, row: int, col: int, height: int, width: int) -> Scene:
        """Draw a window.

        Memory and time grow with its area: about 0.1 s and 60 MB for 512 x 512 pixels.

        Args:
            row: First row on the town's pixel grid, any sign.
            col: First column.
            height: Rows.
            width: Columns.
        """
        window = window_around(row, col, height, width)
        plan = self.plan(window.bounds(self.gsd_m))
        painting = self.paint(window, plan)
        building = self.footprints(window, plan)
        road = _ROAD_LAYERS[painting.uncovered] & ~building
        shadow = self.shadows(window, plan)
        occluded = np.zeros(road.shape, np.uint8)
        occluded[road & shadow] = Occluder.SHADOW
        occluded[road & (painting.covered == Layer.CAR)] = Occluder.CAR
        occluded[road & (painting.covered == Layer.CROWN)] = Occluder.TREE
        image = self.photograph(window, painting, shadow)
        inside = window.part(row, col, height, width)
        return Scene(
            image=np.ascontiguousarray(image[inside]),
            road=np.ascontiguousarray(road[inside]),
            building=np.ascontiguousarray(building[inside]),
            occluded=np.ascontiguousarray(occluded[inside]),
            gsd_m=self.gsd_m,
            transform=self.transform @ Affine.translation(col, row),
            crs=self.crs,
        )

    def plan(self, bounds: Bounds) -> Plan:
        """Collect what can show within bounds: left, top, right, bottom in metres, y to the south."""
        plan, layout = Plan(), self._layout
        for cell in layout.cells(bounds):
            for block in cell.blocks:
                furnish_block(layout, block, plan)
            for ribbon in cell.ribbons:
                draw_ribbon(layout, ribbon, plan)
            obstacles = [ribbon.obstacle for ribbon in cell.ribbons]
            for street in cell.streets:
                draw_street(layout, street, obstacles, plan)
            for roundabout in cell.roundabouts:
                draw_roundabout(layout, roundabout, plan)
        return plan

    def paint(self, window: Extent, plan: Plan) -> Painting:
        """Paint all layers of a plan."""
        canvas = window.canvas()
        colours = [GRASS[self._layout.look.biome][:1]]
        textures, layers = [np.array([int(Texture.GRASS)])], [np.array([int(Layer.GROUND)])]
        stripes = [np.array([[0.0, 0.0, 1.0]])]
        count = 1  # label 0 is the open ground
        uncovered = canvas.labels
        for layer in Layer:
            shapes = plan.layers[layer]
            for kind, paint in ((shapes.polygons, canvas.paint_polygons), (shapes.discs, canvas.paint_discs)):
                if not kind:
                    continue
                outlines = np.concatenate([shape.outlines for shape in kind])
                paint(outlines / self.gsd_m, np.arange(count, count + len(outlines), dtype=np.int32))
                count += len(outlines)
                numbers = [len(shape.outlines) for shape in kind]
                colours += [shape.rgb for shape in kind]
                textures.append(np.repeat([int(shape.texture) for shape in kind], numbers))
                layers.append(np.full(len(outlines), int(layer)))
                stripes.append(np.repeat([shape.stripes for shape in kind], numbers, 0))
            if layer is Layer.ISLAND:
                uncovered = canvas.labels.copy()
        labels = canvas.labels
        surface = np.concatenate(colours).astype(np.float32)[labels]
        self._roughen(surface, np.concatenate(textures)[labels], window)
        _furrow(surface, np.concatenate(stripes).astype(np.float32), labels, window, self.gsd_m)
        layer_of = np.concatenate(layers).astype(np.uint8)
        return Painting(surface, layer_of[uncovered], layer_of[labels])

    def _roughen(self, surface: NDArray[np.float32], texture: NDArray[np.intp], window: Extent) -> None:
        """Vary the brightness of surfaces, and their tint between yellow and green, in place."""
        table = np.array([_ROUGHNESS[kind] for kind in Texture], np.float32)
        seed, size = self.seed * _NOISES, (window.row, window.col, window.height, window.width)
        total = hash_lattice(seed, *window.axes()) * table[texture, 0]
        for octave, wavelength_m in enumerate((3.0, 14.0, 90.0), 1):
            wave = value_noise(seed + octave, *size, max(wavelength_m / self.gsd_m, 2.0))
            total += wave * table[texture, octave]
        surface *= (1 + total)[..., None]
        tint = value_noise(seed + 4, *size, 14.0 / self.gsd_m) * table[texture, 4]
        surface[..., 0] *= 1 + tint
        surface[..., 2] *= 1 - tint

    def photograph(self, window: Extent, painting: Painting, shadow: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Expose a painting, which is overwritten: uint8 (h, w, 3)."""
        lit = ~shadow | _RAISED_LAYERS[painting.covered]
        seed = self.seed * _NOISES + 16 + 8 * self._exposure
        return self._sensor.expose(painting.surface, lit, window.row, window.col, seed)

    def shadows(self, window: Extent, plan: Plan) -> NDArray[np.bool_]:
        """Where the sun does not reach the ground: footprints and crowns, swept along the shadow."""
        canvas = window.canvas()
        sun = self._layout.look.sun
        if plan.buildings:
            feet = np.concatenate([part.footprints for part in plan.buildings])
            heights = np.concatenate([part.heights for part in plan.buildings])
            cast = (sun * np.minimum(heights, self._layout.look.tallest_m)[:, None])[:, None]
            after = np.roll(feet, -1, 1)
            swept = np.stack([feet, after, after + cast, feet + cast], 2).reshape(-1, 4, 2)
            canvas.paint_mask(np.concatenate([swept, feet + cast]) / self.gsd_m)
        if plan.trees:
            trees = np.concatenate(plan.trees)
            for share in (0.45, 0.8):
                centres = trees[:, :2] + sun * trees[:, 3:] * share
                discs = np.concatenate([centres, trees[:, 2:3] * 0.8], 1) / self.gsd_m
                canvas.paint_discs(discs, np.ones(len(discs), np.int32))
        return canvas.labels > 0

    def footprints(self, window: Extent, plan: Plan) -> NDArray[np.bool_]:
        """Which pixels lie in a building: bool (h, w)."""
        canvas = window.canvas()
        if plan.buildings:
            canvas.paint_mask(np.concatenate([part.footprints for part in plan.buildings]) / self.gsd_m)
        return canvas.labels > 0


def write_scene(scene: Scene, path: Path, *, truth: bool = False) -> None:
    """Write a scene as a tiled GeoTIFF.

    Args:
        scene: What to write.
        path: Of the image.
        truth: Also write `<stem>_roads.tif` and `<stem>_buildings.tif` beside it, 0 and 255.
    """
    height, width = scene.road.shape
    profile = _profile(height, width, scene.transform, scene.crs)
    with rasterio.open(path, "w", count=3, photometric="RGB", **profile) as file:
        file.write(np.moveaxis(scene.image, 2, 0))
    if truth:
        for name, mask in (("roads", scene.road), ("buildings", scene.building)):
            with rasterio.open(_beside(path, name), "w", count=1, **profile) as file:
                file.write(mask.astype(np.uint8) * 255, 1)


def write_town(
    path: Path,
    seed: int,
    size_px: int | tuple[int, int],
    gsd_m: float = 0.5,
    style: str = "",
    *,
    truth: bool = False,
    window_px: int = 1024,
) -> Iterator[tuple[int, int]]:
    """Write a town of any size as a tiled GeoTIFF; memory grows with the window alone.

    Args:
        path: Of the image; with `truth`, `<stem>_roads.tif` lies beside it.
        seed: Which town.
        size_px: Side, or (height, width).
        gsd_m: Metres per pixel.
        style: A key of `STYLES`; "" draws one from the seed.
        truth: Also write the road mask, 0 and 255.
        window_px: Side of the windows, best a multiple of 256.

    Yields:
        (windows done, windows in all).
    """
    height, width = _sides(size_px)
    town = Town(seed, style, gsd_m)
    profile = _profile(height, width, town.transform, town.crs)
    corners = [(row, col) for row in range(0, height, window_px) for col in range(0, width, window_px)]
    with ExitStack() as files:
        image = files.enter_context(rasterio.open(path, "w", count=3, photometric="RGB", **profile))
        mask = truth and files.enter_context(rasterio.open(_beside(path, "roads"), "w", count=1, **profile))
        for done, (row, col) in enumerate(corners, 1):
            rows, cols = min(window_px, height - row), min(window_px, width - col)
            scene = town.render(row, col, rows, cols)
            window = Window(col, row, cols, rows)
            image.write(np.moveaxis(scene.image, 2, 0), window=window)
            if mask:
                mask.write(scene.road.astype(np.uint8) * 255, 1, window=window)
            yield done, len(corners)


@dataclass(frozen=True)
class Extent:
    """A window of a town's pixel grid."""

    row: int
    col: int
    height: int
    width: int

    def bounds(self, gsd_m: float) -> Bounds:
        """Left, top, right, bottom in metres, y to the south."""
        right, bottom = self.col + self.width, self.row + self.height
        return self.col * gsd_m, self.row * gsd_m, right * gsd_m, bottom * gsd_m

    def part(self, row: int, col: int, height: int, width: int) -> tuple[slice, slice]:
        """The index of a window inside it."""
        top, left = row - self.row, col - self.col
        return np.s_[top : top + height, left : left + width]

    def canvas(self) -> Canvas:
        """An empty canvas of it."""
        return Canvas(self.row, self.col, self.height, self.width)

    def axes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of its rows and columns."""
        return np.arange(self.row, self.row + self.height), np.arange(self.col, self.col + self.width)


@dataclass(frozen=True)
class Painting:
    """A window of a town before light and sensor.

    Attributes:
        surface: float32 (h, w, 3) colours, 0 to 1.
        uncovered: uint8 (h, w), the top `Layer` before anything covers the roads.
        covered: uint8 (h, w), the top `Layer` in the end.
    """

    surface: NDArray[np.float32]
    uncovered: NDArray[np.uint8]
    covered: NDArray[np.uint8]


def window_around(row: int, col: int, height: int, width: int) -> Extent:
    """What must be drawn so that a window comes out true: blur and compression reach into it.

    Raises:
        ValueError: The window is empty.
    """
    if min(height, width) < 1:
        raise ValueError(f"A window of {width} x {height} pixels is not possible; give 1 or more.")
    block = JPEG_BLOCK_PX
    top, left = (row - REACH_PX) // block * block, (col - REACH_PX) // block * block
    bottom = -(-(row + height + REACH_PX) // block) * block
    right = -(-(col + width + REACH_PX) // block) * block
    return Extent(top, left, bottom - top, right - left)


def _furrow(
    surface: NDArray[np.float32],
    stripes: NDArray[np.float32],
    labels: NDArray[np.int32],
    window: Extent,
    gsd_m: float,
) -> None:
    """Draw the furrows of fields in place; `stripes` (n, 3) holds amplitude, angle, wavelength of labels."""
    row, col = np.nonzero((stripes[:, 0] > 0)[labels])
    amplitude, angle, wavelength = stripes[labels[row, col]].T
    across = (window.row + row) * np.cos(angle) - (window.col + col) * np.sin(angle)
    wave = 1 + amplitude * np.sin(across * (2 * np.pi * gsd_m) / wavelength)
    surface[row, col] *= wave.astype(np.float32)[:, None]


def _sides(size_px: int | tuple[int, int]) -> tuple[int, int]:
    return (size_px, size_px) if isinstance(size_px, int) else size_px


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}_{name}.tif")


def _profile(height: int, width: int, transform: Affine, crs: str) -> dict[str, object]:
    return {
        "driver": "GTiff",
        "dtype": "uint8",
        "height": height,
        "width": width,
        "transform": transform,
        "crs": crs,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
    }


_NOISES = 32  # seeds that one town sets aside for its noises

_ROAD_LAYERS = np.isin(np.array(Layer), [Layer.TRACK, Layer.STREET, Layer.AVENUE])
_RAISED_LAYERS = np.isin(np.array(Layer), [Layer.ROOF, Layer.ROOF_DETAIL, Layer.CROWN])

# Amplitudes of the brightness at one pixel, 3 m, 14 m and 90 m, and of the tint at 14 m.
_ROUGHNESS: dict[Texture, tuple[float, float, float, float, float]] = {
    Texture.SMOOTH: (0.02, 0.0, 0.0, 0.0, 0.0),
    Texture.PAVED: (0.035, 0.03, 0.04, 0.05, 0.0),
    Texture.WORN: (0.05, 0.08, 0.10, 0.06, 0.01),
    Texture.SOIL: (0.06, 0.08, 0.07, 0.09, 0.02),
    Texture.GRASS: (0.08, 0.12, 0.08, 0.11, 0.05),
    Texture.CANOPY: (0.16, 0.22, 0.08, 0.08, 0.03),
    Texture.WATER: (0.02, 0.04, 0.05, 0.12, 0.02),
    Texture.ROOF: (0.03, 0.04, 0.05, 0.0, 0.0),
    Texture.RUBBLE: (0.22, 0.16, 0.07, 0.0, 0.02),
}
