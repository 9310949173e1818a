"""A worker for the tests of Assess Damage: writes a small layer of buildings by the contract.

It is started as the real one is, by ``python -I -u damage_peer.py worker``. Every line that it gets goes to
the file that ``AFTERMAP_PEER_LOG`` names. A model that is called ``fail`` is refused; one whose name begins
with ``parts`` tells buildings before the end, and then fails or waits to be cancelled, as the name says.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from damage_files import LEVELS, SIDE, counts, write_buildings
from osgeo import gdal, osr

COUNT, PART = 40, 12


def say(event, /, **fields):
    print(json.dumps({"type": event, **fields}), flush=True)


def write_raster(path):
    data = gdal.GetDriverByName("GTiff").Create(path, 32, 32, 4, gdal.GDT_Byte)
    data.SetGeoTransform((500000, 4, 0, 4100000, 0, -4))
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32637)
    data.SetProjection(reference.ExportToWkt())
    for band in range(1, 5):
        data.GetRasterBand(band).Fill(200)
        data.GetRasterBand(band).SetNoDataValue(255)
    data.FlushCache()


def tell_parts(folder):
    """Two parts, the second one after one whose file is gone."""
    for name, first in (("one", 0), ("gone", 0), ("two", PART)):
        path = folder / f"{name}.gpkg"
        if name != "gone":
            write_buildings(path, PART, first=first)
        say("Partial", layer="buildings", path=str(path), count=PART, values={"levels": LEVELS})


def assess(job):
    if job["model"] == "fail":
        return say("Failure", kind="RasterError", message="The two images do not overlap.", traceback="")
    if job["model"].startswith("parts"):
        tell_parts(Path(job["output_buildings"]).parent)
    if job["model"] == "parts, fail":
        return say("Failure", kind="RasterError", message="The image ends here.", traceback="")
    if job["model"] == "parts, wait":
        log(sys.stdin.readline())
        return say("Failure", kind="Cancelled", message="Cancelled.", traceback="")
    say("Progress", fraction=0.5, message="Window 1 of 2")
    say("Warning", message="The images fit badly: the shift differs from place to place.")
    outputs = {}
    if job["output_buildings"]:
        outputs["buildings"] = write_buildings(job["output_buildings"], COUNT)
    if job["output_damage"]:
        write_raster(job["output_damage"])
        outputs["damage"] = job["output_damage"]
    if job["output_summary"]:
        Path(job["output_summary"]).write_text("level,buildings\n", encoding="utf-8")
        outputs["summary"] = job["output_summary"]
    manifest = Path(next(iter(outputs.values()))).with_suffix(".json")
    manifest.write_text("{}", encoding="utf-8")
    values = {
        "counts": counts(COUNT),
        "areas_m2": {name: count * SIDE**2 for name, count in counts(COUNT).items()},
        "levels": LEVELS,
        "shift_m": [2.4, -0.6],
        "footprint_shift_m": [0.0, 0.0],
        "model": "made",
        "device": "the CPU",
        "precision": "float32",
        "buildings": COUNT,
    }
    return say("Result", outputs={**outputs, "manifest": str(manifest)}, values=values)


def log(line):
    with Path(os.environ["AFTERMAP_PEER_LOG"]).open("a", encoding="utf-8") as file:
        file.write(line)


for line in iter(sys.stdin.readline, ""):
    log(line)
    job = json.loads(line)
    if job["type"] == "AssessDamage":
        assess(job)
    elif job["type"] == "DescribeRaster":
        say("Failure", kind="RasterError", message="Cannot be opened.", traceback="")
