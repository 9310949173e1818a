"""Generated towns before and after an event: exact levels, what changes and what does not, xBD's layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.features import rasterize
from rasterio.warp import transform, transform_geom
from scipy import ndimage

from aftermap.core.datasets.synthetic import generate_scene
from aftermap.core.datasets.synthetic_damage import DamagedTown, generate_pair
from aftermap.core.datasets.synthetic_incident import draw_incident
from aftermap.core.datasets.synthetic_litter import Litter
from aftermap.core.datasets.synthetic_noise import hash_numbers
from aftermap.core.datasets.synthetic_ruins import HAZARDS
from aftermap.core.datasets.synthetic_sensor import Sensor
from aftermap.core.datasets.xbd import (
    Damage,
    find_scenes,
    fit_georeference,
    read_buildings,
    read_labels,
    read_target,
)
from aftermap.core.errors import JobError
from aftermap.core.generate_scenes import generate_scenes
from aftermap.core.jobs import GenerateScenes, Result

ARRAYS = ("pre", "post", "damage")


def test_a_seed_fixes_the_pair() -> None:
    one, same, other = (generate_pair(seed, 160, style="grid", share=0.4) for seed in (3, 3, 4))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert one.buildings == same.buildings
    assert (one.post != other.post).any()


@pytest.mark.parametrize("hazard", HAZARDS)
def test_windows_of_a_town_agree_on_shared_pixels(hazard: str) -> None:
    town = DamagedTown(11, "suburb", 0.5, share=0.5, hazard=hazard)
    whole, part = town.render(-70, 33, 260, 240), town.render(-13, 90, 120, 140)
    for name in ARRAYS:
        expected = getattr(whole, name)[57:177, 57:197]
        np.testing.assert_array_equal(getattr(part, name), expected, err_msg=name)


@pytest.mark.parametrize(
    ("seed", "style", "pixels", "brightness"),
    [
        (0, "suburb", (1040, 943, 1868), 144.447),
        (1, "old_town", (3618, 2854, 1764), 118.624),
        (2, "desert", (3279, 586, 473), 150.473),
    ],
)
def test_scenes_without_an_event_are_what_they_always_were(
    seed: int, style: str, pixels: tuple[int, int, int], brightness: float
) -> None:
    scene = generate_scene(seed, 96, 0.5, style)
    counts = (scene.road.sum(), scene.building.sum(), scene.occluded.sum())
    # A few pixels and not none: another CPU may round an edge the other way.
    assert counts == pytest.approx(pixels, abs=3)
    assert scene.image.mean() == pytest.approx(brightness, abs=0.05)


def test_a_level_for_each_building_and_each_level_somewhere() -> None:
    counts = np.zeros(5, int)
    for seed in range(8):
        pair = generate_pair(seed, 256, 0.5, "grid", share=0.5, hazard="earthquake")
        assert set(np.unique(pair.damage)) == {0, *(building.damage for building in pair.buildings)}
        counts += np.bincount([building.damage for building in pair.buildings], minlength=5)
    struck = counts[2:] / counts[1:].sum()
    assert 0.3 < struck.sum() < 0.7
    assert (struck > 0.05).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_the_share_of_damaged_buildings_is_that_of_the_town(share: float) -> None:
    levels = [
        building.damage
        for seed in range(8 if 0 < share < 1 else 1)
        for building in generate_pair(seed, 160, 1.0, "grid", share=share, hazard="earthquake").buildings
    ]
    struck = np.mean(np.array(levels) > Damage.NO_DAMAGE)
    assert struck == share if share in (0, 1) else share / 2.5 < struck < share * 2


def test_most_towns_have_little_damage_and_some_have_much() -> None:
    shares = np.array([draw_incident(np.random.default_rng(seed)).share for seed in range(400)])
    assert np.mean((shares >= 0.01) & (shares <= 0.05)) > 0.3
    assert (shares == 0).any()
    assert 0.5 < shares.max() <= 0.6


def test_damage_comes_in_clusters() -> None:
    def likeness(clustering: float) -> float:
        """How much likelier a damaged building's nearest neighbour is damaged than any other building."""
        alike, struck = [], []
        for seed in range(5):
            town = DamagedTown(seed, "suburb", 1.0, share=0.3, hazard="earthquake")
            town.incident = replace(town.incident, clustering=clustering)
            buildings = town.render(0, 0, 256, 256).buildings
            spots = np.array([building.outline.centroid.coords[0] for building in buildings])
            damaged = np.array([building.damage > Damage.NO_DAMAGE for building in buildings])
            gaps = np.hypot(*(spots[:, None] - spots).transpose(2, 0, 1))
            np.fill_diagonal(gaps, np.inf)
            alike.append(damaged[gaps.argmin(1)][damaged])
            struck.append(damaged)
        return float(np.concatenate(alike).mean() / np.concatenate(struck).mean())

    assert likeness(0.9) > 1.3
    assert likeness(0.0) < 1.3


