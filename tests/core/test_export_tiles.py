import math
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from shapely.geometry import LineString, Point, box

from aftermap.core.copy_tiles import copy_tiles
from aftermap.core.datasets.folders import IGNORE, read_tile
from aftermap.core.datasets.survey import survey_folder
from aftermap.core.errors import DatasetError, JobError, OutputError, RasterError, VectorError
from aftermap.core.export_training_tiles import export_training_tiles
from aftermap.core.jobs import CopyTiles, ExportTrainingTiles, Progress, Result, Warning

from .tile_files import half_road, write_placed_tile, write_tile

WEST, NORTH = 500_000.0, 4_000_000.0


def write_scene(path: Path, size=(200, 150), crs="EPSG:32637", transform=None, dtype="uint8", **more) -> Path:
    width, height = size
    transform = transform or from_origin(WEST, NORTH, 1, 1)
    values = np.random.default_rng(0).integers(20, 230, (3, height, width)).astype(dtype)
    profile = {"width": width, "height": height, "count": 3, "dtype": dtype, **more}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as out:
        out.write(values)
    return path


def write_layer(path: Path, shapes, crs="EPSG:32637", to="", **fields) -> Path:
    layer = geopandas.GeoDataFrame(fields, geometry=list(shapes), crs=crs)
    (layer.to_crs(to) if to else layer).to_file(path)
    return path


def export(tmp_path: Path, raster: Path, labels: Path, **options):
    """The values of an export, the tiles, and the warnings."""
    job = ExportTrainingTiles(
        str(raster), str(labels), str(tmp_path / "tiles"), **{"tile_px": 100, **options}
    )
    *events, result = export_training_tiles(job)
    assert isinstance(result, Result)
    *_, survey = survey_folder(tmp_path / "tiles", tmp_path / "cache")
    return result.values, survey, [e.message for e in events if isinstance(e, Warning)]


def mosaic(survey) -> np.ndarray:
    """The masks of 100 px tiles put together again, as labels."""
    found = np.full((300, 300), 77, np.uint8)
    for tile, _ in survey.usable:
        row, column = (int(part[1:]) * 100 for part in tile.stem.split("_")[-2:])
        labels = read_tile(tile, 1.0).labels[0]
        found[row : row + labels.shape[0], column : column + labels.shape[1]] = labels
    return found


@pytest.mark.parametrize("image_format", ["tif", "jpg", "png"])
@pytest.mark.parametrize("to", ["", "EPSG:4326"])
def test_polygons_become_masks_in_their_place(tmp_path: Path, image_format: str, to: str):
    raster = write_scene(tmp_path / "scene.tif")
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST + 20, NORTH - 130, WEST + 180, NORTH - 90)], to=to)
    values, survey, _ = export(tmp_path, raster, layer, image_format=image_format)
    truth = np.zeros((150, 200), np.uint8)
    truth[90:130, 20:180] = 1
    assert (mosaic(survey)[:150, :200] != truth).mean() < (0.002 if to else 1e-9)
    assert (values["tiles"], values["skipped"]) == (4, 0)
    assert values["class_share"] == pytest.approx(truth.mean(), rel=0.01)
    for tile, record in survey.usable:
        assert tile.image.suffix == f".{image_format}"
        assert record.gsd_m == pytest.approx(1.0, abs=1e-3)
        with (
            rasterio.open(tile.image) as image,
            rasterio.open(tile.mask) as mask,
            rasterio.open(raster) as scene,
        ):
            assert image.crs == mask.crs == scene.crs
            assert image.transform.almost_equals(mask.transform)
            row, column = scene.index(image.transform.c + 0.5, image.transform.f - 0.5)
            assert (row % 100, column % 100) == (0, 0)
            window = ((row, row + image.height), (column, column + image.width))
            difference = np.abs(image.read().astype(int) - scene.read(window=window))
            assert difference.max() == 0 or image_format == "jpg"
    assert not list(tmp_path.glob(".*"))  # nothing is left of the staging


