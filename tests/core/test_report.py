"""Reports: pages that stand by themselves, and what an evaluation writes into them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from aftermap.core.datasets.folders import LabelledTile
from aftermap.core.errors import DatasetError, JobError, OutputError
from aftermap.core.evaluate_model import WorstTiles, evaluate_model
from aftermap.core.evaluation.bootstrap import Difference, Interval
from aftermap.core.evaluation.pixel_scores import LevelCounts
from aftermap.core.evaluation.report import (
    Picture,
    Report,
    Section,
    Table,
    Text,
    format_cell,
    render_html,
    render_markdown,
)
from aftermap.core.jobs import EvaluateModel, Figure, Progress, Result
from aftermap.core.scoring import ScoredTile

from .bright_model import draw_roads, save_bright_model

_VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that elements are closed in order; gathers what a page refers to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: set[str] = set()
        self.references: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        found = dict(attributes)
        assert tag != "img" or found.get("alt")
        self.references += [v for k, v in attributes if k in ("src", "href") and v]
        self.ids |= {v for k, v in attributes if k == "id" and v}
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def is_self_contained(page: Page, folder: Path | None = None) -> bool:
    """Whether all that a page refers to lies inside it, or beside it."""
    return all(
        r.startswith("data:image/")
        or (r.startswith("#") and r[1:] in page.ids)
        or (folder is not None and re.fullmatch(r"[\w.%-]+", r) and (folder / unquote(r)).is_file())
        for r in page.references
    )


def test_a_page_has_every_block_and_escapes_what_it_is_told():
    nasty = '<script>alert("x")</script> & more'
    picture = Picture(b"\x89PNG\r\n", nasty, nasty)
    blocks = (
        Text((nasty, "Second sentence.")),
        Text((nasty,), is_list=True),
        Table((nasty, "b"), [(nasty, 1.23456)], nasty),
        Table(("a", "b"), [("c", None)], "Folded", is_folded=True),
        picture,
    )
    text = render_html(
        Report(nasty, {"Model": nasty}, {nasty: 0.5}, (Section(nasty, blocks), Section("None", ())))
    )
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert "script" not in page.seen
    assert {"ul", "dl", "table", "details", "figure", "h2", "nav"} <= set(page.seen)
    assert is_self_contained(page)
    assert "1.235" in page.words
    assert "None" not in page.words


def test_a_page_asks_for_nothing_from_elsewhere():
    text = render_html(Report("t", {}, {}, (Section("s", (Picture(b"\xff\xd8\xff", "a", link="b.png"),)),)))
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert 'src="data:image/jpeg;base64,' in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.12349, "0.123"),
        (float("nan"), "–"),
        (None, "–"),
        (1234567, "1 234 567"),
        ("as it is", "as it is"),
        (Interval(0.5, 0.4, 0.61), "0.500 (0.400 to 0.610)"),
        (Interval(0.5, float("nan"), float("nan")), "0.500"),
        (Difference(0.02, 0.01, 0.03), "+0.020* (+0.010 to +0.030)"),
        (Difference(-0.02, -0.05, 0.03), "-0.020 (-0.050 to +0.030)"),
    ],
)
def test_cells_in_words(value, expected: str):
    assert format_cell(value) == expected


def test_a_table_as_markdown():
    text = render_markdown(Table(("model", "IoU"), [("a|b", 0.5)], "Scores"))
    assert text == "Scores\n\n| model | IoU |\n| :-- | --: |\n| a\\|b | 0.500 |\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_bright_model(tmp_path_factory.mktemp("model") / "bright.aftermap"))


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tiles with bright streets; the masks: true, shifted by a street's width, without any road."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "town"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for stem, shift in (("right", 0), ("shifted", 6), ("empty", None)):
        image = draw_roads(200, 240)
        mask = np.roll(image[0] == 220, (shift or 0, shift or 0), axis=(0, 1)) & (shift is not None)
        Image.fromarray(np.moveaxis(image, 0, 2)).save(folder / "images" / f"{stem}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{stem}.png")
    return folder


def test_an_evaluation_says_which_tiles_are_worst(model: str, town: Path):
    *events, result = evaluate_model(EvaluateModel(model, str(town), device="cpu"))
    assert isinstance(result, Result)
    values = result.values
    assert [t["stem"] for t in values["tile_scores"]] == ["empty", "shifted", "right"]
    right = values["tile_scores"][-1]
    assert right["iou"] > 0.95
    assert right["apls"] > 0.99
    assert right["cldice"] > 0.99
    assert Path(right["image"]).is_file()
    assert Path(right["mask"]).is_file()
    # APLS is the mean over the tiles with roads: the empty one has none.
    shifted = values["tile_scores"][1]
    assert values["apls"] == pytest.approx((right["apls"] + shifted["apls"]) / 2)
    assert 0 <= values["intervals"]["iou"][0] <= values["iou"] <= values["intervals"]["iou"][1] <= 1
    (tn, fp), (fn, tp) = values["confusion"]
    assert values["iou"] == pytest.approx(tp / (tp + fp + fn))
    assert tn + fp + fn + tp == 3 * 200 * 240
    assert values["ece_scaled"] < values["ece"]
    assert "colour_probe" not in values
    json.dumps(values)
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_an_evaluation_writes_a_page_that_stands_by_itself(model: str, town: Path, tmp_path: Path):
    for part in ("images", "masks"):
        (town / part / "right.png").rename(town / part / "100 % #right.png")
    report = tmp_path / "report"
    *events, result = evaluate_model(
        EvaluateModel(model, str(town), report=str(report), probe=True, device="cpu")
    )
    page = Path(result.outputs["report"])
    assert page == report / "report.html"
    parsed = Page(page.read_text(encoding="utf-8"))
    assert is_self_contained(parsed, report)
    for words in ("bright", "Threshold", "Calibration", "Confusion", "Colour dependence", "no road here"):
        assert words in parsed.words
    figures = {Path(e.path) for e in events if isinstance(e, Figure)}
    assert figures == {report / f"{stem}.png" for stem in ("100 % #right", "shifted", "empty")}
    assert {p.name for p in report.iterdir()} == {"report.html", *(f.name for f in figures)}


def test_the_probe_goes_through_the_same_inference(model: str, town: Path):
    *_, result = evaluate_model(EvaluateModel(model, str(town), probe=True, device="cpu"))
    probe = result.values["colour_probe"]
    assert probe["clean"] == result.values["iou"]
    # The network knows brightness only: what keeps the mean of the bands changes nothing but rounding.
    assert probe["grey"] == pytest.approx(probe["clean"], abs=0.002)
    assert probe["channel_swap"] == pytest.approx(probe["clean"], abs=0.002)
    drops = [
        1 - v / probe["clean"] for k, v in probe.items() if k not in ("clean", "unseen") and "_drop" not in k
    ]
    assert probe["worst_drop"] == pytest.approx(max(drops))


def scored(stem: str, folder: str, wrong_px: int) -> ScoredTile:
    tile = LabelledTile(stem, Path(folder, f"{stem}.png"), Path(folder, "mask.png"))
    image, levels = np.full((3, 20, 20), wrong_px, np.uint8), np.zeros((20, 20), np.uint8)
    return ScoredTile(stem, tile, 1.0, image, np.zeros((2, 20, 20), np.uint8), levels, LevelCounts(), {})


def test_only_the_worst_tiles_are_drawn_whatever_their_order_and_names(tmp_path: Path):
    gallery = WorstTiles(tmp_path, 3)
    iou = {"a": 0.9, "b": 0.2, "c": float("nan"), "d": 0.5, "e": 0.0, "f": 0.7}
    for stem, score in iou.items():
        gallery.add(scored(stem, "one", 5), 0.5, score, 5)
    assert (
        {p.stem for p in tmp_path.iterdir()} == {"e", "b", "d"} == {p.stem for p in gallery.pictures.values()}
    )
    gallery.add(scored("b", "other", 9), 0.5, 0.1, 9)
    assert {p.name for p in tmp_path.iterdir()} == {"e.png", "b.png", "b-2.png"}
    assert set(gallery.pictures) == {"one/e.png", "one/b.png", "other/b.png"}


def test_what_is_road_in_a_mask_can_be_told(model: str, town: Path):
    *_, plain = evaluate_model(EvaluateModel(model, str(town), device="cpu"))
    for mask in (town / "masks").iterdir():
        codes = np.asarray(Image.open(mask)) // 255
        Image.fromarray(np.where(codes == 1, 3, 7).astype(np.uint8)).save(mask)
    *_, told = evaluate_model(EvaluateModel(model, str(town), mask_value="3", device="cpu"))
    assert told.values["confusion"] == plain.values["confusion"]
    *_, other = evaluate_model(EvaluateModel(model, str(town), mask_value="7", device="cpu"))
    assert other.values["iou"] < 0.1


def test_tiles_without_any_road_still_make_a_report(model: str, town: Path, tmp_path: Path):
    splits, report = tmp_path / "splits.json", tmp_path / "report"
    splits.write_text(json.dumps({"town": {"validation": ["empty"]}}), encoding="utf-8")
    job = EvaluateModel(model, str(town), splits=str(splits), report=str(report), probe=True, device="cpu")
    *_, result = evaluate_model(job)
    assert np.isnan([result.values[name] for name in ("recall", "apls")]).all()
    parsed = Page((report / "report.html").read_text(encoding="utf-8"))
    assert "nan" not in parsed.words
    assert (report / "empty.png").is_file()


def test_a_report_that_cannot_be_written_is_refused_at_once(model: str, town: Path, tmp_path: Path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    job = EvaluateModel(model, str(town), report=str(tmp_path / "file" / "report"), device="cpu")
    with pytest.raises(OutputError, match="is a file"):
        next(iter(evaluate_model(job)))


def test_a_cancelled_evaluation_leaves_nothing(model: str, town: Path, tmp_path: Path):
    run = evaluate_model(EvaluateModel(model, str(town), report=str(tmp_path / "report"), device="cpu"))
    for event in run:
        if isinstance(event, Progress) and "tile 2" in event.message and "Scoring" in event.message:
            run.close()
            break
    assert not (tmp_path / "report").exists()


def test_a_part_without_tiles_is_named(model: str, town: Path, tmp_path: Path):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"town": {"train": ["right"]}}), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"no tiles of town under 'validation'"):
        list(evaluate_model(EvaluateModel(model, str(town), splits=str(splits), device="cpu")))
    with pytest.raises((DatasetError, JobError)):
        list(evaluate_model(EvaluateModel(model, str(town), mask_value="greenish", device="cpu")))
