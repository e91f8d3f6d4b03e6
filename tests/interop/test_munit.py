"""NVlabs/MUNIT's checkpoints: equal outputs, sizes from weights and YAML, refusals."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from munitaug.interop.munit import read_munit
from munitaug.method import OptimiserSettings
from munitaug.methods import Munit
from munitaug.networks.discriminator import MultiScaleDiscriminator
from munitaug.types import BOTH_DIRECTIONS, CheckpointError
from tests.interop.official_nvlabs import (
    PUBLISHED,
    PUBLISHED_DIS,
    Dis,
    Gen,
    adain_parameters,
    change_yaml,
    content,
    count,
    decode,
    discriminator_shapes,
    munit_shapes,
    official_run,
    random_state,
    scores,
    style,
)

SIZES = {
    "two halvings": (Gen(), 3),
    "grey, one halving": (Gen(dim=6, n_downsample=1, n_res=1, style_dim=2, mlp_dim=5), 1),
    "three halvings": (Gen(dim=3, n_downsample=3, n_res=3, style_dim=8, mlp_dim=4), 3),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_every_path_gives_what_the_official_network_gives(tmp_path: Path, size: str, batch: int) -> None:
    gen, channels = SIZES[size]
    files = official_run(tmp_path, "munit", gen, channels=channels)
    method = read_munit(files.generator)
    generator = torch.Generator().manual_seed(1)
    for source, target in BOTH_DIRECTIONS:
        ours, theirs = method.translator(source, target), files.generators[target]
        image, exemplar = (torch.rand(batch, channels, 32, 48, generator=generator) * 2 - 1 for _ in "xy")
        hidden = content(files.generators[source], gen, image)
        torch.testing.assert_close(ours.encode_content(image), hidden, atol=1e-5, rtol=1e-5)
        code = style(theirs, exemplar).flatten(1)
        torch.testing.assert_close(ours.encode_style(exemplar), code, atol=1e-5, rtol=1e-5)
        wanted = decode(theirs, gen, hidden, adain_parameters(theirs, code))
        assert wanted.std() > 0.1
        torch.testing.assert_close(ours.decode(hidden, code), wanted, atol=1e-5, rtol=0.0)
        torch.testing.assert_close(ours.translate(image, code[:, None])[:, 0], wanted, atol=1e-5, rtol=0.0)


def test_discriminators_give_what_the_official_ones_give(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    method = read_munit(files.generator, discriminator=files.discriminator)
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for key in "ab":
        maps = method.discriminators[key](image)
        for found, wanted in zip(maps, scores(files.discriminators[key], files.dis, image), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_official_sizes_have_the_published_numbers_of_parameters() -> None:
    assert count(munit_shapes(PUBLISHED, 3)) == 15_026_187
    assert count(discriminator_shapes(PUBLISHED_DIS, 3)) == 8_271_171


def test_the_yaml_changes_no_output(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    without, with_yaml = read_munit(files.generator), read_munit(files.generator, files.config)
    assert without.config.auto_encoder_shape == with_yaml.config.auto_encoder_shape
    first, second = without.auto_encoders.state_dict(), with_yaml.auto_encoders.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_yaml_gives_weights_and_optimiser_for_training_on(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit", dis=Dis(gan_type="nsgan"))
    config = read_munit(files.generator, files.config).config
    weights = (config.weight_gan, config.weight_image, config.weight_style, config.weight_content, config.weight_cycle)
    assert weights == (2.0, 11.0, 3.0, 4.0, 5.0)
    assert config.gan_loss == "nsgan"
    assert config.optimiser == OptimiserSettings(2e-4, (0.4, 0.99), 1e-3, halve_every_steps=5000)


def test_numbers_that_yaml_takes_for_text_are_read(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    files.config.write_text(files.config.read_text().replace("lr: 0.0002", "lr: 2e-4"))
    assert read_munit(files.generator, files.config).config.optimiser.lr == 2e-4


def test_a_decay_that_is_not_halving_is_left_out_with_a_warning(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    change_yaml(files, "", "gamma", 0.1)
    with pytest.warns(UserWarning, match="'step' with gamma 0.1 is left out"):
        config = read_munit(files.generator, files.config).config
    assert config.optimiser.halve_every_steps == 0
    change_yaml(files, "", "lr_policy", "constant")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_munit(files.generator, files.config).config.optimiser.halve_every_steps == 0


def test_without_their_file_discriminators_are_new_and_of_the_size_that_the_yaml_says(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    method = read_munit(files.generator, files.config)
    judge = method.discriminators["a"]
    assert isinstance(judge, MultiScaleDiscriminator)
    assert sum(p.numel() for p in judge.parameters()) == count(discriminator_shapes(files.dis, 3))
    official = files.discriminators["a"]["cnns.0.0.conv.weight"]
    assert not any(
        parameter.shape == official.shape and torch.equal(parameter, official) for parameter in judge.parameters()
    )
    sizes = read_munit(files.generator).config
    assert (sizes.discriminator_width, sizes.n_discriminator_layers, sizes.n_scales) == (64, 4, 3)


def test_it_translates_both_ways_in_evaluation_mode_and_has_no_bank(tmp_path: Path) -> None:
    method = read_munit(official_run(tmp_path, "munit").generator)
    assert isinstance(method, Munit)
    assert method.directions == BOTH_DIRECTIONS
    assert not method.training
    assert method.style_banks == {}


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("gen", "dim", 8, r"gen.dim is 8, but the weights have 4: give the YAML"),
        ("gen", "n_downsample", 3, r"gen.n_downsample is 3, but the weights have 2"),
        ("gen", "n_res", 4, r"gen.n_res is 4, but the weights have 2"),
        ("gen", "style_dim", 8, r"gen.style_dim is 8, but the weights have 3"),
        ("gen", "mlp_dim", 8, r"gen.mlp_dim is 8, but the weights have 7"),
        ("gen", "activ", "selu", r"gen.activ is 'selu', but munitaug's network has 'relu' only"),
        ("gen", "pad_type", "zero", r"gen.pad_type is 'zero', but munitaug's network has 'reflect' only"),
        ("", "input_dim_b", 1, r"input_dim_b is 1, but the weights have 3"),
        ("dis", "dim", 64, r"dis.dim is 64, but the weights have 5"),
        ("dis", "n_layer", 4, r"dis.n_layer is 4, but the weights have 3"),
        ("dis", "num_scales", 3, r"dis.num_scales is 3, but the weights have 2"),
        ("dis", "norm", "in", r"dis.norm is 'in', .* leave the discriminator out and new ones are made"),
        ("dis", "activ", "relu", r"dis.activ is 'relu', .* 'lrelu' only"),
        ("dis", "gan_type", "wgan", r"dis.gan_type should be one of lsgan, nsgan, got 'wgan'"),
        ("", "lr", "fast", r"lr should be a number, got 'fast'"),
        ("", "recon_x_w", -1, r"cannot be built so: weight_image must be at least 0"),
    ],
)
def test_a_yaml_that_does_not_fit_is_refused(
    tmp_path: Path, section: str, name: str, value: object, message: str
) -> None:
    files = official_run(tmp_path, "munit")
    change_yaml(files, section, name, value)
    with pytest.raises(CheckpointError, match=message):
        read_munit(files.generator, files.config, files.discriminator)


def test_a_discriminator_that_ours_cannot_be_may_be_left_out(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    change_yaml(files, "dis", "norm", "in")
    assert read_munit(files.generator, files.config).config.n_scales == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("gen: 3", "with a section gen"), ("- 1", "with a section gen"), ("gen: {", "is not YAML"), ("", "section gen")],
)
def test_a_file_that_is_no_such_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    files = official_run(tmp_path, "munit")
    files.config.write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_munit(files.generator, files.config)


def test_a_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.yaml does not exist"):
        read_munit(official_run(tmp_path, "munit").generator, tmp_path / "no.yaml")


def test_statistics_that_pytorch_0_3_saved_are_passed_over(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    for state in files.generators.values():
        state["enc_content.model.0.norm.running_mean"] = torch.ones(4)
    torch.save(files.generators, files.generator)
    assert read_munit(files.generator).config.width == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "enc_content.model.0.activation.weight",
            torch.ones(1),
            r"\['b'\] has enc_content.model.0.activation.weight too",
        ),
        ("enc_content.model.0.norm.weight", torch.ones(4), r"\['b'\] has enc_content.model.0.norm.weight too"),
        ("mlp.model.1.fc.bias", None, r"\['b'\] lacks mlp.model.1.fc.bias"),
        ("mlp.model.1.fc.bias", torch.ones(9), r"\['b'\]: mlp.model.1.fc.bias is 9, but 7 was expected"),
        ("mlp.model.0.fc.weight", torch.ones(()), r"mlp.model.0.fc.weight has 0 sides, at least 1 are needed"),
        ("dec.model.2.conv.weight", None, r"\['b'\] has no dec.model.2.conv.weight"),
        ("enc_content.model.0.conv.weight", None, r"no enc_content.model.0.conv.weight: it is a MUNIT generator"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, name: str, value: torch.Tensor | None, message: str) -> None:
    files = official_run(tmp_path, "munit")
    if value is None:
        del files.generators["b"][name]
    else:
        files.generators["b"][name] = value
    torch.save(files.generators, files.generator)
    with pytest.raises(CheckpointError, match=message):
        read_munit(files.generator)


@pytest.mark.parametrize(
    ("gen", "channels", "message"),
    [
        (Gen(), 1, "channels is 3 in domain a and 1 in domain b"),
        (Gen(style_dim=4), 3, "style_dim is 3 in domain a and 4 in domain b"),
    ],
)
def test_domains_of_different_sizes_are_refused(tmp_path: Path, gen: Gen, channels: int, message: str) -> None:
    files = official_run(tmp_path, "munit")
    torch.save({"a": files.generators["a"], "b": random_state(munit_shapes(gen, channels), 1)}, files.generator)
    with pytest.raises(CheckpointError, match=message):
        read_munit(files.generator)


def test_sizes_that_ours_cannot_have_are_refused(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit", Gen(dim=2, n_downsample=4, n_res=1))
    with pytest.raises(CheckpointError, match="cannot be built so: n_downsample must be 1 to 3"):
        read_munit(files.generator)


def test_other_files_of_the_same_project_are_told_apart(tmp_path: Path) -> None:
    munit, unit = official_run(tmp_path / "munit", "munit"), official_run(tmp_path / "unit", "unit")
    with pytest.raises(CheckpointError, match="it is a MUNIT or UNIT discriminator"):
        read_munit(munit.discriminator)
    with pytest.raises(CheckpointError, match=r"it is a UNIT generator \(format unit\)"):
        read_munit(unit.generator)
    with pytest.raises(CheckpointError, match=r"it is a MUNIT generator \(format munit\)"):
        read_munit(munit.generator, discriminator=munit.generator)
    torch.save({"gen": {}, "dis": {}}, tmp_path / "optimizer.pt")
    with pytest.raises(CheckpointError, match=r"should hold state_dicts 'a' and 'b'.* it is a dict of gen, dis"):
        read_munit(tmp_path / "optimizer.pt")
    torch.save(munit.generators["a"], tmp_path / "half.pt")
    with pytest.raises(CheckpointError, match=r"should hold state_dicts 'a' and 'b'.* it is a MUNIT generator"):
        read_munit(tmp_path / "half.pt")


def test_a_discriminator_with_spectral_norm_is_refused(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    weight = files.discriminators["a"].pop("cnns.0.1.conv.weight")
    files.discriminators["a"]["cnns.0.1.conv.module.weight_bar"] = weight
    torch.save(files.discriminators, files.discriminator)
    with pytest.raises(CheckpointError, match=r"spectral norm in some layers only .* leave the discriminator out"):
        read_munit(files.generator, discriminator=files.discriminator)


def test_a_discriminator_of_other_images_is_refused(tmp_path: Path) -> None:
    files, grey = official_run(tmp_path / "rgb", "munit"), official_run(tmp_path / "grey", "munit", channels=1)
    with pytest.raises(CheckpointError, match="judges images of 1 channels, but the generators make 3"):
        read_munit(files.generator, discriminator=grey.discriminator)


def test_discriminators_of_different_depth_are_refused(tmp_path: Path) -> None:
    files = official_run(tmp_path, "munit")
    deeper = random_state(discriminator_shapes(replace(files.dis, n_layer=4), 3), 0)
    torch.save({"a": files.discriminators["a"], "b": deeper}, files.discriminator)
    with pytest.raises(CheckpointError, match="n_layers is 3 in domain a and 4 in domain b"):
        read_munit(files.generator, discriminator=files.discriminator)
