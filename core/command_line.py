"""The command line: the jobs of QGIS without QGIS, run in this process."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from .cards import list_packages
from .errors import AftermapError, JobError
from .flows import CANCELLED, failure_of, run_flow
from .jobs import (
    AssessDamage,
    CompareRuns,
    CopyTiles,
    DescribeRaster,
    DetectBuildings,
    EvaluateModel,
    ExportTrainingTiles,
    Failure,
    Figure,
    FindLearningRate,
    GenerateScenes,
    Job,
    Metric,
    Partial,
    PlanTraining,
    Progress,
    Result,
    ScanTiles,
    SegmentRoads,
    TrainModel,
    VectorizeProbabilities,
    Warning,
)
from .runs import cache_folder, trim_cache
from .tasks import TILE_TASKS
from .version import read_version

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""What the process answers; argparse itself exits with `USAGE`."""

_TASKS = (*TILE_TASKS, "damage")
_GRACE_S = 1.5  # from Ctrl-C to the end of the process, whatever it does
_SHORT = 120  # characters of a value in a table; --json gives all


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those after the program's name; none: of this process.

    Returns:
        The exit status.
    """
    # Images without a place are ordinary here; what threads ignore for a moment others may still print.
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    parser = build_parser()
    options = vars(parser.parse_args(arguments))
    command: Callable[..., int] = options.pop("run")
    try:
        return command(**options)
    except AftermapError as error:
        return _fail(failure_of(error))
    except KeyboardInterrupt:
        return _fail(CANCELLED)


# ----------------------------------------------------------------------------------------- commands
# An option that is not given is absent, so that each default stands in `jobs` alone.


def _segment_roads(scene: str, out: str, **fields: Any) -> int:
    stem = Path(out) / Path(scene).stem
    return _run(
        SegmentRoads(
            raster=scene,
            output_probability=f"{stem}_road_probability.tif",
            output_polygons=f"{stem}_road_polygons.gpkg",
            output_centrelines=f"{stem}_road_centrelines.gpkg",
            **fields,
        ),
        _print_outputs,
    )


def _assess_damage(post: str, out: str, nudge_m: tuple[float, ...] = (0.0, 0.0), **fields: Any) -> int:
    if len(nudge_m) != 2:
        raise JobError("--nudge takes two numbers: metres to the east and to the north.")
    stem = Path(out) / Path(post).stem
    return _run(
        AssessDamage(
            post=post,
            output_buildings=f"{stem}_building_damage.gpkg",
            output_damage=f"{stem}_damage_probability.tif",
            output_summary=f"{stem}_damage_summary.csv",
            nudge_m=(nudge_m[0], nudge_m[1]),
            **fields,
        ),
        _print_outputs,
    )


def _vectorize(probability: str, out: str, **fields: Any) -> int:
    stem = Path(out) / Path(probability).stem.removesuffix("_road_probability")
    return _run(
        VectorizeProbabilities(
            probability=probability,
            output_polygons=f"{stem}_road_polygons.gpkg",
            output_centrelines=f"{stem}_road_centrelines.gpkg",
            **fields,
        ),
        _print_outputs,
    )


def _detect_buildings(scene: str, out: str, **fields: Any) -> int:
    stem = Path(out) / Path(scene).stem
    return _run(
        DetectBuildings(
            raster=scene,
            output_probability=f"{stem}_building_probability.tif",
            output_buildings=f"{stem}_buildings.gpkg",
            **fields,
        ),
        _print_outputs,
    )


def _scan(json: bool = False, **fields: Any) -> int:
    return _run(ScanTiles(**fields), _print_json if json else _print_table)


def _export_tiles(**fields: Any) -> int:
    return _run(ExportTrainingTiles(**fields), _print_outputs)


def _copy_tiles(**fields: Any) -> int:
    return _run(CopyTiles(**fields), _print_outputs)


def _train(json: bool = False, **fields: Any) -> int:
    return _run(TrainModel(**fields), _print_json if json else _print_outputs)


def _plan_training(json: bool = False, **fields: Any) -> int:
    return _run(PlanTraining(output="", **fields), _print_json if json else _print_plan)


def _find_learning_rate(json: bool = False, **fields: Any) -> int:
    return _run(FindLearningRate(output="", **fields), _print_json if json else _print_outputs)


def _evaluate(json: bool = False, **fields: Any) -> int:
    return _run(EvaluateModel(**fields), _print_json if json else _print_table)


def _compare_runs(**fields: Any) -> int:
    return _run(CompareRuns(**fields), _print_outputs)


def _generate(**fields: Any) -> int:
    return _run(GenerateScenes(**fields), _print_outputs)


def _describe(json: bool = False, **fields: Any) -> int:
    return _run(DescribeRaster(**fields), _print_json if json else _print_table)


def _clear_cache(cache: str = "") -> int:
    print(f"{trim_cache(cache) / 1e6:.1f} MB of unfinished work were removed from {cache_folder(cache)}.")
    return DONE


def _models(model_folders: Sequence[str] = ()) -> int:
    packages = list_packages([Path(folder) for folder in model_folders])
    if not packages:
        print("There are no models.")
    for package in packages:
        card = package.card
        finest, coarsest = card.gsd_range_m
        print(f"{card.name}: {card.title}")
        print(f"    task {card.task}, bands {', '.join(card.bands)}, licence {card.licence or 'not stated'}")
        print(f"    works at {card.gsd_m:g} m, for imagery of {finest:g} to {coarsest:g} m")
        print(f"    threshold {card.threshold:g}")
        for scores in card.metrics:
            print("    " + ", ".join(f"{key} {_in_short(value)}" for key, value in scores.items()))
        print(f"    {package.path}")
    return DONE


# ------------------------------------------------------------------------------------------ running


def _run(job: Job, show: Callable[[Result], None]) -> int:
    with contextlib.ExitStack() as streams:
        if int(os.environ.get("RANK", "0")):  # of several processes that train together, the first one speaks
            nothing = streams.enter_context(Path(os.devnull).open("w"))
            streams.enter_context(contextlib.redirect_stdout(nothing))
            return _run_shown(job, show, _Display(nothing))
        return _run_shown(job, show, _Display(sys.stderr))


def _run_shown(job: Job, show: Callable[[Result], None], display: _Display) -> int:
    with _prompt_interrupts(), closing(run_flow(job)) as events:
        try:
            # What a library prints must not get between the results.
            with contextlib.redirect_stdout(sys.stderr):
                for event in events:
                    display.show(event)
        finally:
            display.end()
    if isinstance(event, Failure):
        return _fail(event)
    if isinstance(event, Result):
        show(event)
    return DONE


@contextlib.contextmanager
def _prompt_interrupts() -> Iterator[None]:
    """End the process a little after Ctrl-C even where it is inside GDAL or a network.

    Python raises `KeyboardInterrupt` only once such a call returns. Unfinished work may be left as it is at
    any time: the next run looks at what of it is whole.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    earlier = signal.set_wakeup_fd(writing)

    has_ended = threading.Event()

    def watch() -> None:
        with os.fdopen(reading, "rb", buffering=0) as numbers:
            if numbers.read(1) and not has_ended.wait(_GRACE_S):
                os._exit(_fail(CANCELLED))

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()
        signal.set_wakeup_fd(earlier)
        os.close(writing)  # the thread reads the end


