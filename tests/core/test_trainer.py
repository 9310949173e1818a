"""The training loop: what it learns, records, survives, and how several processes are one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aftermap.core.datasets.crops import CropSettings, CropSource
from aftermap.core.datasets.folders import TileArrays
from aftermap.core.errors import DeviceError, JobError, OutputError
from aftermap.core.networks.unet import SegmentationNetwork
from aftermap.core.training.distributed import GlobalBatchNorm2d, is_leader, join_processes
from aftermap.core.training.losses import build_loss, constant_loss, sum_heads
from aftermap.core.training.schedules import Plateau, Schedule, build_schedule
from aftermap.core.training.trainer import Trainer, TrainerSettings, TrainingStep

STEPS, BATCH = 12, 5


class SmallNetwork(SegmentationNetwork):
    """Two convolutions with batch normalisation between them."""

    def __init__(self, memory_crops: int = 99) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.bands, self.heads, self.stride_px = 3, ("road",), 1
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 1, 3, padding=1),
        )
        self.memory_crops = memory_crops
        self.seen: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(len(image))
        if len(image) > self.memory_crops:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory")
        y: Tensor = self.body(image)
        return y


def make_trainer(
    folder: Path,
    network: SegmentationNetwork | None = None,
    schedule: Schedule | None = None,
    loss: str = "bce_dice",
    **changes,
) -> Trainer:
    rng = np.random.default_rng(0)
    tiles = []
    for i in range(3):
        labels = np.zeros((2, 64, 64), dtype=np.uint8)
        labels[0, 20 + 5 * i : 30 + 5 * i] = 1
        image = rng.integers(0, 100, (3, 64, 64)) + 100 * labels[0]
        tiles.append(TileArrays(str(i), image.astype(np.uint8), labels, 0.8))
    source = CropSource(tiles, [1.0] * 3, CropSettings(32, scale_jitter=1.2, augmentation="mild"))
    settings = {
        "steps": STEPS,
        "rounds": 3,
        "learning_rate": 0.02,
        "seed": 9,
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
    }
    return Trainer(
        network or SmallNetwork(),
        [source],
        [BATCH],
        sum_heads([build_loss(loss, 0.15)]),
        TrainerSettings(**{**settings, **changes}),
        torch.device("cpu"),
        False,
        folder,
        schedule,
    )


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in trainer.averaged.state_dict().items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_it_learns_and_tells_what_each_step_was_like(tmp_path: Path):
    trainer = make_trainer(tmp_path, steps=60)
    steps = list(trainer.run())
    assert [s.step for s in steps] == list(range(1, 61))
    assert all(s.loss > s.bce > 0 for s in steps)  # the loss is BCE + Dice
    assert all(0.05 < s.class_share < 0.6 for s in steps)
    assert all(s.memory_mb is None or s.memory_mb > 10 for s in steps)
    share = float(np.mean([s.class_share for s in steps]))
    assert np.mean([s.bce for s in steps[-10:]]) < 0.5 * constant_loss(share)
    assert [s.learning_rate for s in steps] == pytest.approx(
        [0.02 * build_schedule("cosine", 60).factor(i) for i in range(60)]
    )


def test_unweighted_cross_entropy_is_recorded_whatever_the_loss(tmp_path: Path):
    first = {name: next(make_trainer(tmp_path, loss=name).run()) for name in ("bce", "weighted_bce", "dice")}
    assert len({s.bce for s in first.values()}) == 1
    assert first["bce"].loss == first["bce"].bce != first["weighted_bce"].loss


@pytest.mark.parametrize("schedule", ["cosine", "step", "plateau"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path, schedule: str):
    def run(trainer: Trainer, until: int | None = None) -> list[TrainingStep]:
        taken = []
        for news in trainer.run():
            taken.append(news)
            if trainer.is_round_end:
                trainer.observe(0.5)  # never better, so that a plateau acts
            if news.step == until:
                break
        return taken

    def build() -> Schedule:
        return Plateau(patience=0) if schedule == "plateau" else build_schedule(schedule, STEPS, 1, 5)

    whole = make_trainer(tmp_path / "whole", schedule=build())
    rates = [s.learning_rate for s in run(whole)]
    run(make_trainer(tmp_path / "broken", schedule=build()), until=10)  # two steps after a checkpoint
    resumed = make_trainer(tmp_path / "broken", schedule=build())
    resumed.restore()
    assert resumed.step == 8
    assert [s.learning_rate for s in run(resumed)] == rates[8:]
    assert len(set(rates)) > 1
    assert_equal(weights(whole), weights(resumed))


def test_a_killed_process_loses_nothing_but_the_round_it_was_in(tmp_path: Path):
    killed = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "killed"), "10"], env=environment(), timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    resumed = make_trainer(tmp_path / "killed")
    resumed.restore()
    assert resumed.step == 8
    whole = make_trainer(tmp_path / "whole")
    for trainer in (resumed, whole):
        list(trainer.run())
    assert_equal(weights(whole), weights(resumed))


def test_accumulated_batches_are_one_step(tmp_path: Path):
    trainer = make_trainer(tmp_path, accumulate=2)
    assert [s.step for s in trainer.run()] == list(range(1, STEPS + 1))
    assert len(trainer.network.seen) == 2 * STEPS


def test_when_memory_runs_out_the_batch_is_halved_and_it_says_so(tmp_path: Path):
    trainer = make_trainer(tmp_path, SmallNetwork(memory_crops=3))
    steps = list(trainer.run())
    assert trainer.network.seen == [5] + [3, 2] * STEPS
    notices = [s.notice for s in steps if s.notice]
    assert len(notices) == 1
    assert "at step 1 with 5 crops at once" in notices[0]
    assert "takes 3 at once" in notices[0]
    resumed = make_trainer(tmp_path, SmallNetwork(memory_crops=3))
    resumed.restore()
    assert resumed.parts == 2  # it does not run out of memory again


def test_memory_for_not_even_one_crop_is_a_sentence(tmp_path: Path):
    with pytest.raises(DeviceError, match="too little memory for 1 crops of 32 px"):
        list(make_trainer(tmp_path, SmallNetwork(memory_crops=0)).run())


def test_another_error_is_not_taken_for_a_lack_of_memory(tmp_path: Path):
    class Broken(SmallNetwork):
        def forward(self, image: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(make_trainer(tmp_path, Broken()).run())


def test_a_loss_that_is_no_number_ends_the_run_with_advice_and_no_checkpoint(tmp_path: Path):
    with pytest.raises(JobError, match="train with a lower one"):
        list(make_trainer(tmp_path, learning_rate=1e30).run())
    checkpoint = make_trainer(tmp_path)
    checkpoint.restore()
    assert all(v.isfinite().all() for v in weights(checkpoint).values())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_a_sentence_and_the_checkpoint_before_stays(tmp_path: Path):
    trainer = make_trainer(tmp_path)
    run = trainer.run()
    for news in run:
        if news.step == 4:
            break
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.tmp").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="the disk is full"):
        list(run)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert not (tmp_path / "checkpoint.tmp").is_symlink()
    resumed = make_trainer(tmp_path)
    resumed.restore()
    assert resumed.step == 4
    assert [s.step for s in resumed.run()] == list(range(5, STEPS + 1))


def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half of somethi")
    with pytest.raises(OutputError, match="is damaged"):
        make_trainer(tmp_path).restore()


def test_the_range_test_uses_the_rate_that_it_is_given(tmp_path: Path):
    trainer = make_trainer(tmp_path)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    trainer.try_rate(0.0)
    assert torch.equal(before["body.0.weight"], trainer.network.state_dict()["body.0.weight"])
    losses = [trainer.try_rate(0.02) for _ in range(15)]
    assert np.mean(losses[-5:]) < losses[0]
    assert not any(tmp_path.iterdir())


def test_global_batch_norm_alone_is_batch_norm():
    torch.manual_seed(0)
    plain, ours = nn.BatchNorm2d(4), GlobalBatchNorm2d(4)
    results = []
    for norm in (plain, ours):
        torch.manual_seed(1)
        x = (torch.randn(3, 4, 8, 8) * 3 + 50).requires_grad_()
        y = norm(x)
        (y * torch.randn(y.shape)).sum().backward()
        results.append((y, x.grad, norm.weight.grad, norm.running_mean, norm.running_var, norm.eval()(x)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert plain.state_dict().keys() == ours.state_dict().keys()


def environment(**more: str) -> dict[str, str]:
    """For a process that runs this file."""
    path = os.pathsep.join(sys.path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads()), **more}


def train_until_killed(folder: Path, step: int) -> None:
    for news in make_trainer(folder).run():
        if news.step == step:
            os.kill(os.getpid(), signal.SIGKILL)


def run_processes(count: int, folder: Path) -> list[dict]:
    """Run this file as that many processes, started as torchrun starts them; what each of them tells."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / str(rank))],
            env=environment(**world, RANK=str(rank), LOCAL_RANK=str(rank), GLOO_SOCKET_IFNAME="lo"),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        answers = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * count
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def train_as_process(folder: Path) -> dict:
    """What one process of several does: half of the run, and the rest from the leader's checkpoint."""
    losses = []
    with join_processes("cpu"):
        trainer = make_trainer(folder, schedule=Plateau(patience=0), loss="focal_dice")
        for news in trainer.run():
            losses.append(news)
            if trainer.is_round_end:
                trainer.observe(0.5 if is_leader() else 99.0)  # the leader's score counts
            if news.step == 8:
                break
        trainer = make_trainer(folder, schedule=Plateau(patience=0), loss="focal_dice")
        trainer.restore()
        losses += list(trainer.run())
    return {
        "loss": [s.loss for s in losses],
        "bce": [s.bce for s in losses],
        "class_share": [s.class_share for s in losses],
        "rate": [s.learning_rate for s in losses],
        "crops": trainer.network.seen[0],
        "weights": [v.double().sum().item() for v in trainer.averaged.state_dict().values()],
        "files": sorted(path.name for path in folder.glob("*")),
    }


def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path):
    alone = train_as_process(tmp_path / "alone")
    together = run_processes(2, tmp_path)
    assert [one["crops"] for one in together] == [3, 2]
    assert alone["crops"] == BATCH
    assert len(alone["loss"]) == STEPS
    assert alone["loss"][-1] < 0.7 * alone["loss"][0]
    for one in together:
        for name in ("loss", "bce", "class_share", "rate", "weights"):
            assert one[name] == pytest.approx(alone[name], rel=1e-4, abs=2e-5), name
    assert all(one["loss"] == together[0]["loss"] for one in together)
    assert [one["files"] for one in together] == [["checkpoint.safetensors"], []]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        train_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(train_as_process(Path(sys.argv[1]))))
