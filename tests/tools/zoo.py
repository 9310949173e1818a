"""Run Segment Roads on a folder of odd rasters: each gives valid roads, or a refusal in one sentence.

The folder holds ``index.csv`` with the columns ``dir``, ``file``, ``what`` and ``as_opened_by_rasterio``.
A raster without CRS is run twice: it must be refused first, and then run with ``--gsd``.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pyogrio
import rasterio
from rasterio.warp import transform_bounds

APPROXIMATE_GSD_M = "0.6"
TIMEOUT_S = 600
# What has to be refused, and words of the reason: damaged files, nothing but nodata, pixels too large to
# show a road, mosaics whose files are elsewhere.
COARSE = "on the ground"
REFUSED = {
    "invalid_tif": "no raster",
    "truncated": "cannot be read to its end",
    "jpeg_corrupt": "cannot be read to its end",
    "u16_all_nodata_4band": "no valid pixel",
    "u8_rgb_utm_nodata0": COARSE,
    "u8_rgba_alpha": COARSE,
    "gcp_vrt": COARSE,
    "palette_colormap": COARSE,
    "naip_4band_2009": COARSE,
    "derived_vrt_mosaic": "missing",
}

warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)


def segment(raster: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command line into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        str(Path(sys.executable).with_name("aftermap")),
        "segment-roads",
        str(raster),
        "--out",
        str(out),
    ]
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def faults_of_refusal(done: subprocess.CompletedProcess[str], out: Path, reason: str) -> list[str]:
    """Why this is not a refusal in a sentence for this reason; empty if it is."""
    said = [line for line in done.stderr.splitlines() if line.strip()]
    faults = []
    if done.returncode == 0:
        faults.append("was not refused")
    if "Traceback" in done.stderr or not said or reason not in said[-1]:
        faults.append(f"no sentence but {done.stderr[-300:]!r}")
    if out.exists() and any(out.iterdir()):
        faults.append(f"left {[path.name for path in out.iterdir()]}")
    return faults


def faults_of_result(done: subprocess.CompletedProcess[str], raster: Path, out: Path) -> list[str]:
    """Why these are not the roads of the raster; empty if they are."""
    if done.returncode:
        return [done.stderr.strip()[-300:]]
    probabilities = sorted(out.glob("*.tif"))
    vectors = sorted(out.glob("*.gpkg"))
    if len(probabilities) != 1 or len(vectors) != 2:
        return [f"wrote {[path.name for path in out.iterdir()]}"]
    faults = []
    with rasterio.open(raster) as source, rasterio.open(probabilities[0]) as result:
        if source.crs is not None:
            if result.crs != source.crs:
                faults.append(f"CRS {result.crs} for {source.crs}")
            wanted = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
            got = transform_bounds(result.crs, "EPSG:4326", *result.bounds)
            pixel = max(wanted[2] - wanted[0], wanted[3] - wanted[1]) / min(result.width, result.height)
            # South-up and rotated rasters too: bounds are those of the corners.
            if max(abs(a - b) for a, b in zip(sorted(wanted), sorted(got), strict=True)) > pixel:
                faults.append(f"lies at {got}, not at {wanted}")
        if result.dtypes != ("uint8",) or result.nodata != 255:
            faults.append(f"probabilities are {result.dtypes} with nodata {result.nodata}")
    for path in vectors:
        info = pyogrio.read_info(path)
        if info["features"] < 0:
            faults.append(f"{path.name} is not readable")
    return faults


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1], "index.csv").is_file():
        sys.exit("Name the folder that has index.csv: make zoo ZOO=path")
    zoo, failed, rasters = Path(sys.argv[1]), 0, 0
    with (zoo / "index.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            raster = zoo / row["dir"] / row["file"]
            out = Path("build", "zoo", row["dir"], raster.stem)
            has_crs = "crs=None" not in row["as_opened_by_rasterio"]
            faults, options, rasters = [], (), rasters + 1
            if not has_crs:
                faults += faults_of_refusal(segment(raster, out), out, REFUSED.get(row["dir"], "no CRS"))
                options = ("--gsd", APPROXIMATE_GSD_M)
            done = segment(raster, out, *options)
            reason = REFUSED.get(row["dir"])
            faults += faults_of_refusal(done, out, reason) if reason else faults_of_result(done, raster, out)
            failed += bool(faults)
            outcome = "; ".join(faults) or (done.stderr.strip().splitlines()[-1] if reason else "roads")
            print(f"{'FAULT' if faults else 'ok':6}{row['dir']}/{row['file']}: {outcome}", flush=True)
    print(f"{rasters - failed} of {rasters} as they should be")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
