"""Networks, their packages and the segmenter around them."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from aftermap.core.cards import Card, read_package
from aftermap.core.errors import DeviceError, ModelError, OutputError
from aftermap.core.networks.context import measure_margin
from aftermap.core.networks.devices import choose_device, fuse_batch_norm
from aftermap.core.networks.package import load_network, save_package
from aftermap.core.networks.segmenter import load_segmenter
from aftermap.core.networks.unet import (
    SegmentationNetwork,
    TextbookUNet,
    UNet,
    build_network,
    load_encoder_weights,
    start_at_prior,
)

ARCHITECTURES = [
    {"name": "unet", "encoder": "mobilenet_v2", "decoder": "light"},
    {"name": "unet", "encoder": "mobilenet_v2", "decoder": "full", "dilated_centre": True},
    {"name": "unet", "encoder": "resnet18", "decoder": "light", "bands": 4},
    {"name": "unet", "encoder": "resnet34", "decoder": "full", "heads": ["road", "building"]},
    {"name": "textbook_unet", "bands": 1, "width": 8},
]


def make_card(architecture: dict, **changes) -> Card:
    bands = architecture.get("bands", 3)
    facts = {
        "name": "tiny",
        "title": "Tiny",
        "task": "roads",
        "architecture": architecture,
        "classes": ({"code": 1, "name": "road", "colour": "#e6005a"},),
        "bands": tuple(f"band {i}" for i in range(bands)),
        "radiometry": {"mean": [0.4] * bands, "std": [0.2] * bands},
        "gsd_m": 0.8,
        "gsd_range_m": (0.2, 2.0),
        "tile_px": 64,
        "margin_px": 32,
        "stride_px": 32,
        "threshold": 0.5,
    }
    return Card(**{**facts, **changes})


def seeded(architecture: dict) -> torch.nn.Module:
    torch.manual_seed(3)
    network = build_network(architecture)
    network.train()
    with torch.no_grad():  # batch statistics that are not those of the start
        network(torch.rand(2, network.bands, 64, 64))
    return network.eval()


@pytest.mark.parametrize(
    "architecture", ARCHITECTURES, ids=lambda a: f"{a['name']}-{a.get('encoder')}-{a.get('decoder')}"
)
def test_logits_have_the_size_of_the_image(architecture):
    network = seeded(architecture)
    logits = network(torch.rand(1, network.bands, 64, 96))
    assert logits.shape == (1, len(network.heads), 64, 96)


def test_encoder_names_are_torchvisions():
    keys = set(UNet("mobilenet_v2").encoder.state_dict())
    assert {"features.0.0.weight", "features.1.conv.0.1.running_var", "features.17.conv.3.bias"} <= keys
    keys = set(UNet("resnet34").encoder.state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer4.2.bn2.weight", "layer2.0.downsample.1.bias"} <= keys


@torch.inference_mode()
@pytest.mark.parametrize(("share", "expected"), [(0.08, 0.08), (0.0, 0.01), (1.0, 0.99)])
@pytest.mark.parametrize("network", [UNet(heads=("road", "building")), TextbookUNet(width=4)])
def test_a_new_network_can_start_at_the_share_of_the_class(network, share: float, expected: float):
    start_at_prior(network, share)
    probability = torch.sigmoid(network.eval()(torch.rand(2, 3, 64, 64)))
    assert probability.mean(dim=(0, 2, 3)).numpy() == pytest.approx(expected, rel=0.5)
    assert torch.sigmoid(network.head.bias).numpy() == pytest.approx(expected)


@torch.inference_mode()
def test_encoder_weights_of_three_bands_serve_four_equal_ones_alike():
    weights = seeded({"name": "unet"}).encoder.state_dict()
    three, four = UNet().eval(), UNet(bands=4).eval()
    load_encoder_weights(three, weights)
    load_encoder_weights(four, weights)
    grey = torch.rand(1, 1, 64, 64)
    for a, b in zip(
        three.encoder(grey.repeat(1, 3, 1, 1)), four.encoder(grey.repeat(1, 4, 1, 1)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_weights_of_another_encoder_are_refused():
    with pytest.raises(ModelError, match="not the weights of this encoder"):
        load_encoder_weights(UNet("resnet18"), UNet("mobilenet_v2").encoder.state_dict())


@torch.inference_mode()
@pytest.mark.parametrize(
    "architecture", ARCHITECTURES, ids=lambda a: f"{a['name']}-{a.get('encoder')}-{a.get('decoder')}"
)
def test_folding_batch_norm_changes_nothing_but_rounding(architecture):
    network = seeded(architecture)
    image = torch.rand(1, network.bands, 64, 64)
    expected = network(image)
    fused = fuse_batch_norm(copy.deepcopy(network))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules())
    torch.testing.assert_close(fused(image), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["model.aftermap", "model"])
def test_package_gives_back_the_network_in_half_precision(tmp_path: Path, name: str):
    network = seeded(ARCHITECTURES[0])
    saved = save_package(tmp_path / name, network, make_card(ARCHITECTURES[0]))
    package = read_package(tmp_path / name)
    assert package.card.to_json() == saved.card.to_json()
    loaded = load_network(package)
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue  # counts training steps, which a package does not carry
        torch.testing.assert_close(
            loaded.state_dict()[key].float(), value.float(), rtol=1e-3, atol=1e-3, msg=key
        )


def test_equal_models_are_equal_files(tmp_path: Path):
    network = seeded(ARCHITECTURES[0])
    for name in ("a.aftermap", "b.aftermap"):
        save_package(tmp_path / name, network, make_card(ARCHITECTURES[0]))
    assert (tmp_path / "a.aftermap").read_bytes() == (tmp_path / "b.aftermap").read_bytes()


def test_damaged_weights_are_refused(tmp_path: Path):
    path = tmp_path / "model"
    save_package(path, seeded(ARCHITECTURES[0]), make_card(ARCHITECTURES[0]))
    content = bytearray((path / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="not those of its card"):
        load_network(read_package(path))


def test_what_is_no_package_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="no model package"):
        read_package(tmp_path / "missing.aftermap")
    with zipfile.ZipFile(tmp_path / "other.aftermap", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="no model package"):
        read_package(tmp_path / "other.aftermap")


def test_package_at_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        save_package(
            tmp_path / "file" / "model.aftermap", seeded(ARCHITECTURES[0]), make_card(ARCHITECTURES[0])
        )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@torch.inference_mode()
def test_segmenter_gives_the_networks_probabilities(tmp_path: Path):
    network = seeded(ARCHITECTURES[3])
    package = save_package(
        tmp_path / "m.aftermap", network, make_card(ARCHITECTURES[3], calibration={"temperature": 2.0})
    )
    tiles = np.random.default_rng(0).random((2, 3, 64, 32), dtype=np.float32)
    for precision, tolerance in (("float32", 5e-3), ("bfloat16", 3e-2)):
        segmenter = load_segmenter(package, "cpu", precision)
        expected = torch.sigmoid(network((torch.from_numpy(tiles) - 0.4) / 0.2) / 2.0).numpy()
        found = segmenter(tiles)
        assert (segmenter.device, segmenter.precision, found.dtype) == ("cpu", precision, np.float32)
        np.testing.assert_allclose(found, expected, atol=tolerance)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(DeviceError, match="'cuda:99'"):
        choose_device("cuda:99")


def test_unknown_architecture_is_named():
    with pytest.raises(ModelError, match="'vnet'"):
        build_network({"name": "vnet"})
    with pytest.raises(ModelError, match="not understood"):
        build_network({"name": "unet", "colour": "red"})


def test_margin_is_how_far_a_border_reaches():
    class Blur(SegmentationNetwork):
        """Sees exactly `reach` pixels around."""

        def __init__(self, reach: int) -> None:
            super().__init__()
            self.bands, self.heads, self.stride_px, self.reach = 1, ("road",), 4, reach

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            side = 2 * self.reach + 1
            return torch.nn.functional.avg_pool2d(image, side, 1, self.reach) - 0.5

    images = torch.rand(2, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    for reach, expected in ((3, 4), (7, 8), (10, 12)):
        assert measure_margin(Blur(reach), images, 0.5) == expected
