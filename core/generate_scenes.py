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
    from .datasets.synthetic import STYLES, generate_scene, write_scene

    if job.style and job.style not in STYLES:
        raise JobError(f"There is no style {job.style!r}: choose one of {', '.join(STYLES)}.")

    folder = Path(job.folder)
    for i in range(job.count):
        rng = np.random.default_rng((job.seed, i))
        gsd_m = job.gsd_m or round(float(np.exp(rng.uniform(np.log(0.3), np.log(1.0)))), 2)
        scene = generate_scene(int(rng.integers(2**31)), job.size_px, gsd_m, job.style)
        stem = f"{job.seed}_{i:04d}"
        masks = {"masks": scene.road * 255, "building_masks": scene.building * 255}
        try:
            for part, values in {**masks, "occlusion_masks": scene.occluded}.items():
                _write_png(folder / part / f"{stem}.png", values.astype(np.uint8))
            (folder / "images").mkdir(exist_ok=True)
            write_scene(scene, folder / "images" / f"{stem}.tif")
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(
                f"The scenes cannot be written to {folder} ({reason}): choose another."
            ) from error
        yield Progress((i + 1) / job.count, f"Generating: scene {i + 1} of {job.count}")
    yield Result({"folder": str(folder)}, {"scenes": job.count})


def _write_png(path: Path, values: NDArray[np.uint8]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
