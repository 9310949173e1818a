"""The command line: what a person types and sees."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermap.core.command_line import build_parser, main
from aftermap.core.jobs import SegmentRoads, TrainModel
from aftermap.core.runs import open_work

from .bright_model import save_bright_model, write_scene

HEAVY = ("torch", "numpy", "rasterio", "shapely", "geopandas", "pyogrio", "scipy", "skimage", "matplotlib")


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from aftermap.core.command_line import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print(sorted(m for m in sys.modules if '.' not in m))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "segment-roads" in done.stdout
    assert not set(HEAVY) & set(eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", ["segment-roads", "vectorize", "train", "evaluate", "models", "describe"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "usage: aftermap " + command in capsys.readouterr().out


def test_options_are_fields_of_the_job_and_defaults_stand_there_alone() -> None:
    arguments = (
        "segment-roads a.tif --out d --gsd 0.5 --bands 4,3,2 --extent -1 2.5 3 4 --extent-crs EPSG:4326"
        " --aoi b.gpkg --threshold 0.3 --min-area 5 --simplify 0 --block 0 --device cpu --no-resume --model m"
        " --model-folder x --model-folder y"
    )
    given = vars(build_parser().parse_args(arguments.split()))
    given.pop("run")
    assert given.pop("scene") == "a.tif"
    assert given.pop("out") == "d"
    assert SegmentRoads(raster="a.tif", **given) == SegmentRoads(
        raster="a.tif",
        gsd_m=0.5,
        bands=(4, 3, 2),
        extent=(-1.0, 2.5, 3.0, 4.0),
        extent_crs="EPSG:4326",
        aoi="b.gpkg",
        threshold=0.3,
        min_area_m2=5.0,
        simplify_m=0.0,
        block_m=0.0,
        device="cpu",
        resume=False,
        model="m",
        model_folders=("x", "y"),
    )
    bare = vars(build_parser().parse_args(["segment-roads", "a.tif", "--out", "d"]))
    assert sorted(bare) == ["out", "run", "scene"]


def test_training_takes_several_folders() -> None:
    arguments = (
        "train --task roads a b --from starter --out m.aftermap --crop 256 --licence CC0 --licence ODbL"
    )
    given = vars(build_parser().parse_args(arguments.split()))
    given.pop("run")
    assert TrainModel(**given) == TrainModel(
        folders=("a", "b"),
        output="m.aftermap",
        start_from="starter",
        crop_px=256,
        licences=("CC0", "ODbL"),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nonsense",
        "segment-roads a.tif",
        "segment-roads a.tif --out d --bands red",
        "segment-roads a.tif --out d --extent 1 2 3",
        "train f --out m --architecture [1]",
    ],
)
def test_a_wrong_usage_is_status_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_failure_is_one_sentence_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", str(tmp_path / "missing.tif")]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "missing.tif" in printed.err
    assert len(printed.err.splitlines()) == 1


def test_describe_prints_one_json_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    save_bright_model(tmp_path / "models" / "bright.aftermap", name="bright")
    assert main(["describe", str(scene), "--json", "--model-folder", str(tmp_path / "models")]) == 0
    values = json.loads(capfd.readouterr().out)
    assert (values["width"], values["height"], values["bands"], values["dtype"]) == (420, 300, 3, "uint8")
    assert values["gsd_m"] == pytest.approx(1.0, abs=0.01)
    assert "32637" in values["crs"]
    assert values["model"]


def test_models_are_listed_with_what_their_cards_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_bright_model(tmp_path / "bright.aftermap", metrics=({"name": "town", "tiles": 3, "iou": 0.71234},))
    assert main(["models", "--model-folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "bright: Bright is road",
        "red, green, blue",
        "works at 1 m",
        "name town, tiles 3, iou 0.7123",
    ):
        assert part in printed


@pytest.fixture
def run_arguments(tmp_path: Path) -> list[str]:
    scene = write_scene(tmp_path / "scene.tif")
    model = save_bright_model(tmp_path / "bright.aftermap")
    out, cache = str(tmp_path / "out"), str(tmp_path / "cache")
    return ["segment-roads", str(scene), "--out", out, "--model", str(model), "--cache", cache]


def test_segment_roads_and_vectorize_name_their_files_after_the_scene(
    run_arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(run_arguments) == 0
    printed = capfd.readouterr()
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "scene_road_centrelines.gpkg",
        "scene_road_polygons.gpkg",
        "scene_road_probability.tif",
        "scene_roads.manifest.json",
    ]
    assert str(out / "scene_road_polygons.gpkg") in printed.out
    assert "Segmenting: tile" in printed.err
    assert "\r" not in printed.err  # no bar where there is no terminal
    again = tmp_path / "again"
    assert main(["vectorize", str(out / "scene_road_probability.tif"), "--out", str(again)]) == 0
    assert sorted(p.name for p in again.iterdir()) == [
        "scene_road_centrelines.gpkg",
        "scene_road_polygons.gpkg",
        "scene_roads.manifest.json",
    ]


class Terminal(io.StringIO):
    """Standard error that is a terminal; an interrupt comes as soon as `interrupt_at` is written."""

    def __init__(self, interrupt_at: str = "\0") -> None:
        super().__init__()
        self._interrupt_at = interrupt_at

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        count = super().write(text)
        if self._interrupt_at in text:
            signal.raise_signal(signal.SIGINT)
        return count


@pytest.mark.parametrize("phase", ["Loading", "Segmenting: tile 3", "Writing", "Tracing", "Putting"])
def test_an_interrupt_is_status_130_and_leaves_nothing(
    run_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    terminal = Terminal(interrupt_at=phase)
    monkeypatch.setattr(sys, "stderr", terminal)
    # What a shell starts in the background, these tests perhaps, ignores interrupts.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(run_arguments) == 130
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert terminal.getvalue().splitlines()[-1].endswith("the same run continues from there.")
    assert not (tmp_path / "out").exists()


def test_a_terminal_gets_a_bar_and_loses_it_at_the_end(
    run_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(run_arguments) == 0
    drawn = terminal.getvalue()
    assert "\r[######" in drawn
    assert "100%" in drawn
    assert drawn.endswith("\r\x1b[K")


def test_unfinished_work_can_be_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_work({"job": 1}, cache=str(tmp_path)) as work:
        (work.path / "rows").write_bytes(bytes(2_000_000))
    assert main(["clear-cache", "--cache", str(tmp_path)]) == 0
    assert "2.0 MB" in capsys.readouterr().out
    assert not work.path.exists()


def test_json_has_null_where_there_is_no_number(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for part in ("images", "masks"):
        (tmp_path / "tiles" / part).mkdir(parents=True)
    road = np.zeros((64, 64), np.uint8)
    road[30:36] = 255
    Image.fromarray(np.stack([road] * 3, axis=2)).save(tmp_path / "tiles" / "images" / "a.png")
    Image.fromarray(road).save(tmp_path / "tiles" / "masks" / "a.png")
    model = save_bright_model(tmp_path / "bright.aftermap")
    assert main(["evaluate", str(model), str(tmp_path / "tiles"), "--device", "cpu", "--json"]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    values = json.loads(capfd.readouterr().out, parse_constant=refuse)
    assert values["iou"] > 0.5
    assert values["intervals"]["iou"] == [None, None], "one tile has no spread"


def test_a_scan_is_for_a_task_and_prints_nothing_but_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("images", "building_masks"):
        (tmp_path / "town" / part).mkdir(parents=True)
    Image.new("RGB", (40, 40), (90, 80, 70)).save(tmp_path / "town" / "images" / "a.png")
    Image.new("L", (40, 40), 255).save(tmp_path / "town" / "building_masks" / "a.png")
    options = ["--json", "--cache", str(tmp_path / "cache")]
    assert main(["scan", str(tmp_path / "town"), "--task", "buildings", *options]) == 0
    found, said = capsys.readouterr()
    assert [one["name"] for one in json.loads(found)["classes"]] == ["building"]
    assert "no geotransform" not in said
    with pytest.raises(SystemExit):
        main(["copy-tiles", str(tmp_path / "town"), "--task", "damage", "--out", "x"])