@pytest.mark.parametrize(
    ("crs", "west", "north", "pixel"),
    [
        ("EPSG:32637", WEST, NORTH, (1.0, 1.0)),
        ("EPSG:3857", 1_113_195.0, 8_399_738.0, (2.0, 2.0)),  # 60 degrees north: a metre of it is half one
        ("EPSG:4326", 10.0, 60.0, (1.8e-5, 0.9e-5)),  # about a metre each way
    ],
)
def test_lines_are_as_wide_as_they_are_on_the_ground(tmp_path: Path, crs, west, north, pixel):
    transform = from_origin(west, north, *pixel)
    raster = write_scene(tmp_path / "scene.tif", size=(200, 200), crs=crs, transform=transform)
    ends = [transform * p for p in ((-50, 100), (250, 100))]
    layer = write_layer(tmp_path / "roads.gpkg", [LineString(ends)], crs=crs, width=[20.0])
    _, survey, _ = export(tmp_path, raster, layer, width_field="width")
    rows = (mosaic(survey)[:200, :200] == 1).sum(axis=0)
    height_m = math.sqrt(np.mean([r.gsd_m**2 for _, r in survey.usable]))
    assert rows.min() * height_m == pytest.approx(20, abs=1.2)
    assert rows.max() * height_m == pytest.approx(20, abs=1.2)


def test_a_missing_width_is_the_stated_one_and_said(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif")
    lines = [LineString([(WEST - 9, NORTH - y), (WEST + 209, NORTH - y)]) for y in (20, 50, 80, 120)]
    layer = write_layer(tmp_path / "roads.gpkg", lines, wide=["6", "8.0 m", None, "broad"])
    _, survey, warnings = export(tmp_path, raster, layer, width_field="wide", width_m=12.0)
    column = mosaic(survey)[:150, 100] == 1
    assert [column[y - 10 : y + 10].sum() for y in (20, 50, 80, 120)] == [6, 8, 12, 12]
    assert warnings == ["2 of 4 features have no width in 'wide': lines among them are drawn 12 m wide."]


def test_outside_of_the_area_is_unlabelled_and_not_background(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif")
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 10, WEST + 200, NORTH)])
    area = write_layer(tmp_path / "area.gpkg", [box(WEST, NORTH - 50, WEST + 90, NORTH)], to="EPSG:4326")
    values, survey, _ = export(tmp_path, raster, layer, area=str(area))
    truth = np.full((100, 100), IGNORE)
    truth[:50, :90] = 0
    truth[:10, :90] = 1
    assert (mosaic(survey)[:100, :100] != truth).mean() < 0.01
    assert (values["tiles"], values["skipped"]) == (1, 3)
    assert values["class_share"] == pytest.approx(0.2, abs=0.01)


def test_unlabelled_ground_is_understood_where_no_road_is(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif", size=(100, 100))
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 100, WEST + 100, NORTH - 90)])
    area = write_layer(tmp_path / "area.gpkg", [box(WEST, NORTH - 50, WEST + 100, NORTH)])
    _, survey, warnings = export(tmp_path, raster, layer, area=str(area), image_format="png")
    labels = mosaic(survey)[:100, :100]
    assert (labels[:50] == 0).all()
    assert (labels[50:] == IGNORE).all()
    assert "All tiles are background" in warnings[0]


@pytest.mark.parametrize("image_format", ["tif", "jpg", "png"])
def test_nodata_is_unlabelled_and_empty_tiles_are_skipped(tmp_path: Path, image_format: str):
    raster = write_scene(tmp_path / "scene.tif", nodata=0)
    with rasterio.open(raster, "r+") as scene:
        values = scene.read()
        values[:, :, 100:] = 0
        values[:, 60:100, :50] = 0
        scene.write(values)
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 150, WEST + 200, NORTH)])
    values, survey, _ = export(tmp_path, raster, layer, image_format=image_format)
    assert (values["tiles"], values["skipped"], values["class_share"]) == (2, 2, 1.0)
    labels = mosaic(survey)[:100, :100]
    assert (labels[60:, :50] == IGNORE).all()
    assert (labels[:60] == 1).all()


def test_sixteen_bits_are_stretched_over_the_whole_raster(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif", dtype="uint16")
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 150, WEST + 200, NORTH)])
    _, survey, _ = export(tmp_path, raster, layer)
    with rasterio.open(survey.content.tiles[0].image) as image:
        assert image.dtypes[0] == "uint8"
        assert image.read().min() < 5
        assert image.read().max() > 250


