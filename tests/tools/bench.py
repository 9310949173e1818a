"""Measure Segment Roads beside a plain loop: processor time, the cost of a small area, and memory.

Each measurement is a process of its own with one thread, so that processor time is neither shared nor
hidden, and what the network's forward pass takes is the processor time of the thread that calls it. A tiny
job loads the libraries before the clock starts, as in a worker that waits for its next job; the loading of
the model is part of what is measured.

The plain loop reads a tile, runs the same network on it and pastes the result, for the same tiles: no
blending, no nodata, no journal, no overviews, no vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

SIDE_PX = 4096
LARGE_SIDE_PX = 20_000
SMALL_PX = 64
SEED = 7
STYLE = "suburb"
AOI_SHARE = 0.01
MEGAPIXELS = 16
THRESHOLD = 0.5


@dataclass(frozen=True)
class Cost:
    """What one process took.

    Attributes:
        cpu_s: Processor time of the run, all threads and children.
        forward_s: Of it, inside of the network's forward pass.
        wall_s: Time on the clock.
        peak_mb: Largest resident memory of the process, in 10⁶ bytes.
        road_share: Share of the valid pixels that are road.
        features: Polygons and centrelines.
        steps: Processor time by step, named by the first word of its progress.
    """

    cpu_s: float
    forward_s: float
    wall_s: float
    peak_mb: float
    road_share: float
    features: int
    steps: Mapping[str, float]


# ------------------------------------------------------------------------------- in a child process


def segment(raster: str, model: str, folder: str, aoi: str) -> Cost:
    """Run the flow as the worker does, and count what it takes."""
    import pyogrio
    import rasterio

    from aftermap.core.flows import run_flow
    from aftermap.core.jobs import Failure, Progress, SegmentRoads

    out = Path(folder)
    layers = {name: str(out / f"{name}.gpkg") for name in ("polygons", "centrelines")}
    job = SegmentRoads(
        raster=raster,
        model=model,
        aoi=aoi,
        device="cpu",
        cache=str(out / "cache"),
        output_probability=str(out / "probability.tif"),
        output_polygons=layers["polygons"],
        output_centrelines=layers["centrelines"],
    )
    with rasterio.open(raster) as file:
        corner = rasterio.windows.bounds(rasterio.windows.Window(0, 0, SMALL_PX, SMALL_PX), file.transform)
    for _ in run_flow(replace(job, extent=corner, aoi="")):
        pass  # the first job of a worker loads the libraries
    forward = watch_forward_pass()
    clock, step, event = Clock(), "Loading", None
    for event in run_flow(job):
        clock.lap(step)
        if isinstance(event, Progress):
            step = re.split(r"[ :,]", event.message)[0] or step
    if isinstance(event, Failure):
        sys.exit(event.message)
    cost = clock.read(sum(forward))
    return replace(
        cost,
        road_share=road_share(out / "probability.tif", float(event.values["threshold"])),
        features=sum(int(pyogrio.read_info(path)["features"]) for path in layers.values()),
    )


def paste(raster: str, model: str, folder: str) -> Cost:
    """Run the yardstick."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    from aftermap.core.cards import read_package
    from aftermap.core.networks.segmenter import load_segmenter
    from aftermap.core.raster.grid import plan_grid
    from aftermap.core.raster.region import plan_region
    from aftermap.core.raster.source import open_source
    from aftermap.core.raster.tiling import plan_tiles

    package = read_package(Path(model))
    card = package.card
    with open_source(raster) as source:
        grid = plan_grid(source, card.gsd_m)
        tiles = plan_tiles(
            grid,
            plan_region(grid),
            tile_px=card.tile_px,
            margin_px=card.margin_px,
            stride_px=card.stride_px,
        )
    forward = watch_forward_pass()
    clock = Clock()
    segmenter = load_segmenter(package, "cpu")
    with rasterio.open(raster) as file:
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "tiled": True, "compress": "deflate"}
        size = {"width": file.width, "height": file.height, "crs": file.crs, "transform": file.transform}
        with rasterio.open(Path(folder, "pasted.tif"), "w", **profile, **size) as result:
            for tile in tiles:
                window = Window(tile.col, tile.row, tile.width, tile.height)
                inside = window.intersection(Window(0, 0, file.width, file.height))
                image = file.read(window=inside).astype(np.float32) / 255
                missing = ((0, 0), (0, tile.height - image.shape[1]), (0, tile.width - image.shape[2]))
                road = segmenter(np.pad(image, missing)[None])[0, 0]
                codes = np.rint(road * 254).astype(np.uint8)
                result.write(codes[: image.shape[1], : image.shape[2]], 1, window=inside)
    return clock.read(sum(forward))


