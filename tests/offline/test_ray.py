"""Ray Data as the engine, on two local cores: the images of `generate`, in each of its three forms."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from munitaug.data.hdf5 import AugmentedDataset
from munitaug.kernel import translate_images
from munitaug.offline import ray as engine
from munitaug.random import torch_generator
from munitaug.styles import PriorStyles
from munitaug.types import DomainError
from tests.offline.toys import ITEMS, SIDE, Toy, make_domain, run

ROOT = Path(__file__).resolve().parents[2]


def test_pictures_in_any_form_become_tensors() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    for picture in (pixels, buffer.getvalue(), {"bytes": buffer.getvalue(), "path": "x.png"}):
        assert engine.picture_to_tensor(picture).tolist() == np.moveaxis(pixels, 2, 0).tolist()
    assert engine.picture_to_tensor(pixels[:, :, 0]).shape == (1, 4, 5)
    for wrong in ("picture", pixels.astype(np.float32), {"path": "x.png"}):
        with pytest.raises(DomainError, match="an image must be uint8 H x W x C or an encoded picture"):
            engine.picture_to_tensor(wrong)
    with pytest.raises(ValueError, match="not an image of any known format"):
        engine.picture_to_tensor(b"no picture")


def test_without_ray_the_way_to_install_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ImportError, match=r"pip install \"munitaug\[ray\]\""):
        engine.generate(Toy(), make_domain(), tmp_path / "out", styles=PriorStyles(3))


def test_rows_of_images_known_by_their_path_have_names_of_their_own() -> None:
    keys = ["a.1.png", "a_1.png", "a%2E1.png", "v1.0/x.png", "v1_0/x.png", "a.1.png-00000"]
    names = [engine._row_name(key, place, 2) for key in keys for place in range(2)]
    assert len(set(names)) == len(names)
    assert not any("." in name for name in names)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
        yield
        ray.shutdown()


def make(out: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {
        "translator": Toy(), "source": make_domain(), "styles": PriorStyles(3), "variants": 2, "batch_size": 4
    }  # fmt: skip
    return Path(engine.generate(out=out, **(arguments | changes)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> AugmentedDataset:
    return AugmentedDataset(run(tmp_path_factory.mktemp("expected") / "aug.h5"))


def decoded(png: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png)))).permute(2, 0, 1)


@pytest.mark.slow
def test_parquet_holds_the_images_of_generate(cluster: None, tmp_path: Path, expected: AugmentedDataset) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = make(tmp_path / "out")
    tables = [parquet.read_table(file) for file in folder.glob("*.parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    assert sorted((row["source_index"], row["variant"]) for row in rows) == [
        (i, k) for i in range(ITEMS) for k in (0, 1)
    ]
    for row in rows:
        number = 2 * row["source_index"] + row["variant"]
        assert torch.equal(decoded(row["image"]["bytes"]), expected[number][0])
        assert row["label"] == expected[number][1]
        assert np.array(row["style"], np.float32).tolist() == expected.style(number).tolist()
    assert b"huggingface" in tables[0].schema.metadata
    with pytest.raises(FileExistsError, match="exists already"):
        make(tmp_path / "out")


@pytest.mark.slow
def test_webdataset_holds_the_images_of_generate(cluster: None, tmp_path: Path, expected: AugmentedDataset) -> None:
    pytest.importorskip("webdataset")
    folder = make(tmp_path / "out", format="webdataset")
    content: dict[str, bytes] = {}
    for tar in folder.glob("*.tar"):
        with tarfile.open(tar) as archive:
            content |= {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    assert len(content) == 3 * 2 * ITEMS
    for number in range(2 * ITEMS):
        assert torch.equal(decoded(content[f"{number:09d}.png"]), expected[number][0])
        assert int(content[f"{number:09d}.cls"]) == expected[number][1]
        assert json.loads(content[f"{number:09d}.json"])["variant"] == number % 2


@pytest.mark.slow
def test_hdf5_shards_are_those_of_generate(cluster: None, tmp_path: Path) -> None:
    run(tmp_path / "alone" / "aug.h5", shards=3, provenance={})
    make(tmp_path / "ray" / "aug.h5", format="hdf5", shards=3, actors=2)
    alone, ray = ({file.name: file.read_bytes() for file in (tmp_path / who).iterdir()} for who in ("alone", "ray"))
    assert len(alone) == 4
    assert ray == alone


@pytest.mark.slow
def test_images_that_ray_reads_get_styles_by_their_path(cluster: None, tmp_path: Path) -> None:
    import ray.data

    domain, folder = make_domain(), tmp_path / "images"
    folder.mkdir()
    for item in range(5):
        Image.fromarray(domain[item][0].permute(1, 2, 0).numpy()).save(folder / f"{item}.png")
    parquet = pytest.importorskip("pyarrow.parquet")
    out = make(tmp_path / "out", source=ray.data.read_images(str(folder), include_paths=True), keep_original=True)
    rows = [row for file in out.glob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    assert len(rows) == 15
    wanted = set()
    for item in range(5):
        image = domain[item][0]
        wanted.add((-1, image.numpy().tobytes()))
        for variant in range(2):
            style = PriorStyles(3).sample(1, 1, torch_generator(0, "style", str(folder / f"{item}.png"), variant))
            made = translate_images(Toy().eval(), image[None], style)[0, 0]
            wanted.add((variant, made.contiguous().numpy().tobytes()))
    assert {(row["variant"], decoded(row["image"]["bytes"]).contiguous().numpy().tobytes()) for row in rows} == wanted
    assert {row["label"] for row in rows} == {-1}
    again = make(tmp_path / "again", source=ray.data.read_parquet(str(out)).limit(2), variants=1)
    (picture, *_) = [row for file in again.glob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    assert decoded(picture["image"]["bytes"]).shape == (3, SIDE, SIDE)


@pytest.mark.slow
def test_what_does_not_suit_is_refused(cluster: None, tmp_path: Path) -> None:
    import ray.data

    with pytest.raises(ValueError, match=r"4 generators of 0\.5 CPUs leave none of Ray's 2 CPUs to read with"):
        make(tmp_path / "out", actors=4)
    nothing = ray.data.from_items([{"picture": 1}])
    with pytest.raises(ValueError, match="needs a domain"):
        make(tmp_path / "out.h5", source=nothing, format="hdf5")
    with pytest.raises(Exception, match="needs the columns image and source_index or path"):
        make(tmp_path / "out", source=nothing)
    with pytest.raises(ValueError, match="format must be one of parquet, webdataset, hdf5, got 'csv'"):
        make(tmp_path / "out", format="csv")
    assert not (tmp_path / "out").exists()