class _StillTown(DamagedTown):
    """A town between whose pictures nothing happens but damage: same light, same sensor, same angle."""

    def __init__(self, seed: int, hazard: str) -> None:
        super().__init__(seed, "grid", 0.5, share=0.5, hazard=hazard)
        self.incident = replace(
            self.incident,
            leans=np.zeros((2, 2)),
            shift_px=np.zeros(2),
            painted=(0.0, 0.0),
            litters=(Litter(), Litter()),
            dust=0.0,
            felled=(0.0, 0.0),
        )
        one = np.ones(3, np.float32)
        plain = Sensor(one, one * 0.35, 1.0, 0.0, one, 0.0, 1.0, 0.5, 0.0, 0.002, 0)
        self.before = self.before.photographed_again(self.before.look, plain)
        self.after = self.before.photographed_again(self.before.look, plain)


@pytest.mark.parametrize("hazard", HAZARDS)
def test_what_changes_grows_with_the_level_and_the_rest_stays(hazard: str) -> None:
    change: dict[int, list[float]] = {level: [] for level in Damage}
    for seed in range(6):
        pair = _StillTown(seed, hazard).render(0, 0, 256, 256)
        differs = np.abs(pair.post.astype(int) - pair.pre).max(2) > 25
        outlines = [(building.outline, place) for place, building in enumerate(pair.buildings, 1)]
        for place, (_, building) in enumerate(zip(outlines, pair.buildings, strict=True), 1):
            inside = ndimage.binary_erosion(rasterize([outlines[place - 1]], differs.shape) > 0, iterations=2)
            if inside.sum() > 60:
                change[building.damage].append(float(differs[inside].mean()))
    typical = {level: float(np.median(shares)) for level, shares in change.items() if len(shares) > 2}
    assert typical[Damage.NO_DAMAGE] < 0.02
    assert typical[Damage.DESTROYED] > 0.5
    assert min(change[Damage.DESTROYED]) > 0.15
    if hazard != "fire":
        assert typical[Damage.NO_DAMAGE] < typical[Damage.MINOR] < typical[Damage.MAJOR]
        assert typical[Damage.MAJOR] < typical[Damage.DESTROYED]


def test_rubble_spills_over_the_footprint() -> None:
    spilled = 0
    for seed in range(4):
        pair = _StillTown(seed, "earthquake").render(0, 0, 256, 256)
        differs = np.abs(pair.post.astype(int) - pair.pre).max(2) > 40
        near = ndimage.binary_dilation(pair.damage == Damage.DESTROYED, iterations=6) & (pair.damage == 0)
        spilled += int((differs & near).sum())
    assert spilled > 2000


def test_light_and_season_change_where_nothing_happened() -> None:
    changes = []
    for seed in range(6):
        pair = generate_pair(seed, 128, share=0.0)
        assert set(np.unique(pair.damage)) <= {0, Damage.NO_DAMAGE}
        changes.append(np.abs(pair.post.astype(int) - pair.pre).mean())
    assert np.median(changes) > 10


def test_the_colour_of_a_building_does_not_tell_its_damage() -> None:
    colours: list[np.ndarray] = []
    destroyed: list[bool] = []
    for seed in range(300, 310):
        pair = generate_pair(seed, 256, share=0.5, hazard="earthquake")
        for building in pair.buildings:
            inside = rasterize([(building.outline, 1)], pair.damage.shape) > 0
            if building.damage in (Damage.NO_DAMAGE, Damage.DESTROYED) and inside.sum() > 40:
                colours.append(pair.post[inside].mean(0))
                destroyed.append(building.damage is Damage.DESTROYED)
    values, is_destroyed = np.array(colours), np.array(destroyed)
    assert is_destroyed.sum() > 40
    for feature in (
        values.mean(1),
        values[:, 0] - values[:, 2],
        values[:, 1] - values.mean(1),
        np.ptp(values, 1),
    ):
        ranks = np.argsort(np.argsort(feature)) + 1
        ones, zeros = is_destroyed.sum(), (~is_destroyed).sum()
        auc = (ranks[is_destroyed].sum() - ones * (ones + 1) / 2) / (ones * zeros)
        assert 0.25 < auc < 0.75


def test_outlines_and_levels_are_one() -> None:
    pair = generate_pair(5, (200, 260), 0.5, "suburb", share=0.5)
    shapes = [(building.outline, int(building.damage)) for building in pair.buildings]
    np.testing.assert_array_equal(rasterize(shapes, pair.damage.shape, dtype="uint8"), pair.damage)
    assert len({building.id for building in pair.buildings}) == len(pair.buildings)


