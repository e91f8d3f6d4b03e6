"""NVlabs/MUNIT's and UNIT's networks, said again in functions: names and shapes of weights, and what they compute.

Written from the facts of their networks.py, without munitaug's networks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Gen:
    """The section gen of a YAML; UNIT's has neither style_dim nor mlp_dim."""

    dim: int = 4
    mlp_dim: int = 7
    style_dim: int = 3
    activ: str = "relu"
    n_downsample: int = 2
    n_res: int = 2
    pad_type: str = "reflect"


@dataclass(frozen=True)
class Dis:
    """The section dis of a YAML."""

    dim: int = 5
    norm: str = "none"
    activ: str = "lrelu"
    n_layer: int = 3
    gan_type: str = "lsgan"
    num_scales: int = 2
    pad_type: str = "reflect"


PUBLISHED = Gen(64, 256, 8, "relu", 2, 4)
PUBLISHED_DIS = Dis(64, "none", "lrelu", 4, "lsgan", 3)


def layer(name: str, wide: int, narrow: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (wide, narrow, kernel, kernel), f"{name}.bias": (wide,)}


def content_encoder_shapes(name: str, gen: Gen, channels: int) -> Shapes:
    shapes, dim = layer(f"{name}.model.0.conv", gen.dim, channels, 7), gen.dim
    for step in range(gen.n_downsample):
        shapes |= layer(f"{name}.model.{step + 1}.conv", 2 * dim, dim, 4)
        dim *= 2
    for block in range(gen.n_res):
        for place in (0, 1):
            shapes |= layer(f"{name}.model.{gen.n_downsample + 1}.model.{block}.model.{place}.conv", dim, dim, 3)
    return shapes


def decoder_shapes(gen: Gen, channels: int, adain: bool) -> Shapes:
    shapes: Shapes = {}
    dim = gen.dim * 2**gen.n_downsample
    for block in range(gen.n_res):
        for place in (0, 1):
            name = f"dec.model.0.model.{block}.model.{place}"
            shapes |= layer(f"{name}.conv", dim, dim, 3)
            if adain:
                shapes |= {f"{name}.norm.running_mean": (dim,), f"{name}.norm.running_var": (dim,)}
    for step in range(gen.n_downsample):
        dim //= 2
        name = f"dec.model.{2 * step + 2}"
        shapes |= {f"{name}.norm.gamma": (dim,), f"{name}.norm.beta": (dim,)} | layer(f"{name}.conv", dim, 2 * dim, 5)
    return shapes | layer(f"dec.model.{2 * gen.n_downsample + 1}.conv", channels, dim, 7)


def munit_shapes(gen: Gen, channels: int) -> Shapes:
    """Gives the names and shapes of one AdaINGen."""
    dim = gen.dim
    shapes = layer("enc_style.model.0.conv", dim, channels, 7)
    for number, (wide, narrow) in enumerate([(2, 1), (4, 2), (4, 4), (4, 4)], start=1):
        shapes |= layer(f"enc_style.model.{number}.conv", wide * dim, narrow * dim, 4)
    shapes |= layer("enc_style.model.6", gen.style_dim, 4 * dim, 1)
    numbers = 2 * gen.dim * 2**gen.n_downsample * 2 * gen.n_res
    for number, (wide, narrow) in enumerate(
        [(gen.mlp_dim, gen.style_dim), (gen.mlp_dim, gen.mlp_dim), (numbers, gen.mlp_dim)]
    ):
        shapes |= {f"mlp.model.{number}.fc.weight": (wide, narrow), f"mlp.model.{number}.fc.bias": (wide,)}
    return shapes | content_encoder_shapes("enc_content", gen, channels) | decoder_shapes(gen, channels, True)


def unit_shapes(gen: Gen, channels: int) -> Shapes:
    """Gives the names and shapes of one VAEGen."""
    return content_encoder_shapes("enc", gen, channels) | decoder_shapes(gen, channels, False)


