from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin
from torch.utils.data import DataLoader

from munitaug.data.folder import FolderDomain
from munitaug.types import DomainError

WriteImage = Callable[..., Path]


def pixels_of(file: Path) -> torch.Tensor:
    with Image.open(file) as image:
        array = np.asarray(image.copy())
    return torch.from_numpy(array.reshape(*array.shape[:2], -1).transpose(2, 0, 1).copy())


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_flat_folder_has_no_labels_and_keeps_pixels(write_image: WriteImage, tmp_path: Path) -> None:
    second, first = write_image("b.png", seed=1), write_image("a.PNG", seed=2)
    write_image(".hidden.png")
    (tmp_path / "notes.txt").write_text("not an image")
    domain = FolderDomain(tmp_path)
    assert len(domain) == 2
    assert domain.labels is None
    assert domain.class_names == ()
    assert domain.channels == 3
    assert torch.equal(domain[0][0], pixels_of(first))
    assert torch.equal(domain[1][0], pixels_of(second))
    assert domain[1][1] == -1
    assert domain.sizes == ((18, 20),)


def test_sub_folders_are_classes_in_sorted_order(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("dog/x.png")
    write_image("cat/z.png")
    write_image("cat/deep/er/a.jpg")
    write_image(".cache/q.png")
    domain = FolderDomain(tmp_path)
    assert domain.class_names == ("cat", "dog")
    assert domain.require_labels().tolist() == [0, 0, 1]
    assert [file.name for file in domain.files] == ["a.jpg", "z.png", "x.png"]
    assert domain[2][1] == 1


@pytest.mark.parametrize("extension", ["png", "jpg", "JPEG", "jfif", "bmp", "gif", "webp", "tif", "tiff", "ppm"])
def test_usual_formats_are_read(write_image: WriteImage, tmp_path: Path, extension: str) -> None:
    write_image(f"a.{extension}")
    assert FolderDomain(tmp_path)[0][0].shape == (3, 18, 20)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_channels_come_from_the_images(write_image: WriteImage, tmp_path: Path, mode: str, channels: int) -> None:
    file = write_image("a.png", mode)
    domain = FolderDomain(tmp_path)
    assert domain.channels == channels
    assert torch.equal(domain[0][0], pixels_of(file))


def test_size_takes_the_centre_square(tmp_path: Path) -> None:
    row = np.repeat(np.array([0, 90, 200], dtype=np.uint8), [20, 40, 20])
    Image.fromarray(np.tile(row, (40, 1))).save(tmp_path / "a.png")
    image = FolderDomain(tmp_path, size=16)[0][0]
    assert image.shape == (1, 16, 16)
    assert image.unique().tolist() == [90]


def test_size_reduces_with_antialiasing(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    inner = FolderDomain(tmp_path, size=16)[0][0][:, 1:-1, 1:-1]
    assert inner.min() >= 126
    assert inner.max() <= 129


def test_invert_turns_colours_over_but_not_transparency(write_image: WriteImage, tmp_path: Path) -> None:
    pixels = pixels_of(write_image("a.png", "RGBA"))
    image = FolderDomain(tmp_path, invert=True)[0][0]
    assert torch.equal(image[:3], 255 - pixels[:3])
    assert torch.equal(image[3], pixels[3])


def test_transparency_is_laid_on_white_when_colour_is_asked_for(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[:, :8] = (10, 20, 30, 255)
    pixels[:, 8:] = (10, 20, 30, 0)
    pixels[0, 0] = (0, 0, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = FolderDomain(tmp_path, channels=3)[0][0]
    assert image[:, 5, 2].tolist() == [10, 20, 30]
    assert image[:, 5, 12].tolist() == [255, 255, 255]
    assert image[:, 0, 0].tolist() == [204, 204, 204]
    assert FolderDomain(tmp_path, channels=1)[0][0][0, 5, 12] == 255


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_colours_of_transparent_pixels_do_not_show_after_resizing(mode: str, tmp_path: Path) -> None:
    """A white disc on nothing stays white at its edge, whatever colour nothing has."""
    pixels = np.zeros((64, 64, len(mode)), dtype=np.uint8)
    rows, columns = np.mgrid[:64, :64] - 31.5
    pixels[rows**2 + columns**2 < 400] = 255
    Image.fromarray(pixels, mode).save(tmp_path / "a.png")
    small = FolderDomain(tmp_path, size=16)[0][0]
    assert small.shape == (len(mode), 16, 16)
    assert small[:-1, small[-1] > 0].unique().tolist() == [255]
    wanted = np.asarray(Image.open(tmp_path / "a.png").getchannel("A").resize((16, 16), Image.Resampling.BILINEAR))
    assert float((small[-1].int() - torch.from_numpy(wanted.copy()).int()).abs().max()) <= 1.0


@pytest.mark.parametrize(("mode", "pixel"), [("LA", (100, 60)), ("RGBA", (100, 0, 255, 128))])
def test_colours_of_half_transparent_pixels_stay_when_resized(
    mode: str, pixel: tuple[int, ...], tmp_path: Path
) -> None:
    Image.new(mode, (64, 48), pixel).save(tmp_path / "a.png")
    small = FolderDomain(tmp_path, size=16)[0][0]
    assert small.flatten(1).unique(dim=1)[:, 0].tolist() == list(pixel)
    assert small.flatten(1).unique(dim=1).shape[1] == 1


def test_grey_and_colour_turn_into_one_another(write_image: WriteImage, tmp_path: Path) -> None:
    pixels = pixels_of(write_image("colour/a.png")).double()
    luminance = 0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2]
    grey = FolderDomain(tmp_path / "colour", channels=1)[0][0]
    assert (grey[0].double() - luminance).abs().max() <= 1
    plain = pixels_of(write_image("grey/a.png", "L"))
    assert torch.equal(FolderDomain(tmp_path / "grey", channels=3)[0][0], plain.expand(3, -1, -1))


def test_palette_becomes_rgb_and_with_transparency_rgba(tmp_path: Path) -> None:
    for name in ("plain", "clear"):
        (tmp_path / name).mkdir()
        image = Image.new("P", (16, 16), 0)
        image.putpalette([9, 8, 7, 60, 50, 40])
        image.putpixel((3, 2), 1)
        if name == "clear":
            image.info["transparency"] = 1
        image.save(tmp_path / name / "a.png")
    plain, clear = FolderDomain(tmp_path / "plain"), FolderDomain(tmp_path / "clear")
    assert plain[0][0][:, 0, 0].tolist() == [9, 8, 7]
    assert plain[0][0][:, 2, 3].tolist() == [60, 50, 40]
    assert clear.channels == 4
    assert clear[0][0][:, 2, 3].tolist() == [60, 50, 40, 0]


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    image = Image.new("1", (16, 16))
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert FolderDomain(tmp_path)[0][0][0, 0, :3].tolist() == [0, 255, 0]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path: Path, extension: str) -> None:
    levels = np.zeros((16, 16), dtype=np.uint16)
    levels[0, :6] = [0, 128, 129, 257, 32768, 65535]
    Image.fromarray(levels).save(tmp_path / f"a.{extension}")
    domain = FolderDomain(tmp_path)
    assert domain.channels == 1
    assert domain[0][0][0, 0, :6].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("levels", [np.uint8, np.uint16])
def test_a_tiff_in_which_0_is_white_is_read_so(tmp_path: Path, levels: type[np.unsignedinteger[Any]]) -> None:
    """PIL turns 8-bit levels round, in writing and reading, and leaves those of 16 bits alone."""
    picture = np.full((16, 16), np.iinfo(levels).max, dtype=levels)
    picture[0, 0] = 0
    Image.fromarray(picture).save(tmp_path / "a.tif", tiffinfo={TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 0})
    written = 0 if levels is np.uint8 else 255
    assert FolderDomain(tmp_path)[0][0][0, 0, :2].tolist() == [written, 255 - written]


def test_a_transparent_level_is_laid_on_white(tmp_path: Path) -> None:
    levels = np.zeros((16, 16), dtype=np.uint16)
    levels[0, :3] = [400, 401, 65535]
    Image.fromarray(levels).save(tmp_path / "deep.png", transparency=400)
    Image.fromarray(levels > 400).save(tmp_path / "bits.png", transparency=0)
    bits, deep = FolderDomain(tmp_path, channels=1).images([0, 1])
    assert bits[0, 0].tolist() == [255] * 16
    assert deep[0, 0, :4].tolist() == [255, 2, 255, 0]
    assert FolderDomain(tmp_path)[1][0][1, 0, :4].tolist() == [0, 255, 255, 255]


@pytest.mark.parametrize(("brightest", "warned"), [(4095, True), (7900, True), (8400, False), (65535, False)])
def test_a_folder_that_would_be_nearly_black_is_warned_of(brightest: int, warned: bool, tmp_path: Path) -> None:
    """Cameras write 12 bits into 16-bit files, which no reader can tell from a dark picture."""
    for number, level in enumerate((0, brightest)):
        Image.fromarray(np.full((16, 16), level, dtype=np.uint16)).save(tmp_path / f"{number}.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FolderDomain(tmp_path, name="camera")
    assert [("the images of camera" in str(w.message), "12 bits" in str(w.message)) for w in caught] == [
        (True, True)
    ] * warned


def test_grey_beyond_sixteen_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 70000, dtype=np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(DomainError, match=r"deep\.tif: 32-bit grey with values from 70000 to 70000"):
        FolderDomain(tmp_path)


def test_floating_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 0.5, dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DomainError, match=r"float\.tif: colour mode F"):
        FolderDomain(tmp_path)


def test_cmyk_is_refused_by_name_even_when_skipping(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("print.jpg", "CMYK")
    write_image("fine.jpg")
    with pytest.raises(DomainError, match=r"1 of 2 images cannot be used: .*print\.jpg: colour mode CMYK.*RGB"):
        FolderDomain(tmp_path, skip_unreadable=True)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "phone.jpg", exif=exif)
    domain = FolderDomain(tmp_path)
    assert domain[0][0].shape == (3, 40, 20)
    assert domain.sizes == ((40, 20),)


def test_mixed_channels_are_refused_and_named(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("a.png")
    write_image("b.png", "L")
    with pytest.raises(DomainError, match=r"a\.png has 3, .*b\.png has 1; .*--channels 3"):
        FolderDomain(tmp_path)
    assert FolderDomain(tmp_path, channels=1).images([0, 1]).shape == (2, 1, 18, 20)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_broken_file_is_refused_by_name(write_image: WriteImage, tmp_path: Path, extension: str) -> None:
    write_image("fine.png")
    truncate(write_image(f"broken.{extension}", size=(64, 64)))
    with pytest.raises(DomainError, match=rf"1 of 2 images cannot be read: .*broken\.{extension}.*--skip-unreadable"):
        FolderDomain(tmp_path)


def test_broken_file_is_skipped_with_its_label_and_a_warning(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("cat/a.jpg")
    truncate(write_image("cat/broken.jpg", size=(64, 64)))
    write_image("dog/b.jpg")
    (tmp_path / "dog" / "empty.png").touch()
    (tmp_path / "dog" / "page.png").write_text("<html>")
    with pytest.warns(UserWarning, match=r"left out 3 of 5 .*broken\.jpg.*empty\.png.*page\.png \(not an image"):
        domain = FolderDomain(tmp_path, skip_unreadable=True)
    assert [file.name for file in domain.files] == ["a.jpg", "b.jpg"]
    assert domain.require_labels().tolist() == [0, 1]


def test_only_broken_files_are_refused_even_when_skipping(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DomainError, match=r"holds no readable image: .*a\.png"):
        FolderDomain(tmp_path, skip_unreadable=True)


def test_ten_broken_files_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    for index in range(13):
        (tmp_path / f"{index:02}.png").touch()
    with pytest.raises(DomainError, match=r"13 of 13 .*00\.png.*09\.png.*; and 3 more; repair") as refusal:
        FolderDomain(tmp_path)
    assert "10.png" not in str(refusal.value)


@pytest.mark.parametrize("limit", [300, 100])
def test_decompression_bomb_is_unreadable_and_does_not_warn(
    write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    write_image("bomb.png", size=(20, 18))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DomainError, match=r"cannot be read: .*bomb\.png .*(limit|decompression bomb)"):
            FolderDomain(tmp_path)


@pytest.mark.parametrize("size", [None, 32])
def test_single_pixel_is_always_refused(write_image: WriteImage, tmp_path: Path, size: int | None) -> None:
    write_image("dot.png", size=(1, 1))
    with pytest.raises(DomainError, match=r"dot\.png: 1 x 1 px carries no picture"):
        FolderDomain(tmp_path, size=size)


def test_small_image_is_refused_unless_a_size_enlarges_it(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("small.png", size=(15, 40))
    with pytest.raises(DomainError, match=r"small\.png: 15 x 40 px .*sides of at least 16 px.*--size"):
        FolderDomain(tmp_path)
    assert FolderDomain(tmp_path, size=32)[0][0].shape == (3, 32, 32)


def test_images_of_different_sizes_are_listed_but_form_no_batch(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("a.png", size=(20, 18))
    write_image("b.png", size=(30, 16))
    domain = FolderDomain(tmp_path)
    assert domain.sizes == ((16, 30), (18, 20))
    with pytest.raises(DomainError, match="different sizes"):
        domain.images([0, 1])


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="nowhere is not a folder; expected a folder of images"):
        FolderDomain(tmp_path / "nowhere")


def test_empty_folder_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(DomainError, match=r"holds no image; expected \.bmp, .*\.webp files, or sub-folders"):
        FolderDomain(tmp_path)


def test_images_beside_classes_are_refused(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("loose.png")
    write_image("cat/a.png")
    with pytest.raises(DomainError, match=r"holds images itself \(loose\.png\) and in sub-folders \(cat\)"):
        FolderDomain(tmp_path)


def test_class_without_images_is_refused(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("cat/a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DomainError, match=r"dog holds no image, but every sub-folder of .* is a class"):
        FolderDomain(tmp_path)


@pytest.mark.parametrize(("options", "message"), [({"channels": 5}, "1, 2, 3 or 4, got 5"), ({"size": 0}, "got 0")])
def test_impossible_options_are_refused(
    write_image: WriteImage, tmp_path: Path, options: dict[str, int], message: str
) -> None:
    write_image("a.png")
    with pytest.raises(DomainError, match=message):
        FolderDomain(tmp_path, **options)  # type: ignore[arg-type]


def test_loops_of_links_end(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("cat/a.png")
    try:
        (tmp_path / "cat" / "again").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    (tmp_path / "cat" / "dangling.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DomainError, match=r"dangling\.png"):
        FolderDomain(tmp_path)
    (tmp_path / "cat" / "dangling.png").unlink()
    assert {file.name for file in FolderDomain(tmp_path).files} == {"a.png"}


def test_linked_class_folder_is_followed(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("store/a.png")
    (tmp_path / "root").mkdir()
    try:
        (tmp_path / "root" / "cat").symlink_to(tmp_path / "store", target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert FolderDomain(tmp_path / "root").class_names == ("cat",)


def test_file_that_breaks_later_is_named(write_image: WriteImage, tmp_path: Path) -> None:
    file = write_image("a.png")
    domain = FolderDomain(tmp_path)
    file.unlink()
    with pytest.raises(DomainError, match=r"a\.png could be read when the folder was opened, but not now"):
        domain[0]


def test_domain_works_in_loader_workers_and_survives_pickle(write_image: WriteImage, tmp_path: Path) -> None:
    for index in range(4):
        write_image(f"class/{index}.png", seed=index)
    domain = FolderDomain(tmp_path, size=16)
    images, labels = next(iter(DataLoader(domain, batch_size=4, num_workers=1)))
    assert torch.equal(images, domain.images(range(4)))
    assert labels.tolist() == [0, 0, 0, 0]
    assert torch.equal(pickle.loads(pickle.dumps(domain))[3][0], domain[3][0])


def test_a_file_that_would_start_another_program_is_not_opened(tmp_path: Path, write_image: WriteImage) -> None:
    write_image("folder/0.png")
    script = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
    (tmp_path / "folder" / "1.png").write_text(script)
    with pytest.raises(DomainError, match=r"1\.png \(not an image of any known format\)"):
        FolderDomain(tmp_path / "folder")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG"])
def test_the_name_of_a_file_need_not_tell_its_format(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (20, 18), "red").save(tmp_path / "0.png", format=kind)
    assert FolderDomain(tmp_path)[0][0].shape == (3, 18, 20)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 18), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert FolderDomain(tmp_path, channels=3)[0][0][:, 5, 5].tolist() == [255, 0, 0]


def test_images_of_kinds_that_are_not_read_are_counted(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("cat/a.png")
    for name in ("cat/b.HEIC", "cat/deep/c.heic", "cat/d.avif", "cat/.hidden.avif", "cat/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r"left out 3 files of .* of other kinds \(\.avif, \.heic\); convert"):
        assert len(FolderDomain(tmp_path)) == 1


def test_a_file_that_is_replaced_or_renamed_changes_the_fingerprint(write_image: WriteImage, tmp_path: Path) -> None:
    for index in range(3):
        write_image(f"{index}.png", seed=index)
    first = FolderDomain(tmp_path).fingerprint()
    assert FolderDomain(tmp_path).fingerprint() == first
    write_image("1.png", seed=1, size=(40, 30))
    replaced = FolderDomain(tmp_path).fingerprint()
    (tmp_path / "1.png").rename(tmp_path / "10.png")
    assert len({first, replaced, FolderDomain(tmp_path).fingerprint()}) == 3


def test_a_folder_that_is_moved_keeps_its_fingerprint(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("here/cat/a.png")
    before = FolderDomain(tmp_path / "here").fingerprint()
    (tmp_path / "here").rename(tmp_path / "there")
    assert FolderDomain(tmp_path / "there").fingerprint() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_image(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("a.png")
    os.mkfifo(tmp_path / "b.png")
    assert len(FolderDomain(tmp_path, size=16)) == 1


def test_invert_leaves_the_transparency_of_grey_images(write_image: WriteImage, tmp_path: Path) -> None:
    pixels = pixels_of(write_image("a.png", "LA"))
    image = FolderDomain(tmp_path, invert=True)[0][0]
    assert torch.equal(image[0], 255 - pixels[0])
    assert torch.equal(image[1], pixels[1])


def test_hidden_folders_inside_classes_are_ignored(write_image: WriteImage, tmp_path: Path) -> None:
    kept = [write_image("cat/deep/a.png"), write_image("dog/b.png")]
    write_image("cat/.thumbnails/a.png")
    write_image("cat/deep/.cache/a.png")
    assert FolderDomain(tmp_path).files == tuple(kept)