def test_a_house_and_its_wing_share_their_fate() -> None:
    pair = generate_pair(1, 400, 0.5, "suburb", share=0.5)
    corners = [len(building.outline.convex_hull.exterior.coords) for building in pair.buildings]
    assert max(corners) > 5  # an L, not two rectangles


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hazard": "boredom"}, "boredom"),
        ({"share": 1.5}, "0 to 1"),
        ({"style": "atlantis"}, "atlantis"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        generate_pair(**{"seed": 1, "size_px": 32, **arguments})  # type: ignore[arg-type]


def test_chance_by_number_is_even_and_fixed() -> None:
    values = hash_numbers(3, np.arange(20000))
    np.testing.assert_array_equal(values[500:700], hash_numbers(3, np.arange(500, 700)))
    counts, _ = np.histogram(values, 20, (0, 1))
    assert counts.min() > 800
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(values, hash_numbers(4, np.arange(20000)))[0, 1]) < 0.03


# ---------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damaged")
    job = GenerateScenes(
        str(path), count=2, seed=7, size_px=200, gsd_m=0.5, style="suburb", damage=True, damage_share=0.5
    )
    *_, result = generate_scenes(job)
    assert isinstance(result, Result)
    assert result.values == {"scenes": 2}
    return path


def test_the_folder_is_read_as_xbd(folder: Path) -> None:
    scenes, alone = find_scenes(folder)
    assert alone == []
    assert len({scene.event for scene in scenes}) == len(scenes) == 2
    for scene in scenes:
        labels = read_labels(scene, 200, 200)
        assert scene.targets[0] is not None
        assert scene.targets[1] is not None
        np.testing.assert_array_equal(labels.damage, read_target(scene.targets[1], 200, 200))
        np.testing.assert_array_equal(labels.building, read_target(scene.targets[0], 200, 200))
        np.testing.assert_array_equal(labels.building, labels.damage > 0)
        assert len(np.unique(labels.damage)) > 2


def test_labels_have_the_fields_of_xbd(folder: Path) -> None:
    scene = find_scenes(folder)[0][0]
    for when, path in zip(("pre", "post"), scene.labels, strict=True):
        assert path is not None
        body = json.loads(path.read_text())
        assert body["metadata"]["img_name"] == f"{scene.stem}_{when}_disaster.png"
        for name in ("xy", "lng_lat"):
            for feature in body["features"][name]:
                assert feature["wkt"].startswith("POLYGON ((")
                assert ("subtype" in feature["properties"]) == (when == "post")
    assert scene.labels[0] is not None
    assert scene.labels[1] is not None
    before, after = read_buildings(scene.labels[0]), read_buildings(scene.labels[1])
    assert [building.uid for building in before] == [building.uid for building in after]
    assert len({building.uid for building in before}) == len(before)


def test_the_place_on_earth_is_in_the_labels_and_the_rasters(folder: Path) -> None:
    scene = find_scenes(folder)[0][0]
    assert scene.labels[1] is not None
    affine, residual_px = fit_georeference(read_buildings(scene.labels[1]))
    assert residual_px < 0.1
    town = folder / "scenes" / scene.stem
    for name in ("pre", "post"):
        with rasterio.open(town / f"{name}.tif") as file:
            pixels, grid, crs = file.read(), file.transform, file.crs
        image = folder / "images" / f"{scene.stem}_{name}_disaster.png"
        np.testing.assert_array_equal(np.moveaxis(pixels, 0, 2), np.asarray(Image.open(image)))
        assert crs.is_projected
        x, y = transform("EPSG:4326", crs, *([value] for value in affine @ (100, 100)))
        assert (x[0], y[0]) == pytest.approx(grid @ (100, 100), abs=0.1)
    footprints = json.loads((town / "footprints.geojson").read_text())["features"]
    shapes = [
        (transform_geom("EPSG:4326", crs, feature["geometry"]), feature["properties"]["truth"])
        for feature in footprints
    ]
    burnt = rasterize(shapes, (200, 200), transform=grid, dtype="uint8")
    assert scene.targets[1] is not None
    assert (burnt != read_target(scene.targets[1], 200, 200)).mean() < 0.002


def test_equal_jobs_give_equal_files(folder: Path, tmp_path: Path) -> None:
    job = GenerateScenes(
        str(tmp_path), count=1, seed=7, size_px=200, gsd_m=0.5, style="suburb", damage=True, damage_share=0.5
    )
    list(generate_scenes(job))
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == 9
    for path in written:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes(), path


@pytest.mark.parametrize(
    "changes",
    [
        {"damage": True, "damage_share": 2.0},
        {"damage": True, "hazard": "boredom"},
        {"damage_share": 0.2},
        {"hazard": "fire"},
    ],
)
def test_jobs_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(JobError):
        list(generate_scenes(GenerateScenes(str(tmp_path / "scenes"), **changes)))  # type: ignore[arg-type]
    assert not (tmp_path / "scenes").exists()