def watch_forward_pass() -> list[float]:
    """Have every call of a network add its processor time to the list."""
    from aftermap.core.networks.segmenter import Segmenter

    spent: list[float] = []
    forward = Segmenter.__call__

    def timed(self: Any, tiles: Any) -> Any:
        began = time.thread_time()
        try:
            return forward(self, tiles)
        finally:
            spent.append(time.thread_time() - began)

    Segmenter.__call__ = timed  # type: ignore[method-assign]
    return spent


class Clock:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._cpu_s, self._wall_s = self._cpu(), time.monotonic()
        self._lap_s, self._steps = self._cpu_s, dict[str, float]()

    @staticmethod
    def _cpu() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def lap(self, step: str) -> None:
        """Count what was used since the last lap to `step`."""
        now_s = self._cpu()
        self._steps[step] = self._steps.get(step, 0.0) + now_s - self._lap_s
        self._lap_s = now_s

    def read(self, forward_s: float) -> Cost:
        """What was used since the clock was made, `forward_s` of it in the network."""
        # Not `getrusage`: there a child begins with the peak of the process that forked it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return Cost(
            cpu_s=self._cpu() - self._cpu_s,
            forward_s=forward_s,
            wall_s=time.monotonic() - self._wall_s,
            peak_mb=peak_kb * 1024 / 1e6,
            road_share=0.0,
            features=0,
            steps=self._steps,
        )


def road_share(probability: Path, threshold: float) -> float:
    """Share of the valid pixels whose probability is at least the threshold."""
    import numpy as np
    import rasterio

    road = valid = 0
    with rasterio.open(probability) as file:
        for _, window in file.block_windows(1):
            codes = file.read(1, window=window)
            road += int(np.count_nonzero((codes >= threshold * 254) & (codes != 255)))
            valid += int(np.count_nonzero(codes != 255))
    return road / max(valid, 1)


def prepare(folder: str, model: str, is_full: str) -> Cost:
    """Write the rasters, the area of interest, and the trivial network."""
    import geopandas
    import numpy as np
    import rasterio
    import shapely

    from aftermap.core.cards import read_package
    from aftermap.core.datasets.synthetic import generate_scene, write_scene

    out, clock = Path(folder), Clock()
    card = read_package(Path(model)).card
    scene = generate_scene(SEED, SIDE_PX, card.gsd_m, STYLE)
    write_scene(scene, out / "scene.tif")
    west, north = scene.transform.c, scene.transform.f
    half_m = SIDE_PX * card.gsd_m * AOI_SHARE**0.5 / 2
    centre = SIDE_PX * card.gsd_m / 2
    square = shapely.Point(west + centre, north - centre).buffer(half_m, cap_style="square")
    geopandas.GeoDataFrame(geometry=[square], crs=scene.crs).to_file(out / "aoi.gpkg")

    image = np.moveaxis(scene.image, 2, 0)
    if not is_full:  # what the trivial network sees: a town whose roads are brighter in red than all else
        image = image // 3
        image[0] += (160 * scene.road).astype(np.uint8)
    with rasterio.open(out / "scene.tif") as file:
        profile = {**file.profile, "compress": "lzw"}
    for name, side in (("small.tif", SIDE_PX), ("large.tif", LARGE_SIDE_PX)):
        with rasterio.open(out / name, "w", **{**profile, "width": side, "height": side}) as file:
            for window in (w for _, w in file.block_windows(1)):
                rows = mirrored(window.row_off, window.height)
                columns = mirrored(window.col_off, window.width)
                file.write(image[:, rows[:, None], columns], window=window)
    write_trivial_network(out / "trivial.aftermap", model)
    return clock.read(0.0)


def mirrored(start: int, count: int) -> Any:
    """Rows of the scene that continue it endlessly, mirrored at its borders so that each road goes on."""
    import numpy as np

    place = np.arange(start, start + count) % (2 * SIDE_PX)
    return np.minimum(place, 2 * SIDE_PX - 1 - place)