def test_a_raster_without_crs_takes_a_layer_without_crs(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif", crs=None, transform=rasterio.Affine.identity())
    # in pixels, rows going down, which is where QGIS shows such a raster
    layer = write_layer(tmp_path / "roads.gpkg", [LineString([(-20, -40), (220, -40)])], crs=None)
    _, survey, _ = export(tmp_path, raster, layer, gsd_m=0.5, width_m=10.0)
    assert (mosaic(survey)[:100, 50] == 1).nonzero()[0].tolist() == list(range(30, 50))


def test_only_tiles_with_enough_of_the_class(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif")
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 50, WEST + 100, NORTH)])
    values, survey, _ = export(tmp_path, raster, layer, min_share=0.2)
    assert [t.stem for t in survey.content.tiles] == ["scene_r000_c000"]
    assert (values["tiles"], values["below_min_share"]) == (1, 3)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"labels": "missing.gpkg"}, VectorError, "There is no file missing.gpkg"),
        ({"labels": "points.gpkg"}, VectorError, "no lines and no polygons on the raster"),
        ({"labels": "far.gpkg"}, VectorError, "no lines and no polygons on the raster"),
        ({"labels": "scene.tif"}, VectorError, "scene.tif cannot be read"),
        ({"labels": "placeless.gpkg"}, VectorError, "has no CRS"),
        ({"labels_layer": "rivers"}, VectorError, "layer 'rivers' of roads.gpkg cannot be read"),
        ({"width_field": "breadth"}, VectorError, "no field 'breadth'; it has kind"),
        ({"area": "far.gpkg"}, VectorError, "touches the raster"),
        ({"raster": "missing.tif"}, RasterError, "There is no file missing.tif"),
        ({"tile_px": 16}, JobError, "Tiles of 16 px"),
        ({"width_m": 0.0}, JobError, "must be positive"),
        ({"image_format": "gif"}, JobError, "no image format 'gif'"),
        ({"bands": (1, 2), "image_format": "jpg"}, JobError, "2 bands do not go into jpg"),
        ({"min_share": 0.9}, DatasetError, "has 90% of the class"),
        ({"folder": "full"}, JobError, "holds tiles"),
        ({"folder": "roads.gpkg"}, JobError, "is a file"),
        ({"folder": "roads.gpkg/inside"}, OutputError, "cannot be written to"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes, error, sentence
):
    monkeypatch.chdir(tmp_path)
    write_scene(Path("scene.tif"))
    write_layer(Path("roads.gpkg"), [box(WEST, NORTH - 10, WEST + 200, NORTH)], kind=["road"])
    write_layer(Path("points.gpkg"), [Point(WEST + 5, NORTH - 5)])
    write_layer(Path("far.gpkg"), [box(0, 0, 1, 1)], crs="EPSG:4326")
    write_layer(Path("placeless.gpkg"), [box(0, 0, 1, 1)], crs=None)
    write_tile(Path("full"), "t")
    before = sorted(tmp_path.rglob("*"))
    job = ExportTrainingTiles(**{"raster": "scene.tif", "labels": "roads.gpkg", "folder": "tiles", **changes})
    with pytest.raises(error, match=sentence):
        list(export_training_tiles(job))
    assert [p for p in sorted(tmp_path.rglob("*")) if p.suffix not in (".gpkg-wal", ".gpkg-shm")] == before


def test_a_cancelled_export_leaves_nothing(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif")
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 150, WEST + 200, NORTH)])
    events = export_training_tiles(
        ExportTrainingTiles(str(raster), str(layer), str(tmp_path / "tiles"), tile_px=64)
    )
    while not str(next(events)).count("tile 3"):
        pass
    assert (tmp_path / ".tiles.part").is_dir()
    events.close()
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", "roads.gpkg"}


def test_what_a_killed_export_left_is_replaced(tmp_path: Path):
    raster = write_scene(tmp_path / "scene.tif")
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 150, WEST + 200, NORTH)])
    write_tile(tmp_path / ".tiles.part", "half")
    assert export(tmp_path, raster, layer)[0]["tiles"] == 4
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", "roads.gpkg", "tiles", "cache"}


def test_an_empty_folder_and_foreign_files_in_it_are_taken(tmp_path: Path):
    (tmp_path / "tiles" / "images").mkdir(parents=True)
    (tmp_path / "tiles" / "notes.txt").write_text("kept")
    raster = write_scene(tmp_path / "scene.tif")
    layer = write_layer(tmp_path / "roads.gpkg", [box(WEST, NORTH - 150, WEST + 200, NORTH)])
    export(tmp_path, raster, layer)
    assert {p.name for p in (tmp_path / "tiles").iterdir()} == {"images", "masks", "notes.txt"}


# ---------------------------------------------------------------------------------------------- copy


def copy(tmp_path: Path, *folders: Path, **options):
    """The values of a copy, the survey of the folder that it made, and all events."""
    job = CopyTiles(
        tuple(map(str, folders)), str(tmp_path / "copy"), cache=str(tmp_path / "cache"), **options
    )
    *events, result = copy_tiles(job)
    *_, survey = survey_folder(tmp_path / "copy", tmp_path / "cache")
    return result.values, survey, events


