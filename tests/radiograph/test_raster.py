"""PNG and JPEG in all the forms people have them."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lungbox.datasets.phantom import draw
from lungbox.radiograph import RadiographError, read, size

CHEST = draw(64, 1, np.random.default_rng(3)).pixels


def _save(image: Image.Image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_gray_in_any_mode_is_the_same_gray(tmp_path, mode):
    path = _save(Image.fromarray(CHEST).convert(mode), tmp_path / "chest.png")
    assert np.array_equal(read(path).pixels, CHEST)
    assert size(path) == (64, 64)


def test_colour_becomes_luma_as_pillow_has_it(tmp_path):
    colour = np.stack([CHEST, 255 - CHEST, CHEST // 3], axis=-1)
    path = _save(Image.fromarray(colour), tmp_path / "c.png")
    assert np.array_equal(read(path).pixels, np.asarray(Image.fromarray(colour).convert("L")))


def test_transparent_is_black(tmp_path):
    pixels = np.dstack([CHEST, CHEST, CHEST, np.full_like(CHEST, 255)])
    pixels[:10, :, 3] = 0
    read_back = read(_save(Image.fromarray(pixels), tmp_path / "c.png")).pixels
    assert (read_back[:10] == 0).all()
    assert np.array_equal(read_back[10:], CHEST[10:])


def test_sixteen_bits_at_full_scale(tmp_path):
    path = _save(Image.fromarray(CHEST.astype(np.uint16) * 257), tmp_path / "c.png")
    assert np.array_equal(read(path).pixels[CHEST < 255], CHEST[CHEST < 255])


def test_twelve_bits_in_sixteen_are_stretched(tmp_path):
    path = _save(Image.fromarray(CHEST.astype(np.uint16) * 16), tmp_path / "c.png")
    pixels = read(path).pixels
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.corrcoef(pixels.ravel(), CHEST.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(tmp_path, mode):
    image = Image.fromarray(CHEST).convert("RGB").convert(mode)
    pixels = read(_save(image, tmp_path / "chest.jpeg", quality=95)).pixels
    assert np.abs(pixels.astype(int) - CHEST).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.97])
def test_truncated_files_get_a_sentence(tmp_path, kind, share):
    content = BytesIO()
    Image.fromarray(CHEST).save(content, kind)
    path = tmp_path / "cut"
    path.write_bytes(content.getvalue()[: int(len(content.getvalue()) * share)])
    with pytest.raises(RadiographError) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_enormous_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "enormous.png"
    Image.new("1", (16000, 16000)).save(path)
    with pytest.raises(RadiographError, match="pixels"):
        read(path)


@pytest.mark.parametrize("height", [10_100, 17_800, 20_000], ids=["101", "178", "200"])
def test_megapixels_beyond_ours_are_refused_in_our_words_only(tmp_path, height, recwarn):
    """Pillow warns from 89 and refuses from 179 megapixels, in words of its own."""
    path = tmp_path / "large.png"
    Image.new("1", (10_000, height)).save(path, compress_level=1)
    for look in (read, size):
        with pytest.raises(RadiographError, match=f"10000 x {height} pixels, more than the 100,0"):
            look(path)
    assert not recwarn.list


def test_the_largest_that_are_read_are_not_warned_of(tmp_path, recwarn):
    """Between Pillow's own limit and ours."""
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 9_900), 1).save(path, compress_level=1)
    assert size(path) == (10_000, 9_900)
    assert (read(path).pixels[::100, ::100] == 255).all()
    assert not recwarn.list


def test_a_jpeg_of_two_pictures_is_no_radiograph(tmp_path):
    """A stereo camera's file, which Pillow calls MPO."""
    frames = [Image.fromarray(CHEST), Image.fromarray(255 - CHEST)]
    path = tmp_path / "stereo.jpg"
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:])
    with pytest.raises(RadiographError, match="2 frames"):
        read(path)


def test_other_files_are_not_images(tmp_path):
    for name, content in (("notes.txt", b"hello"), ("zeros.png", bytes(300)), ("a.gif", b"GIF89a")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(RadiographError, match="neither DICOM, PNG nor JPEG"):
            read(path)


def test_empty(tmp_path):
    (tmp_path / "empty.dcm").touch()
    with pytest.raises(RadiographError, match="empty"):
        read(tmp_path / "empty.dcm")


def test_animated(tmp_path):
    frames = [Image.fromarray(CHEST), Image.fromarray(255 - CHEST)]
    path = tmp_path / "film.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(RadiographError, match="2 frames"):
        read(path)