def write_trivial_network(path: Path, model: str) -> None:
    """A model whose road probability is how bright red is, with the tiles of another model.

    It is the textbook's U-Net, two channels wide, with weights that hand the red band through its
    uppermost skip connection.
    """
    import dataclasses

    import torch

    from aftermap.core.cards import read_package
    from aftermap.core.networks.package import save_package
    from aftermap.core.networks.unet import build_network

    steepness, middle = 20.0, 0.5
    architecture = {"name": "textbook_unet", "bands": 3, "heads": ["road"], "width": 2}
    network = build_network(architecture)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.fill_(
                    1.0 if "running_var" in name or (value.ndim == 1 and name.endswith("weight")) else 0.0
                )
        first, last = network.down[0], network.up[-1]
        for layer, channel in ((first[0][0], 0), (first[1][0], 0), (last[0][0], 2), (last[1][0], 0)):
            layer.weight[0, channel, 1, 1] = 1.0
        network.head.weight[0, 0] = steepness
        network.head.bias[0] = -steepness * middle
    card = dataclasses.replace(
        read_package(Path(model)).card,
        name="trivial",
        architecture=architecture,
        radiometry={"scaling": "type", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
        threshold=THRESHOLD,
        threshold_low=None,
        calibration={},
    )
    save_package(path, network.eval(), card)


# ------------------------------------------------------------------------------------- in the parent


def measure(what: str, *arguments: str | Path) -> Cost:
    """Run one of the functions above in a fresh process with one thread."""
    command = [sys.executable, __file__, "--child", what, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GDAL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"The bench stopped: {what} ended with status {done.returncode}.")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def run_bench(model: Path, repeats: int, is_full: bool, folder: Path) -> None:
    """Measure everything and print one table."""
    inputs, runs = folder / "inputs", iter(range(1000))

    def fresh() -> Path:
        path = folder / f"run{next(runs)}"
        path.mkdir()
        return path

    inputs.mkdir()
    say("Making the rasters")
    measure("prepare", inputs, model, "full" if is_full else "")
    scene, aoi, trivial = inputs / "scene.tif", inputs / "aoi.gpkg", inputs / "trivial.aftermap"
    whole, small, plain = [], [], []
    for number in range(1, repeats + 1):
        say(f"Round {number} of {repeats}: Segment Roads, the plain loop, a small area")
        whole.append(measure("segment", scene, model, fresh(), ""))
        plain.append(measure("paste", scene, model, fresh()))
        small.append(measure("segment", scene, model, fresh(), aoi))
    say("Memory at both sizes")
    network = model if is_full else trivial
    memory = [measure("segment", inputs / name, network, fresh(), "") for name in ("small.tif", "large.tif")]

    print(f"\n{model.name} on {processor()}, one thread, medians of {repeats} rounds")
    print_times(whole, plain, small)
    print(f"\nWith {'the model' if is_full else 'a trivial network on the same tiles'}, vectors included")
    print_memory(memory)


def print_times(whole: Sequence[Cost], plain: Sequence[Cost], small: Sequence[Cost]) -> None:
    """Segment Roads beside the plain loop, and a small area beside the whole."""
    per_16 = MEGAPIXELS / (SIDE_PX**2 / 1e6)
    print_row(f"{SIDE_PX} × {SIDE_PX} px", "CPU-s / 16 Mpx", "outside forward", "wall s", "peak MB")
    for name, costs in (("Segment Roads", whole), ("plain loop", plain)):
        print_row(
            name,
            f"{median(c.cpu_s for c in costs) * per_16:.1f}",
            f"{median(1 - c.forward_s / c.cpu_s for c in costs):.1%}",
            f"{median(c.wall_s for c in costs):.1f}",
            f"{median(c.peak_mb for c in costs):.0f}",
        )
    for step in whole[0].steps:
        cpu_s = median(c.steps.get(step, 0.0) for c in whole)
        print_row(f"  Segment Roads, {step.lower()}", f"{cpu_s * per_16:.1f}")
    print_row("ratio to the plain loop", f"{ratio(whole, plain):.2f}")
    print_row(f"{AOI_SHARE:.0%} area of interest / the whole", f"{ratio(small, whole):.1%}")


def print_memory(memory: Sequence[Cost]) -> None:
    """The same town at two sizes."""
    print_row("", "peak MB", "road", "features", "CPU-s")
    for side, cost in zip((SIDE_PX, LARGE_SIDE_PX), memory, strict=True):
        values = (f"{cost.peak_mb:.0f}", f"{cost.road_share:.1%}", str(cost.features), f"{cost.cpu_s:.0f}")
        print_row(f"{side} × {side} px", *values)
    print_row("ratio", f"{memory[1].peak_mb / memory[0].peak_mb:.2f}")


def print_row(name: str, *values: str) -> None:
    """One line of a table."""
    print(f"{name:34}" + "".join(f"{value:>17}" for value in values))


def ratio(these: Sequence[Cost], those: Sequence[Cost]) -> float:
    """Median of the ratios of processor time, round by round."""
    return median(a.cpu_s / b.cpu_s for a, b in zip(these, those, strict=True))


def say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


def processor() -> str:
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, *arguments = sys.argv[2:]
        print(json.dumps(asdict({"segment": segment, "paste": paste, "prepare": prepare}[what](*arguments))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or path of a model; default: the best of the starter models")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="measure memory with the real network, too: long")
    arguments = parser.parse_args()
    from aftermap.core.cards import find_package

    model = find_package(arguments.model or "", task="roads").path.absolute()
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="build", prefix="bench-") as folder:
        run_bench(model, arguments.repeats, arguments.full, Path(folder).absolute())


if __name__ == "__main__":
    main()
