"""What a run promises: unfinished work is kept and found again, outputs appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aftermap.core.errors import JobError, OutputError
from aftermap.core.manifest import embed_in_geopackage
from aftermap.core.outputs import Output, check_destinations, check_space, commit
from aftermap.core.runs import cache_folder, digest, file_identity, open_work, trim_cache

JOB = {"flow": "test", "extent": (0.0, 1.5), "name": "Straße"}


# ------------------------------------------------------------------------------------ unfinished work


def test_the_same_job_finds_its_folder_again_and_another_does_not(tmp_path: Path) -> None:
    with open_work(JOB, cache=str(tmp_path)) as work:
        (work.path / "rows").write_bytes(b"123")
        first = work.path
    with open_work(json.loads(json.dumps(JOB)), cache=str(tmp_path)) as work:
        assert work.path == first
        assert (work.path / "rows").read_bytes() == b"123"
    with open_work({**JOB, "name": "other"}, cache=str(tmp_path)) as work:
        assert work.path != first


def test_without_resume_the_run_starts_anew(tmp_path: Path) -> None:
    with open_work(JOB, cache=str(tmp_path)) as work:
        (work.path / "rows").write_bytes(b"123")
        work.mark("prediction", {}, {})
    with open_work(JOB, cache=str(tmp_path), resume=False) as work:
        assert not (work.path / "rows").exists()
        assert work.facts("prediction", {}) is None


def test_two_runs_of_one_job_never_share_a_folder(tmp_path: Path) -> None:
    with open_work(JOB, cache=str(tmp_path)) as first, open_work(JOB, cache=str(tmp_path)) as second:
        assert first.path != second.path
        first.discard()
        assert not first.path.exists()
        assert second.path.exists()


def test_a_killed_process_leaves_its_work_but_no_lock(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal\n"
        "from aftermap.core.runs import open_work\n"
        "work = open_work({'job': 1}, cache=sys.argv[1])\n"
        "(work.path / 'rows').write_bytes(b'1')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    with open_work({"job": 1}, cache=str(tmp_path)) as work:
        assert (work.path / "rows").read_bytes() == b"1"


def test_a_finished_run_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    with open_work(JOB, cache=str(tmp_path)) as work:
        (work.path / "sub").mkdir()
        (work.path / "sub" / "file").write_bytes(b"1")
        work.discard()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_stage_counts_as_done_only_with_the_parameters_that_it_was_done_with(tmp_path: Path) -> None:
    with open_work(JOB, cache=str(tmp_path)) as work:
        assert work.facts("vectors", {"threshold": 0.5}) is None
        work.mark("vectors", {"threshold": 0.5}, {"polygons": 3})
        assert work.facts("vectors", {"threshold": 0.5}) == {"polygons": 3}
        assert work.facts("vectors", {"threshold": 0.4}) is None
        (work.path / "vectors.done.json").write_text('{"of": ')  # as a power cut leaves it
        assert work.facts("vectors", {"threshold": 0.5}) is None


def test_the_cache_gives_up_its_oldest_work_first_and_never_what_is_in_use(tmp_path: Path) -> None:
    paths = []
    for age in range(4):
        with open_work({"job": age}, cache=str(tmp_path)) as work:
            (work.path / "rows").write_bytes(bytes(1000))
            paths.append(work.path)
        os.utime(work.path, (1000 + age, 1000 + age))
    with open_work({"job": 0}, cache=str(tmp_path)) as busy:
        os.utime(busy.path, (1000, 1000))
        assert trim_cache(str(tmp_path), 2500) == 2000
        assert [path.exists() for path in paths] == [True, False, False, True]
        assert trim_cache(str(tmp_path)) == 1000
        assert busy.path.exists()
    assert trim_cache(str(tmp_path)) == 1000
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_cache_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cache folder .*file.* cannot be used"):
        open_work(JOB, cache=str(tmp_path / "file"))


def test_a_file_that_changed_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"1")
    before = file_identity(str(path))
    path.write_bytes(b"22")
    assert digest(file_identity(str(path))) != digest(before)
    assert file_identity("/vsicurl/https://example.org/a.tif") == {
        "path": "/vsicurl/https://example.org/a.tif"
    }


def test_the_users_cache_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "aftermap"
    assert cache_folder("elsewhere") == Path("elsewhere")


# ------------------------------------------------------------------------------------------- outputs


def make_files(folder: Path, names: tuple[str, ...] = ("a.tif", "b.gpkg")) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode() * 1000)
    return [folder / name for name in names]


def outputs_for(made: list[Path], folder: Path) -> list[Output]:
    return [Output(path, folder / path.name) for path in made]


def test_outputs_are_put_in_place_with_the_folders_above_them(tmp_path: Path) -> None:
    made = make_files(tmp_path / "work")
    target = tmp_path / "new" / "folder"
    shares = list(commit(outputs_for(made, target), "key"))
    assert shares[-1] == 1.0
    assert sorted(p.name for p in target.iterdir()) == ["a.tif", "b.gpkg"]
    assert (target / "a.tif").read_bytes() == b"a.tif" * 1000
    assert not any(path.exists() for path in made)


def test_a_commit_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    made = make_files(tmp_path / "work")
    steps = commit(outputs_for(made, tmp_path / "new" / "folder"), "key")
    next(steps)
    steps.close()
    assert not (tmp_path / "new").exists()
    assert all(path.exists() for path in made)


def test_old_outputs_stay_until_all_new_ones_are_there(tmp_path: Path) -> None:
    made = make_files(tmp_path / "work")
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.tif").write_text("old")
    outputs = [*outputs_for(made, target), Output(tmp_path / "missing", target / "c.gpkg")]
    with pytest.raises(FileNotFoundError):
        list(commit(outputs, "key"))
    assert all(path.exists() for path in made)
    assert [(p.name, p.read_text()) for p in target.iterdir()] == [("a.tif", "old")]
    steps = commit(outputs_for(made, target), "key")
    next(steps)
    assert (target / "a.tif").read_text() == "old"
    list(steps)
    assert (target / "a.tif").read_bytes() == b"a.tif" * 1000


def test_what_belongs_to_an_old_output_goes_with_it(tmp_path: Path) -> None:
    made = make_files(tmp_path / "work")
    target = tmp_path / "out"
    make_files(target, ("a.tif", "a.tif.aux.xml", "a.tif.ovr", "b.gpkg", "b.gpkg-wal", "b.gpkg-shm", "a.qml"))
    list(commit(outputs_for(made, target), "key"))
    assert sorted(p.name for p in target.iterdir()) == ["a.qml", "a.tif", "b.gpkg"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root mounts a disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_leaves_nothing_and_keeps_what_was_made(tmp_path: Path, small_disk: Path) -> None:
    work = tmp_path / "work"
    make_files(work)
    (work / "b.gpkg").write_bytes(bytes(400_000))
    with pytest.raises(OutputError, match=r"b\.gpkg cannot be written \(the disk is full\)"):
        list(commit(outputs_for([work / "a.tif", work / "b.gpkg"], small_disk / "new"), "key"))
    assert list(small_disk.iterdir()) == []
    assert (work / "b.gpkg").exists()
    (work / "b.gpkg").write_bytes(bytes(100_000))
    list(commit(outputs_for([work / "a.tif", work / "b.gpkg"], small_disk / "new"), "key"))
    assert sorted(p.name for p in (small_disk / "new").iterdir()) == ["a.tif", "b.gpkg"]


def test_a_disk_without_room_is_refused_before_the_run(small_disk: Path) -> None:
    with pytest.raises(OutputError, match=r"needs about 2.0 GB in .*new"):
        check_space(small_disk / "new", 2_000_000_000)
    check_space(small_disk / "new", 1000)


def test_an_error_on_a_full_disk_is_named_as_such(small_disk: Path) -> None:
    with pytest.raises(OutputError, match=r"disk of .* is full"), open_work(JOB, cache=str(small_disk)):
        raise RuntimeError("database or disk is full, says a library in words of its own")


def test_destinations_are_looked_at_and_left_alone(tmp_path: Path) -> None:
    check_destinations({"polygons": tmp_path / "new" / "deep" / "a.gpkg"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("destinations", "error", "part"),
    [
        ({"probability": "a.png"}, JobError, r"choose a name that ends in \.tif"),
        ({"polygons": "a.shp"}, JobError, r"choose a name that ends in \.gpkg"),
        ({"polygons": "a.gpkg", "centrelines": "x/../a.gpkg"}, JobError, "Two outputs"),
        ({"probability": "scene.tif"}, JobError, "is read by this run"),
        ({"polygons": "folder.gpkg"}, OutputError, "is a folder"),
        ({"polygons": "scene.tif/sub/a.gpkg"}, OutputError, r"scene\.tif is a file"),
        ({"polygons": "/proc/sub/a.gpkg"}, OutputError, "/proc cannot be written to"),
    ],
)
def test_destinations_that_cannot_be_written_are_one_sentence(
    tmp_path: Path, destinations: dict[str, str], error: type[Exception], part: str
) -> None:
    (tmp_path / "scene.tif").write_text("")
    (tmp_path / "folder.gpkg").mkdir()
    (tmp_path / "x").mkdir()
    paths = {name: tmp_path / path for name, path in destinations.items()}
    with pytest.raises(error, match=part):
        check_destinations(paths, (str(tmp_path / "scene.tif"),))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_file_that_another_program_has_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_text("old")
    with path.open(), subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        check_destinations({"probability": path})  # this process is not another
    with path.open() as file, subprocess.Popen(["sleep", "60"], stdin=file) as other:
        with pytest.raises(OutputError, match=r"a\.tif is open in sleep"):
            check_destinations({"probability": path})
        other.kill()
    check_destinations({"probability": path})


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_database_that_is_in_use_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.gpkg"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA journal_mode = {mode}")
    database.execute("CREATE TABLE t (a)")
    database.execute("BEGIN")
    database.execute("SELECT * FROM t").fetchall()
    with pytest.raises(OutputError, match="is open in another program"):
        check_destinations({"polygons": path})
    database.execute("COMMIT")
    database.close()
    check_destinations({"polygons": path})


def test_an_old_output_that_is_no_database_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").write_text("no database")
    check_destinations({"polygons": tmp_path / "a.gpkg"})


def test_what_was_made_on_another_disk_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    made = make_files(tmp_path / "work")
    list(commit(outputs_for(made, tmp_path / "out"), "key"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.tif", "b.gpkg"]
    assert (tmp_path / "out" / "b.gpkg").read_bytes() == b"b.gpkg" * 1000


def test_the_manifest_is_metadata_that_gdal_reads(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    pyogrio = pytest.importorskip("pyogrio")
    path = tmp_path / "a.gpkg"
    geopandas.GeoDataFrame({"a": [1]}, geometry=geopandas.points_from_xy([0], [0]), crs=4326).to_file(path)
    embed_in_geopackage(path, {"old": True})
    embed_in_geopackage(path, {"model": "a <b> & 'ç'"})
    metadata = pyogrio.read_info(path)["dataset_metadata"]
    assert json.loads(metadata["AFTERMAP_MANIFEST"]) == {"model": "a <b> & 'ç'"}
    assert len(geopandas.read_file(path)) == 1