@pytest.mark.parametrize("image_format", ["tif", "jpg", "png"])
def test_copies_hold_the_same_labels_and_place(tmp_path: Path, image_format: str):
    for i in range(3):
        write_placed_tile(tmp_path / "town", f"t{i}", WEST + 32 * i, NORTH)
    (tmp_path / "town" / "building_masks").mkdir()
    (tmp_path / "town" / "occlusion_masks").mkdir()
    Image.fromarray(half_road(share=0.75, value=1)).save(tmp_path / "town" / "building_masks" / "t1.png")
    Image.fromarray(half_road(value=3)).save(tmp_path / "town" / "occlusion_masks" / "t1.png")
    values, survey, events = copy(tmp_path, tmp_path / "town", image_format=image_format)
    *_, source = survey_folder(tmp_path / "town", tmp_path / "cache")
    assert values["tiles"] == 3
    assert values["bytes_after"] > 0 < values["bytes_before"]
    for (made, record), (tile, original) in zip(survey.usable, source.usable, strict=True):
        assert made.stem == tile.stem
        assert record.class_share == original.class_share
        assert record.gsd_m == pytest.approx(original.gsd_m)
        np.testing.assert_allclose(record.footprint, original.footprint, atol=1e-8)
        ours, theirs = read_tile(made, 1.0), read_tile(tile, 1.0)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        if image_format != "jpg":
            np.testing.assert_array_equal(ours.image, theirs.image)
    assert survey.usable[1][1].building_share == 0.75
    assert survey.content.tiles[1].occlusion_mask is not None
    assert all(0 <= e.fraction <= 1 for e in events if isinstance(e, Progress))


def test_a_jpeg_is_copied_as_it_is(tmp_path: Path):
    write_tile(tmp_path / "town", "t")
    Image.open(tmp_path / "town" / "images" / "t.png").save(
        tmp_path / "town" / "images" / "t.jpg", quality=40
    )
    (tmp_path / "town" / "images" / "t.png").unlink()
    (tmp_path / "town" / "images" / "t.jgw").write_text("1\n0\n0\n-1\n500000\n4000000\n")
    copy(tmp_path, tmp_path / "town", image_format="jpg")
    for name in ("t.jpg", "t.jgw"):
        original, made = (tmp_path / f / "images" / name for f in ("town", "copy"))
        assert made.read_bytes() == original.read_bytes()


def test_masks_of_any_coding_come_out_in_one(tmp_path: Path):
    mask = np.zeros((32, 32, 3), np.uint8)
    mask[:8], mask[8:16] = (255, 255, 0), (0, 255, 0)
    for i in range(3):
        write_tile(tmp_path / "town", f"t{i}", mask)
    _, survey, _ = copy(tmp_path, tmp_path / "town", mask_value="#ffff00", image_format="png")
    assert [r.class_share for r in survey.records] == [0.25] * 3


def test_only_the_selected_tiles_of_all_folders_are_copied(tmp_path: Path):
    for town in ("north", "south"):
        for i in range(3):
            write_tile(tmp_path / town, f"t{i}", half_road(share=0.25 * i))
    (tmp_path / "south" / "masks" / "t2.png").write_bytes(b"broken")
    values, survey, events = copy(tmp_path, tmp_path / "north", tmp_path / "south", min_share=0.2)
    assert [t.stem for t in survey.content.tiles] == ["north_t1", "north_t2", "south_t1"]
    assert values["tiles"] == 3
    assert any("t2.png" in e.message for e in events if isinstance(e, Warning))


def test_a_copy_is_whole_or_not_at_all(tmp_path: Path):
    for i in range(3):
        write_tile(tmp_path / "town", f"t{i}")
    job = CopyTiles((str(tmp_path / "town"),), str(tmp_path / "copy"), cache=str(tmp_path / "cache"))
    events = copy_tiles(job)
    while "Writing" not in next(events).message:
        pass
    events.close()
    assert {p.name for p in tmp_path.iterdir()} == {"town", "cache"}
    list(copy_tiles(job))
    with pytest.raises(JobError, match="holds tiles"):
        list(copy_tiles(job))
    with pytest.raises(DatasetError, match="No tile has 90% of the class"):
        copy(tmp_path / "x", tmp_path / "town", min_share=0.9)
    with pytest.raises(JobError, match="makes no sense"):
        copy(tmp_path / "x", tmp_path / "town", min_share=2.0)
