import json
from pathlib import Path

import pytest
from PIL import Image

from aftermap.core.errors import AftermapError, DatasetError, JobError
from aftermap.core.jobs import Progress, Result, ScanTiles, Warning, to_json
from aftermap.core.scan_tiles import scan_tiles

from .tile_files import half_road, write_placed_tile, write_tile


def scan(*folders: Path, **options):
    """The result of a scan, its tiles, and the other events."""
    *events, result = scan_tiles(
        ScanTiles(tuple(map(str, folders)), cache=str(folders[0].parent / "cache"), **options)
    )
    assert isinstance(result, Result)
    to_json(result)
    return result.values, json.loads(Path(result.outputs["tiles"]).read_text(encoding="utf-8")), events


def test_a_scan_says_what_is_there(tmp_path: Path):
    for i in range(4):
        write_tile(tmp_path / "town", f"t{i}", half_road(share=0.25 * i))
    (tmp_path / "town" / "building_masks").mkdir()
    Image.fromarray(half_road(share=0.5)).save(tmp_path / "town" / "building_masks" / "t0.png")
    for i in range(2):
        write_placed_tile(tmp_path / "city", f"c{i}", 5e5, 4e6 + 100 * i, gsd=0.5)
    values, tiles, events = scan(tmp_path / "town", tmp_path / "city")
    assert values["folders"][0] == {
        "folder": str(tmp_path / "town"),
        "layout": "images/ + masks/",
        "tiles": 4,
        "usable": 4,
        "unmatched": 0,
    }
    assert (values["tiles"], values["usable"], values["size_px"]) == (6, 6, [32, 32])
    assert values["gsd_m"] == pytest.approx([0.5, 0.5], rel=1e-3)
    road, building = values["classes"]
    assert (road["name"], road["code"], road["share"]) == ("road", 1, pytest.approx(2.5 / 6))
    assert (building["name"], building["code"], building["share"]) == ("building", 2, pytest.approx(0.5))
    assert "127" in values["coding"]
    assert values["problem_count"] == 0
    assert tiles[1]["shares"] == {"road": 0.25}
    assert tiles[0]["shares"] == {"road": 0.0, "building": 0.5}
    assert set(tiles[0]) == {
        "folder", "stem", "image", "mask", "width", "height", "gsd_m", "shares", "bounds", "problem",
    }  # fmt: skip
    assert tiles[0]["bounds"] is None
    west, south, east, north = tiles[4]["bounds"]
    assert 38.9 < west < east < 39.1
    assert 36.1 < south < north < 36.2
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1


def test_a_scan_for_buildings_calls_the_class_so(tmp_path: Path):
    for i in range(4):
        write_tile(tmp_path / "town", f"t{i}", half_road(share=0.25 * i))
    values, tiles, _ = scan(tmp_path / "town", task="buildings")
    assert [(one["name"], one["share"]) for one in values["classes"]] == [("building", pytest.approx(0.375))]
    assert tiles[2]["shares"] == {"building": 0.5}
    assert scan(tmp_path / "town")[1][2]["shares"] == {"road": 0.5}, "what is known is kept for each task"


def test_what_is_broken_is_named_and_counted(tmp_path: Path):
    for i in range(5):
        write_tile(tmp_path / "town", f"t{i}")
    (tmp_path / "town" / "images" / "t3.png").write_bytes(b"broken")
    (tmp_path / "town" / "masks" / "t4.png").unlink()
    values, tiles, _ = scan(tmp_path / "town")
    assert (values["tiles"], values["usable"], values["problem_count"]) == (4, 3, 2)
    assert values["folders"][0]["unmatched"] == 1
    assert "t3.png" in values["problems"][0]
    assert "t4.png" in values["problems"][1]
    assert tiles[3]["problem"] == values["problems"][0]
    assert tiles[3]["shares"] == {}


def test_the_first_hundred_problems_are_listed_and_all_are_counted(tmp_path: Path):
    write_tile(tmp_path / "town", "t")
    for i in range(120):
        (tmp_path / "town" / "images" / f"alone{i:03d}.png").write_bytes(b"")
    values, _, _ = scan(tmp_path / "town")
    assert len(values["problems"]) == 100
    assert values["problem_count"] == 121  # a single tile is a concern too


def test_what_a_training_should_know_is_a_warning(tmp_path: Path):
    write_tile(tmp_path / "town", "t", half_road(share=0))
    values, _, events = scan(tmp_path / "town")
    (warning,) = [e for e in events if isinstance(e, Warning)]
    assert "background" in warning.message
    assert values["problems"] == [warning.message]


def test_a_second_scan_reads_nothing(tmp_path: Path):
    for i in range(4):
        write_tile(tmp_path / "town", f"t{i}")
    _, tiles, events = scan(tmp_path / "town")
    assert len(events) == 5
    _, again, events = scan(tmp_path / "town")
    assert again == tiles
    assert [e.message for e in events] == ["Looking at town"]


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ({"folders": ()}, "No folder of labelled tiles was given"),
        ({"folders": ("missing",)}, "There is no folder missing"),
        ({"folders": ("town",), "task": "rivers"}, "not for 'rivers'"),
        ({"folders": ("town",), "mask_value": "x"}, "'x' is no value of a mask"),
        ({"folders": ("town",), "mask_value": "9"}, "holds the value 9; they hold 0"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job, sentence):
    monkeypatch.chdir(tmp_path)
    write_tile(Path("town"), "t")
    with pytest.raises(AftermapError, match=sentence) as caught:
        list(scan_tiles(ScanTiles(**job, cache="cache")))
    assert isinstance(caught.value, JobError | DatasetError)