def discriminator_shapes(dis: Dis, channels: int) -> Shapes:
    """Gives the names and shapes of one MsImageDis."""
    shapes: Shapes = {}
    for scale in range(dis.num_scales):
        narrow, wide = channels, dis.dim
        for number in range(dis.n_layer):
            shapes |= layer(f"cnns.{scale}.{number}.conv", wide, narrow, 4)
            narrow, wide = wide, 2 * wide
        shapes |= layer(f"cnns.{scale}.{dis.n_layer}", 1, narrow, 1)
    return shapes


def count(shapes: Shapes) -> int:
    """Gives how many trainable numbers there are."""
    return sum(torch.Size(shape).numel() for name, shape in shapes.items() if ".running_" not in name)


def random_state(shapes: Shapes, seed: int) -> State:
    """Gives random weights of a spread that keeps signals of order 1; nothing is 0 and no two are alike."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        spread = (2 / torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.3
        state[name] = spread * torch.randn(shape, generator=generator)
    return state


def conv(
    state: State, name: str, x: Tensor, stride: int = 1, pad: int = 0, norm: str = "none", activ: str = "relu"
) -> Tensor:
    """Gives a Conv2dBlock's output: pad, convolve, normalise, activate."""
    x = F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], stride)
    if norm == "in":
        x = F.instance_norm(x)
    if norm == "ln":
        flat = x.view(len(x), -1)
        x = (x - flat.mean(1).view(-1, 1, 1, 1)) / (flat.std(1).view(-1, 1, 1, 1) + 1e-5)
        x = x * state[f"{name}.norm.gamma"].view(1, -1, 1, 1) + state[f"{name}.norm.beta"].view(1, -1, 1, 1)
    if activ == "lrelu":
        return F.leaky_relu(x, 0.2)
    if activ == "tanh":
        return torch.tanh(x)
    return F.relu(x) if activ == "relu" else x


def content(state: State, gen: Gen, x: Tensor, name: str = "enc_content") -> Tensor:
    """Gives the content encoder's output; UNIT calls it enc."""
    x = conv(state, f"{name}.model.0", x, 1, 3, "in")
    for step in range(1, gen.n_downsample + 1):
        x = conv(state, f"{name}.model.{step}", x, 2, 1, "in")
    for block in range(gen.n_res):
        inside = f"{name}.model.{gen.n_downsample + 1}.model.{block}.model"
        x = x + conv(state, f"{inside}.1", conv(state, f"{inside}.0", x, 1, 1, "in"), 1, 1, "in", "none")
    return x


def style(state: State, x: Tensor) -> Tensor:
    """Gives the style encoder's output, N x style_dim x 1 x 1."""
    x = conv(state, "enc_style.model.0", x, 1, 3)
    for step in range(1, 5):
        x = conv(state, f"enc_style.model.{step}", x, 2, 1)
    pooled = F.adaptive_avg_pool2d(x, 1)
    return F.conv2d(pooled, state["enc_style.model.6.weight"], state["enc_style.model.6.bias"])


def adain_parameters(state: State, code: Tensor) -> Tensor:
    """Gives the MLP's output of a style."""
    x = code.view(len(code), -1)
    for number in range(3):
        x = F.linear(x, state[f"mlp.model.{number}.fc.weight"], state[f"mlp.model.{number}.fc.bias"])
        x = F.relu(x) if number < 2 else x
    return x


def adain(x: Tensor, numbers: Tensor) -> Tensor:
    """Gives AdaIN as a batch norm of one sample with N x C channels; the means come first, then the deviations."""
    samples, channels = x.shape[:2]
    bias, weight = numbers[:, :channels].reshape(-1), numbers[:, channels : 2 * channels].reshape(-1)
    flat = x.reshape(1, samples * channels, *x.shape[2:])
    return F.batch_norm(flat, None, None, weight, bias, training=True, eps=1e-5).view_as(x)


