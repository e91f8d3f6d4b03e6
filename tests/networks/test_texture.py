"""Gram matrices by a slow loop, random features that repeat."""

from __future__ import annotations

import pytest
import torch

from munitaug.networks.texture import RandomFeatures, gram_matrices


def test_gram_matrices_by_a_slow_loop() -> None:
    features = torch.randn(2, 3, 2, 4)
    grams = gram_matrices(features)
    for n in range(2):
        for i in range(3):
            for j in range(3):
                products = [float(features[n, i, r, c] * features[n, j, r, c]) for r in range(2) for c in range(4)]
                assert grams[n, i, j].item() == pytest.approx(sum(products) / 8, rel=1e-4, abs=1e-5)


def test_products_stay_in_full_precision_within_autocast() -> None:
    features = torch.randn(2, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = gram_matrices(features)
    torch.testing.assert_close(found, gram_matrices(features))


def test_moving_a_texture_does_not_change_it() -> None:
    features = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(gram_matrices(features.roll(1, dims=3)), gram_matrices(features))


@pytest.mark.parametrize("channels", [1, 3])
def test_random_features_repeat_and_have_no_weights(channels: int) -> None:
    first, second = (RandomFeatures(channels, torch.Generator().manual_seed(3)) for _ in range(2))
    images = torch.randn(2, channels, 16, 18)
    assert torch.equal(first(images), second(images))
    assert first(images).shape == (2, 64, 16, 18)
    assert not list(first.parameters())
    assert first.get_buffer("filters").flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 64, rel=1e-5)
