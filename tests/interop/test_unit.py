"""UNIT's checkpoints of the later code: equal outputs, settings, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from munitaug.interop.unit import read_unit
from munitaug.methods import Unit
from munitaug.types import BOTH_DIRECTIONS, CheckpointError
from tests.interop.official_nvlabs import (
    PUBLISHED,
    Gen,
    change_yaml,
    content,
    count,
    decode,
    official_run,
    scores,
    unit_shapes,
)

SIZES = {
    "two halvings": (Gen(), 3),
    "grey, one halving": (Gen(dim=6, n_downsample=1, n_res=1), 1),
    "three halvings": (Gen(dim=3, n_downsample=3, n_res=3), 3),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_every_path_gives_what_the_official_network_gives(tmp_path: Path, size: str, batch: int) -> None:
    gen, channels = SIZES[size]
    files = official_run(tmp_path, "unit", gen, channels=channels)
    method = read_unit(files.generator)
    generator = torch.Generator().manual_seed(1)
    for source, target in (*BOTH_DIRECTIONS, ("a", "a"), ("b", "b")):
        ours = method.generators.between(source, target)
        image = torch.rand(batch, channels, 32, 48, generator=generator) * 2 - 1
        hidden = content(files.generators[source], gen, image, "enc")
        torch.testing.assert_close(ours.encode(image), hidden, atol=1e-5, rtol=1e-5)
        wanted = decode(files.generators[target], gen, hidden, None)
        assert wanted.std() > 0.1
        torch.testing.assert_close(ours.decode(hidden), wanted, atol=1e-5, rtol=0.0)
    found = method.translator("a", "b").translate(image, torch.zeros(batch, 1, 0))[:, 0]
    wanted = decode(files.generators["b"], gen, content(files.generators["a"], gen, image, "enc"), None)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0.0)


def test_discriminators_give_what_the_official_ones_give(tmp_path: Path) -> None:
    files = official_run(tmp_path, "unit")
    method = read_unit(files.generator, files.config, files.discriminator)
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for key in "ab":
        maps = method.discriminators[key](image)
        for found, wanted in zip(maps, scores(files.discriminators[key], files.dis, image), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_official_sizes_have_as_many_parameters_as_ours() -> None:
    # content encoder 5,385,856 and decoder 5,754,627, as in MUNIT
    assert count(unit_shapes(PUBLISHED, 3)) == 5_385_856 + 5_754_627


def test_it_is_of_the_later_form_and_translates_both_ways(tmp_path: Path) -> None:
    method = read_unit(official_run(tmp_path, "unit").generator)
    assert isinstance(method, Unit)
    assert method.config.form == "later"
    assert method.directions == BOTH_DIRECTIONS
    assert not method.training


def test_the_yaml_gives_weights_for_training_on(tmp_path: Path) -> None:
    files = official_run(tmp_path, "unit")
    config = read_unit(files.generator, files.config).config
    weights = (config.weight_gan, config.weight_image, config.weight_kl, config.weight_cycle, config.weight_cycle_kl)
    assert weights == (2.0, 11.0, 0.02, 5.0, 0.03)
    assert read_unit(files.generator).config.weight_kl == 0.01


def test_a_perceptual_weight_is_left_out_with_a_warning(tmp_path: Path) -> None:
    files = official_run(tmp_path, "unit")
    change_yaml(files, "", "vgg_w", 1)
    with pytest.warns(UserWarning, match="vgg_w is left out"):
        read_unit(files.generator, files.config)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("gen", "dim", 8, "gen.dim is 8, but the weights have 4"),
        ("gen", "activ", "lrelu", "gen.activ is 'lrelu', but munitaug's network has 'relu' only"),
        ("", "recon_kl_w", -1, "cannot be built so: weight_kl must be at least 0"),
    ],
)
def test_a_yaml_that_does_not_fit_is_refused(
    tmp_path: Path, section: str, name: str, value: object, message: str
) -> None:
    files = official_run(tmp_path, "unit")
    change_yaml(files, section, name, value)
    with pytest.raises(CheckpointError, match=message):
        read_unit(files.generator, files.config)


def test_a_generator_of_munit_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"it is a MUNIT generator \(format munit\)"):
        read_unit(official_run(tmp_path, "munit").generator)


def test_a_generator_of_2017_is_told_apart(tmp_path: Path) -> None:
    torch.save({"encode_A.0.model.0.weight": torch.zeros(4, 3, 7, 7)}, tmp_path / "gen.pkl")
    with pytest.raises(CheckpointError, match="it is a UNIT generator of 2017, which has no reader here"):
        read_unit(tmp_path / "gen.pkl")