class _Display:
    """Events on a terminal: a bar that is redrawn; elsewhere lines, about one for each tenth of the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._has_bar = False
        self._said: tuple[str, int] = ("", -1)

    def show(self, event: Any) -> None:
        if isinstance(event, Progress):
            if self._is_terminal:
                self._draw(event)
            else:
                self._say(event)
        elif isinstance(event, Warning):
            self._print(f"Warning: {event.message}")
        elif isinstance(event, Metric):
            values = ", ".join(f"{key} {_in_short(value)}" for key, value in event.values.items())
            step = f" at step {event.step}" if event.step else ""
            self._print(f"{event.name}{step}: {values}")
        elif isinstance(event, Figure):
            self._print(f"{event.title}: {event.path}")
        elif isinstance(event, Partial):
            self._print(f"{event.count} more {event.layer}: {event.path}")

    def end(self) -> None:
        """Take the bar away."""
        if self._has_bar:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._has_bar = False

    def _draw(self, progress: Progress) -> None:
        width = 24
        filled = round(width * progress.fraction)
        line = f"[{'#' * filled}{'.' * (width - filled)}] {progress.fraction:4.0%} {progress.message}"
        self._stream.write("\r" + line[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
        self._stream.flush()
        self._has_bar = True

    def _say(self, progress: Progress) -> None:
        step = (progress.message.partition(":")[0], int(progress.fraction * 10))
        if step != self._said:
            self._said = step
            self._print(f"{progress.fraction:4.0%} {progress.message}")

    def _print(self, line: str) -> None:
        self.end()
        print(line, file=self._stream, flush=True)


def _fail(failure: Failure) -> int:
    if failure.traceback:
        print(failure.traceback, file=sys.stderr)
    print(failure.message, file=sys.stderr)
    return INTERRUPTED if failure == CANCELLED else FAILED


def _print_outputs(result: Result) -> None:
    for name, path in result.outputs.items():
        print(f"{name}: {path}")
    _print_table(result)


def _print_plan(result: Result) -> None:
    long = ("learning_rates", "findings")
    short = {name: value for name, value in result.values.items() if name not in long}
    _print_outputs(Result(result.outputs, short))
    for finding in result.values["findings"]:
        print(f"* {finding}")


def _print_table(result: Result) -> None:
    width = max((len(name) for name in result.values), default=0)
    for name, value in result.values.items():
        print(f"{name:{width}}  {_in_short(value)}")


def _print_json(result: Result) -> None:
    print(json.dumps(_without_nan(result.values), ensure_ascii=False))


def _without_nan(value: Any) -> Any:
    """JSON has no word for a score without anything to judge it by but null."""
    if isinstance(value, Mapping):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if value != value else value


def _in_short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_short(part)}" for key, part in value.items())
    if value is None or value == "":
        return "–"
    text = str(value)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


# ------------------------------------------------------------------------------------------ options


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options; each option's ``dest`` is the field of the job that it sets."""
    parser = argparse.ArgumentParser(
        prog="aftermap",
        description="Roads and buildings from satellite and aerial imagery, with neural networks.",
    )
    parser.add_argument("--version", action="version", version=f"aftermap {read_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add = _adder(commands, "segment-roads", "find the roads of a raster", _segment_roads)
    _add_scene(add)
    _add_vectors(add, SegmentRoads)
    _add_run(add)

    add = _adder(commands, "detect-buildings", "find the buildings of a raster", _detect_buildings)
    _add_scene(add)
    _add_threshold(add, "building")
    _add_min_area(add, DetectBuildings, "building")
    add(
        "--regularize",
        action=argparse.BooleanOptionalAction,
        help="straighten outlines, with right angles where buildings have them (default: yes)",
    )
    _add_run(add)

    add = _adder(commands, "assess-damage", "say how badly each building is damaged", _assess_damage)
    add("post", metavar="POST", help="raster from after the event")
    add("--pre", help="raster from before the event")
    add("--footprints", metavar="LAYER", help="known buildings (default: detected on PRE, else on POST)")
    add("--footprints-layer", help="name of the layer inside --footprints (default: the first)")
    _add_out(add)
    add("--bands", type=_numbers, help="band numbers of POST from 1, in the model's order, such as 4,3,2")
    add("--pre-bands", type=_numbers, help="band numbers of PRE, likewise")
    add("--pre-source", help="where PRE comes from, for the manifest")
    _add_gsd(add)
    add("--crs", help="CRS of a POST that states none")
    add("--pre-crs", help="CRS of a PRE that states none")
    add(
        "--nudge",
        dest="nudge_m",
        type=_reals,
        metavar="E,N",
        help="metres to the east and north by which footprints are moved on the image",
    )
    add(
        "--align",
        action=argparse.BooleanOptionalAction,
        help="estimate and correct shifts of PRE and footprints against POST (default: yes)",
    )
    add("--post-date", metavar="DATE", help="when POST was taken (default: from its metadata)")
    add("--pre-date", metavar="DATE", help="when PRE was taken, likewise")
    _add_min_area(add, AssessDamage, "detected building")
    _add_model(add)
    _add_place(add)
    add(
        "--aoi-first",
        action="store_true",
        help="assess the area of --aoi first, and then all the rest, instead of nothing but that area",
    )
    _add_run(add)

    add = _adder(commands, "vectorize", "make road layers anew from a probability raster", _vectorize)
    add("probability", metavar="PROBABILITY", help="raster that segment-roads wrote")
    _add_out(add)
    _add_vectors(add, VectorizeProbabilities)
    _add_cache(add)

    add = _adder(commands, "scan", "say what folders of labelled tiles hold", _scan)
    _add_folders(add)
    _add_task(add, "what they are labelled for")
    add("--json", action="store_true", help="print one JSON object")
    _add_mask_value(add)
    _add_cache(add)

    add = _adder(commands, "export-tiles", "cut a raster and a layer of labels into tiles", _export_tiles)
    add("raster", metavar="RASTER", help="raster that GDAL opens")
    add("labels", metavar="LABELS", help="digitised polygons or lines")
    add("--out", dest="folder", required=True, metavar="DIR", help="folder for images/ and masks/")
    add("--labels-layer", help="name of the layer inside LABELS (default: the first)")
    add("--bands", type=_numbers, help="band numbers from 1 in the model's order, such as 4,3,2")
    _add_gsd(add)
    add("--crs", help="CRS of a raster that states none")
    add("--width-field", help="field with the width of lines in metres")
    add(
        "--width",
        dest="width_m",
        type=float,
        metavar="M",
        help=f"width of lines in metres (default: {ExportTrainingTiles.width_m:g})",
    )
    add("--area", help="polygons within which everything is digitised (default: everywhere)")
    add("--area-layer", help="name of the layer inside --area (default: the first)")
    add("--size", dest="tile_px", type=int, help=f"side in pixels (default: {ExportTrainingTiles.tile_px})")
    _add_image_format(add, ExportTrainingTiles)
    _add_min_share(add)

    add = _adder(
        commands, "copy-tiles", "write selected tiles as a folder that is small to send", _copy_tiles
    )
    _add_folders(add)
    _add_task(add, "what they are labelled for", tuple(TILE_TASKS))
    add("--out", dest="folder", required=True, metavar="DIR", help="folder for images/ and masks/")
    _add_mask_value(add)
    _add_image_format(add, CopyTiles)
    _add_min_share(add)
    _add_cache(add)

    add = _adder(commands, "train", "train a model on folders of labelled tiles", _train)
    add("--out", dest="output", required=True, metavar="MODEL", help="the model, .aftermap or a folder")
    _add_training(add)

    add = _adder(commands, "plan-training", "say what a training would do", _plan_training)
    add("--preview", metavar="DIR", help="folder for a sheet of augmented crops")
    _add_training(add)

    add = _adder(commands, "find-learning-rate", "try which learning rate suits", _find_learning_rate)
    add("--figure", metavar="PNG", help="picture of the curve")
    _add_training(add)

    add = _adder(commands, "evaluate", "score a model on a folder of labelled tiles", _evaluate)
    add("model", metavar="MODEL", help="name or path of a model")
    add("folder", metavar="FOLDER", help="folder with images/ and masks/ of equal stems")
    add("--json", action="store_true", help="print one JSON object")
    _add_gsd(add)
    add("--splits", help="JSON file with lists of tiles; only those of --part are scored")
    add("--part", help=f"list of --splits (default: {EvaluateModel.part})")
    add("--threshold", type=float, help="probability from which a pixel is road (default: the model's)")
    add("--report", metavar="DIR", help="folder for a report with pictures and curves")
    add("--probe", action="store_true", help="also measure how the scores depend on colour")
    add("--record", action="store_true", help="write the scores onto the model's card")
    _add_mask_value(add)
    _add_model_folders(add)
    _add_device(add)

    add = _adder(commands, "compare-runs", "put models side by side on the same tiles", _compare_runs)
    add("models", metavar="MODEL", nargs="+", action=_Collect, help="names or paths of models")
    add("--tiles", dest="folder", required=True, metavar="FOLDER", help="folder of labelled tiles")
    add("--out", dest="report", required=True, metavar="DIR", help="folder for the report")
    _add_gsd(add)
    add("--splits", help="JSON file with lists of tiles; only those of --part are scored")
    add("--part", help=f"list of --splits (default: {CompareRuns.part})")
    _add_mask_value(add)
    _add_model_folders(add)
    _add_device(add)

    add = _adder(commands, "generate", "write a folder of generated scenes with exact labels", _generate)
    add("folder", metavar="FOLDER", help="where images/ and their labels are made")
    add("--count", type=int, help=f"number of scenes (default: {GenerateScenes.count})")
    add("--seed", type=int, help="of their chance; equal seeds give equal scenes")
    add("--size", type=int, dest="size_px", help=f"side in pixels (default: {GenerateScenes.size_px})")
    add(
        "--gsd",
        type=float,
        dest="gsd_m",
        help="ground resolution in metres (default: 0.3 to 1, each its own)",
    )
    add("--style", help="style of the towns (default: each scene its own)")
    add("--damage", action="store_true", help="towns before and after an event, laid out as xBD")
    add("--damage-share", type=float, help="share of damaged buildings, 0 to 1 (default: each town its own)")
    add("--hazard", help="what happens to them: earthquake, storm or fire (default: each town its own)")

    add = _adder(commands, "models", "list the models", _models)
    _add_model_folders(add)

    add = _adder(commands, "clear-cache", "remove the unfinished work of earlier runs", _clear_cache)
    _add_cache(add)

    add = _adder(commands, "describe", "say how a raster is understood", _describe)
    add("raster", metavar="RASTER", help="raster that GDAL opens")
    add("--json", action="store_true", help="print one JSON object")
    add("--bands", type=_numbers, help="band numbers from 1")
    _add_gsd(add)
    add("--crs", help="CRS of a raster that states none")
    _add_model_folders(add)
    return parser


_Add = Callable[..., Any]


def _adder(commands: Any, name: str, text: str, run: Callable[..., int]) -> _Add:
    parser = commands.add_parser(
        name, help=text, description=text.capitalize() + ".", argument_default=argparse.SUPPRESS
    )
    parser.set_defaults(run=run)
    add: _Add = parser.add_argument
    return add


class _Collect(argparse.Action):
    """Keep values as a tuple, which is what jobs hold; an option that is given again adds to it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        new = (values,) if self.nargs is None else tuple(values)
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *new))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 4,3,2") from None


def _reals(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 1.5,-2") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def _add_scene(add: _Add) -> None:
    """The raster of a run, its model, and where it looks."""
    add("scene", metavar="SCENE", help="raster that GDAL opens")
    _add_out(add)
    _add_model(add)
    add("--bands", type=_numbers, help="band numbers from 1 in the model's order, such as 4,3,2")
    _add_gsd(add)
    add("--crs", help="CRS of a raster that states none, such as EPSG:32637")
    _add_place(add)


def _add_place(add: _Add) -> None:
    """Where a run looks."""
    add(
        "--extent",
        nargs=4,
        type=float,
        metavar=("XMIN", "YMIN", "XMAX", "YMAX"),
        action=_Collect,
        help="only this part",
    )
    add("--extent-crs", help="CRS of --extent (default: the raster's)")
    add("--aoi", help="only within the polygons of this layer")
    add("--aoi-layer", help="name of the layer inside --aoi (default: the first)")


def _add_run(add: _Add) -> None:
    """How a run on a raster runs."""
    _add_device(add)
    _add_cache(add)
    _add_resume(add)
    add("--source", help="where the raster comes from, for the manifest")


def _add_threshold(add: _Add, class_name: str) -> None:
    add(
        "--threshold",
        type=float,
        help=f"probability from which a pixel is {class_name} (default: the model's)",
    )


def _add_min_area(
    add: _Add,
    job: type[SegmentRoads] | type[VectorizeProbabilities] | type[DetectBuildings] | type[AssessDamage],
    what: str,
) -> None:
    add(
        "--min-area",
        dest="min_area_m2",
        type=float,
        metavar="M2",
        help=f"smallest {what} in square metres (default: {job.min_area_m2:g})",
    )


def _add_out(add: _Add) -> None:
    add("--out", required=True, metavar="DIR", help="folder for the outputs")


def _add_folders(add: _Add) -> None:
    add("folders", metavar="FOLDER", nargs="+", action=_Collect, help="folder of labelled tiles")


def _add_mask_value(add: _Add) -> None:
    add(
        "--mask-value",
        metavar="VALUE",
        help="what in a mask is the class: a code or a colour such as #ffff00 (default: found out)",
    )


def _add_image_format(add: _Add, job: type[ExportTrainingTiles] | type[CopyTiles]) -> None:
    add(
        "--format",
        dest="image_format",
        choices=("tif", "jpg", "png"),
        help=f"of the images (default: {job.image_format})",
    )


def _add_min_share(add: _Add) -> None:
    add("--min-share", type=float, metavar="N", help="only tiles with at least this share of the class")


def _add_model_folders(add: _Add) -> None:
    add(
        "--model-folder",
        dest="model_folders",
        metavar="DIR",
        action=_Collect,
        help="folder with further models; may be given several times",
    )


def _add_model(add: _Add) -> None:
    add("--model", help="name or path of a model (default: the best fit)")
    _add_model_folders(add)


def _add_gsd(add: _Add) -> None:
    add(
        "--gsd",
        dest="gsd_m",
        type=float,
        metavar="M",
        help="size of a pixel on the ground in metres, where the raster cannot tell",
    )


def _add_vectors(add: _Add, job: type[SegmentRoads] | type[VectorizeProbabilities]) -> None:
    _add_threshold(add, "road")
    _add_min_area(add, job, "polygon")
    add(
        "--simplify",
        dest="simplify_m",
        type=float,
        metavar="M",
        help=f"tolerance of simplification in metres, 0 for pixel edges (default: {job.simplify_m:g})",
    )
    add(
        "--block",
        dest="block_m",
        type=float,
        metavar="M",
        help=f"side of the blocks at which networks are cut, 0 for never (default: {job.block_m:g})",
    )


def _add_device(add: _Add) -> None:
    add("--device", help=f"auto, cpu, cuda, cuda:1, mps (default: {SegmentRoads.device})")


def _add_cache(add: _Add) -> None:
    add("--cache", metavar="DIR", help="folder for unfinished work (default: the user's cache)")


def _add_resume(add: _Add) -> None:
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="continue an unfinished run of the same job (default: yes)",
    )


def _add_task(add: _Add, what: str, tasks: Sequence[str] = _TASKS) -> None:
    add("--task", choices=tasks, help=f"{what} (default: {TrainModel.task})")


def _add_training(add: _Add) -> None:
    default = {f.name: f.default for f in dataclasses.fields(TrainModel)}
    _add_folders(add)
    _add_task(add, "what is trained")
    add("--json", action="store_true", help="print one JSON object")
    add(
        "--from",
        dest="start_from",
        metavar="MODEL",
        help="name or path of the model to fine-tune, starter, or scratch (default: starter)",
    )
    _add_model_folders(add)
    add(
        "--encoder-weights",
        metavar="FILE",
        help="pretrained encoder weights (.safetensors), for --from scratch",
    )
    add("--architecture", type=_json_object, metavar="JSON", help="parameters of a new network, as on a card")
    _add_mask_value(add)
    _add_gsd(add)
    add(
        "--working-gsd",
        dest="working_gsd_m",
        type=float,
        metavar="M",
        help="size of a pixel at which the network works (default: the start model's)",
    )
    add("--splits", metavar="FILE", help="JSON file with the lists of tiles for training and validation")
    add(
        "--validation",
        metavar="FOLDER",
        help="validation tiles (default: by --splits, or a split that leaks nothing)",
    )
    for option, kind, what in (
        ("--validation-share", float, "share of the tiles for validation where the split is made here"),
        ("--epochs", float, "looks at each piece of ground, 0 for --steps"),
        ("--steps", int, "optimiser steps, 0 for as many as the data ask for"),
        ("--batch-size", int, "crops in a batch, 0 for about 1.2 megapixels"),
        ("--crop", int, "side of a crop in pixels, 0 for that of the tiles, at most 384"),
        ("--scale-jitter", float, "largest factor by which crops are enlarged or shrunk"),
        ("--accumulate", int, "batches that make one step"),
        ("--learning-rate", float, "peak learning rate, 0 for the recipe's"),
        ("--schedule", str, "wsd (warm-up, stable, decay), cosine, one_cycle, step, plateau or constant"),
        ("--step-every", int, "period of the schedule step"),
        ("--step-unit", str, "what the period counts, epoch or batch"),
        ("--loss", str, "bce_dice, bce, weighted_bce, focal, dice, tversky or focal_dice"),
        ("--positive-weight", float, "weight of the class in weighted_bce, 0 for the suggested one"),
        ("--skeleton-weight", float, "weight of skeleton recall, added to the loss"),
        ("--sampler", str, "weighted or uniform"),
        ("--min-share", float, "only tiles with at least this share of road"),
        ("--augmentation", str, "structure, mild or none"),
        ("--synthetic-share", float, "share of generated crops"),
        ("--patience", int, "rounds without a better score after which it stops, 0 for never"),
        ("--seed", int, "seed of everything that is random"),
    ):
        dest = {"--crop": "crop_px"}.get(option, option[2:].replace("-", "_"))
        add(
            option,
            dest=dest,
            type=kind,
            metavar="N" if kind is not str else "NAME",
            help=f"{what} (default: {default[dest]})",
        )
    add(
        "--prior-bias",
        action=argparse.BooleanOptionalAction,
        help="a new network says at first how frequent the class is, not 0.5 everywhere (default: yes)",
    )
    add("--name", help="name of the model on its card (default: from --out)")
    add(
        "--licence",
        dest="licences",
        action=_Collect,
        help="licence of a folder's data, for the card; once for each folder, in their order",
    )
    _add_device(add)
    _add_cache(add)
    _add_resume(add)