def decode(state: State, gen: Gen, hidden: Tensor, numbers: Tensor | None) -> Tensor:
    """Gives the decoder's image; without AdaIN numbers it is UNIT's."""
    x, channels = hidden, hidden.shape[1]
    for block in range(gen.n_res):
        y = x
        for place, activ in ((0, "relu"), (1, "none")):
            name = f"dec.model.0.model.{block}.model.{place}"
            y = conv(state, name, y, 1, 1, "none" if numbers is not None else "in", "none")
            if numbers is not None:
                y, numbers = adain(y, numbers), numbers[:, 2 * channels :]
            y = F.relu(y) if activ == "relu" else y
        x = x + y
    for step in range(gen.n_downsample):
        doubled = F.interpolate(x, scale_factor=2)
        x = conv(state, f"dec.model.{2 * step + 2}", doubled, 1, 2, "ln")
    return conv(state, f"dec.model.{2 * gen.n_downsample + 1}", x, 1, 3, "none", "tanh")


def scores(state: State, dis: Dis, x: Tensor) -> list[Tensor]:
    """Gives MsImageDis's maps."""
    maps = []
    for scale in range(dis.num_scales):
        y = x
        for number in range(dis.n_layer):
            y = conv(state, f"cnns.{scale}.{number}", y, 2, 1, "none", "lrelu")
        name = f"cnns.{scale}.{dis.n_layer}"
        maps.append(F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"]))
        x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
    return maps


def official_yaml(kind: str, gen: Gen, dis: Dis, channels: int) -> dict[str, object]:
    """Gives a YAML's content, with numbers that are not munitaug's defaults."""
    sizes: dict[str, object] = asdict(gen)
    weights: dict[str, object] = {"gan_w": 2, "recon_x_w": 11, "recon_x_cyc_w": 5, "vgg_w": 0}
    if kind == "munit":
        weights |= {"recon_s_w": 3, "recon_c_w": 4}
    else:
        sizes = {name: value for name, value in sizes.items() if name not in ("style_dim", "mlp_dim")}
        weights |= {"recon_h_w": 0, "recon_kl_w": 0.02, "recon_kl_cyc_w": 0.03}
    training: dict[str, object] = {"lr": 0.0002, "beta1": 0.4, "beta2": 0.99, "weight_decay": 0.001}
    training |= {"lr_policy": "step", "step_size": 5000, "gamma": 0.5, "max_iter": 1000000, "init": "kaiming"}
    images: dict[str, object] = {"input_dim_a": channels, "input_dim_b": channels, "new_size": 256}
    return {**training, **weights, **images, "gen": sizes, "dis": asdict(dis)}


@dataclass(frozen=True)
class Files:
    """One official run on disk, and what is in its files."""

    generator: Path
    discriminator: Path
    config: Path
    gen: Gen
    dis: Dis
    generators: dict[str, State]
    discriminators: dict[str, State]


def official_run(
    folder: Path, kind: str, gen: Gen = Gen(), dis: Dis = Dis(), channels: int = 3, zipped: bool = True
) -> Files:
    """Writes gen_*.pt, dis_*.pt and a YAML with random weights.

    Args:
        folder: where, made if missing.
        kind: "munit" or "unit".
        gen: sizes of the generators.
        dis: sizes of the discriminators.
        channels: of the images.
        zipped: False writes the form of PyTorch before 1.6, in which the published weights are.
    """
    folder.mkdir(exist_ok=True)
    shapes = munit_shapes(gen, channels) if kind == "munit" else unit_shapes(gen, channels)
    generators = {key: random_state(shapes, seed) for seed, key in enumerate("ab")}
    judges = {key: random_state(discriminator_shapes(dis, channels), 10 + seed) for seed, key in enumerate("ab")}
    files = Files(
        folder / "gen_00000100.pt", folder / "dis_00000100.pt", folder / "run.yaml", gen, dis, generators, judges
    )
    torch.save(generators, files.generator, _use_new_zipfile_serialization=zipped)
    torch.save(judges, files.discriminator, _use_new_zipfile_serialization=zipped)
    files.config.write_text(yaml.safe_dump(official_yaml(kind, gen, dis, channels)))
    return files


def change_yaml(files: Files, section: str, name: str, value: object) -> None:
    """Changes one setting of a run's YAML; section "" is the top."""
    content = yaml.safe_load(files.config.read_text())
    (content[section] if section else content)[name] = value
    files.config.write_text(yaml.safe_dump(content))
