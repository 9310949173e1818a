"""Write a folder of generated scenes with exact labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import JobError, OutputError
from .jobs import Event, GenerateScenes, Progress, Result


def generate_scenes(job: GenerateScenes) -> Iterator[Event]:
    """Generate the scenes one after the other; a scene whose files are all there is complete.

    Raises:
        JobError: A parameter makes no sense.
        OutputError: The folder cannot be written.
    """
    if job.count < 1 or job.size_px < 64 or (job.gsd_m is not None and not 0.1 <= job.gsd_m <= 5):
        raise JobError("Give at least 1 scene of at least 64 px, at a ground resolution of 0.1 to 5 m.")
    if not job.damage and (job.hazard or job.damage_share is not None):
        raise JobError("A hazard and a share of damaged buildings go with damage: ask for that too.")
    if job.damage_share is not None and not 0 <= job.damage_share <= 1:
        raise JobError(f"The share of damaged buildings cannot be {job.damage_share}: give 0 to 1.")
    from .datasets.synthetic import STYLES
    from .datasets.synthetic_ruins import HAZARDS

    if job.style and job.style not in STYLES:
        raise JobError(f"There is no style {job.style!r}: choose one of {', '.join(STYLES)}.")
    if job.hazard and job.hazard not in HAZARDS:
        raise JobError(f"There is no hazard {job.hazard!r}: choose one of {', '.join(HAZARDS)}.")

    write = _write_pair if job.damage else _write_scene
    coarsest_m = 0.6 if job.damage else 1.0
    for i in range(job.count):
        rng = np.random.default_rng((job.seed, i))
        gsd_m = job.gsd_m or round(float(np.exp(rng.uniform(np.log(0.3), np.log(coarsest_m)))), 2)
        try:
            write(job, i, int(rng.integers(2**31)), gsd_m)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(
                f"The scenes cannot be written to {job.folder} ({reason}): choose another."
            ) from error
        yield Progress((i + 1) / job.count, f"Generating: scene {i + 1} of {job.count}")
    yield Result({"folder": str(Path(job.folder))}, {"scenes": job.count})


def _write_scene(job: GenerateScenes, number: int, seed: int, gsd_m: float) -> None:
    from .datasets.synthetic import generate_scene, write_scene

    folder, stem = Path(job.folder), f"{job.seed}_{number:04d}"
    scene = generate_scene(seed, job.size_px, gsd_m, job.style)
    masks = {"masks": scene.road * 255, "building_masks": scene.building * 255}
    for part, values in {**masks, "occlusion_masks": scene.occluded}.items():
        _write_png(folder / part / f"{stem}.png", values.astype(np.uint8))
    (folder / "images").mkdir(exist_ok=True)
    write_scene(scene, folder / "images" / f"{stem}.tif")


def _write_pair(job: GenerateScenes, number: int, seed: int, gsd_m: float) -> None:
    from .datasets.synthetic_damage import generate_pair
    from .datasets.xbd_files import write_georeferenced_pair, write_xbd_pair

    folder = Path(job.folder)
    pair = generate_pair(seed, job.size_px, gsd_m, job.style, share=job.damage_share, hazard=job.hazard)
    stem = write_xbd_pair(pair, folder, f"generated-{pair.hazard}-{job.seed}-{number:04d}", number)
    write_georeferenced_pair(pair, folder / "scenes" / stem)


def _write_png(path: Path, values: NDArray[np.uint8]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
