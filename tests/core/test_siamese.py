"""The Siamese U-Net: what it does without an image before, and with a level less."""

from __future__ import annotations

import pytest
import torch

from aftermap.core.errors import ModelError
from aftermap.core.networks.devices import fuse_batch_norm
from aftermap.core.networks.siamese import FOOTPRINT
from aftermap.core.networks.unet import build_network

ARCHITECTURE = {"name": "siamese_unet", "heads": [FOOTPRINT, "none", "destr"]}


def network(**changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network({**ARCHITECTURE, **changes}).eval()


@torch.inference_mode()
def test_one_logit_a_head_on_each_pixel():
    found = network(heads=[FOOTPRINT, "none", "minor", "major", "destr"])(torch.randn(2, 6, 64, 96))
    assert found.shape == (2, 5, 64, 96)


@torch.inference_mode()
def test_without_an_image_before_the_footprints_are_those_of_the_one_after():
    net, image = network(), torch.randn(1, 3, 64, 64)
    nothing = torch.zeros_like(image)
    after_alone = net(torch.cat((nothing, image), dim=1))
    as_before = net(torch.cat((image, torch.randn(1, 3, 64, 64)), dim=1))
    torch.testing.assert_close(after_alone[:, 0], as_before[:, 0])


@torch.inference_mode()
def test_the_footprints_do_not_depend_on_the_image_after_and_the_damage_does():
    net, before = network(), torch.randn(1, 3, 64, 64)
    one, other = (net(torch.cat((before, torch.randn(1, 3, 64, 64)), dim=1)) for _ in range(2))
    torch.testing.assert_close(one[:, 0], other[:, 0])
    assert not torch.allclose(one[:, 1:], other[:, 1:])


@torch.inference_mode()
def test_a_half_that_was_not_seen_before_is_judged_by_itself():
    net = network()
    image = torch.randn(1, 6, 128, 128)
    half = image.clone()
    half[:, :3, :, :64] = 0
    far_right = slice(127, 128)
    changed = (net(image) - net(half)).abs().amax(dim=(0, 2))
    assert changed[:, 0].min() > changed[:, far_right].max()


@torch.inference_mode()
def test_folding_batch_normalisation_changes_nothing():
    net, image = network(), torch.randn(1, 6, 64, 64)
    before = net(image)
    torch.testing.assert_close(fuse_batch_norm(net)(image), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"heads": ["none", "destr"]}, {"heads": [FOOTPRINT, "destr"]}, {"bands": 5}]
)
def test_an_architecture_that_makes_no_sense_is_refused(changes: dict[str, object]):
    with pytest.raises(ModelError, match="Siamese U-Net needs"):
        network(**changes)
