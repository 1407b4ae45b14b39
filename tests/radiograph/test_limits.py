"""No file, whatever it is, takes more than 1.5 GB or 30 seconds: it is read, or refused in one
sentence on one line. `python -m benchmarks.fuzz_files` tries thousands more."""

import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, JPEGBaseline8Bit

from lungbox.constants import MAX_REASON
from lungbox.radiograph import RadiographError, read, read_metadata, resize_area, size
from lungbox.radiograph.codecs.codestream import check_scans
from lungbox.radiograph.types import single_line
from tests import bombs, dicoms
from tests.measured import Reader, peak_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="measures memory under /proc"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

# Those that are in order but for a part that nothing asks for.
READ = {
    "dicom_with_a_body_part_of_megabytes",
    "dicom_with_a_lut_descriptor_of_megabytes",
    "dicom_with_a_lut_of_many_items",
    "dicom_with_a_view_code_of_many_items",
    "dicom_with_a_window_of_many_numbers",
}


@pytest.fixture(scope="module")
def reader():
    with Reader() as process:
        yield process


@pytest.mark.parametrize("make", bombs.SMALL, ids=lambda make: make.__name__)
def test_files_that_are_made_to_hurt(tmp_path, reader, make):
    path = tmp_path / "file"
    make(path)
    found = reader.read(path)
    assert found.outcome == ("read" if make.__name__ in READ else "refused"), found.message
    assert found.peak < 600e6
    assert found.processor < 15
    assert "\n" not in found.message
    assert len(found.message) <= MAX_REASON


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (bombs.png_with_trailing_data, "it has 3,000,000,000 bytes, more than the 268,435,456 "),
        (bombs.dicom_of_several_images_said_to_be_one, "200,000,000 bytes .* need 3,072;"),
        (bombs.png_one_pixel_wide, "1 x 9000000 pixels; one side of a radiograph is at most 16 "),
        (bombs.dicom_one_pixel_wide, "3 x 60000 pixels; one side"),
        (bombs.link_to_a_named_pipe, r"^it is a named pipe \(FIFO\), not a file"),
        (bombs.unix_socket, "^it is a socket"),
        (bombs.link_to_an_endless_device, "^it is a device"),
        (bombs.jpeg_of_thousands_of_scans, "2000[0-9] scans over 6,000,000 pixels"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_said_of_them(tmp_path, make, complaint):
    make(tmp_path / "file")
    with pytest.raises(RadiographError, match=complaint):
        read(tmp_path / "file")


@pytest.mark.parametrize(
    "make", [bombs.named_pipe, bombs.unix_socket, bombs.png_with_trailing_data]
)
def test_every_way_to_look_at_a_file_refuses_it(tmp_path, make):
    make(tmp_path / "file")
    for look in (read, size, read_metadata):
        with pytest.raises(RadiographError):
            look(tmp_path / "file")


def test_a_large_png_with_transparency_takes_less_than_its_colours(tmp_path, reader):
    """100 megapixels of four bytes, of which only one form may be there at a time."""
    bombs.large_png_with_transparency(tmp_path / "file")
    found = reader.read(tmp_path / "file")
    assert found.outcome == "read"
    assert found.peak < 900e6


def test_the_largest_detector_is_read(tmp_path, reader):
    values = np.random.default_rng(0).integers(0, 2**16, (4300, 3500)).astype(int)
    path = dicoms.write(dicoms.dataset(values, bits=16), tmp_path / "large.dcm")
    found = reader.read(path)
    assert found.outcome == "read"
    assert found.peak < 600e6
    assert read(path).size == (3500, 4300)


@pytest.mark.parametrize(("height", "width", "fits"), [(160, 10, True), (10, 161, False)])
def test_the_longest_side_beside_the_shortest(tmp_path, height, width, fits):
    path = tmp_path / "narrow.png"
    Image.new("L", (width, height), 9).save(path)
    if fits:
        assert read(path).pixels.shape == (height, width)
        return
    with pytest.raises(RadiographError, match="161 x 10 pixels; one side"):
        read(path)


def test_shrinking_comes_before_growing():
    """Nine million pixels in a column would otherwise be widened as they are, to 2.3 GB."""
    column = np.arange(9_000_000, dtype=np.int64) * 256 // 9_000_000
    column = column.astype(np.uint8)[:, None]
    small: list[np.ndarray] = []
    assert peak_of(lambda: small.append(resize_area(column, 256, 256))) < 400e6
    assert np.abs(small[0].astype(int) - np.arange(256)[:, None]).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "CMYK", "P"])
def test_parts_of_a_large_image_are_its_pixels(tmp_path, mode):
    """More than one part of a million pixels, and the last one shorter."""
    colours = np.random.default_rng(3).integers(0, 256, (1100, 1900, 4)).astype(np.uint8)
    image = Image.fromarray(colours, "RGBA")
    if mode != "RGBA":
        image = image.convert("RGB").convert(mode)
    path = tmp_path / ("c.jpg" if mode == "CMYK" else "c.png")
    image.save(path, **({"transparency": 4} if mode == "P" else {}))
    with Image.open(path) as opened:
        layers = opened.convert("RGBA") if mode in ("RGBA", "P") else opened.convert("RGB")
        if layers.mode == "RGBA":
            layers = Image.alpha_composite(Image.new("RGBA", layers.size, "black"), layers)
        expected = np.asarray(layers.convert("RGB").convert("L"))
    assert np.array_equal(read(path).pixels, expected)


def test_16_bit_colour_with_transparency_in_parts(tmp_path):
    values = np.random.default_rng(3).integers(0, 2**16, (700, 1900, 4)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "c.png"), values)
    blue, green, red, alpha = np.moveaxis(values.astype(np.float64), -1, 0)
    gray = (0.299 * red + 0.587 * green + 0.114 * blue) * alpha / 65535
    top = np.quantile(gray, 0.995)
    assert top >= 32768  # so that it is taken at full scale
    assert np.abs(read(tmp_path / "c.png").pixels - gray / 257).max() <= 0.51


def test_colour_in_a_large_dicom_file(tmp_path):
    values = np.random.default_rng(3).integers(0, 256, (1100, 1900, 3)).astype(np.uint8)
    path = dicoms.write(dicoms.dataset(values), tmp_path / "c.dcm")
    assert np.abs(read(path).pixels - values @ [0.299, 0.587, 0.114]).max() <= 0.51


def test_long_values_are_left_out_and_tables_of_16_bits_are_not(tmp_path):
    values = np.random.default_rng(3).integers(0, 2**16, (40, 60)).astype(int)
    ds = dicoms.dataset(values, bits=16)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [0, 0, 16], np.arange(65535, -1, -1, "<u2").tobytes()
    table["LUTData"].VR = "OW"
    ds.VOILUTSequence = [table, table]
    ds.WindowCenter, ds.WindowWidth = [100] * 6_000, [7] * 6_000
    ds.add_new(0x00091010, "OB", bytes(5_000_000))
    for undefined in (False, True):
        ds["VOILUTSequence"].is_undefined_length = undefined
        read_back = read(dicoms.write(ds, tmp_path / "lut.dcm")).pixels
        assert np.abs(read_back - (65535 - values) / 257).max() <= 0.51


@pytest.mark.parametrize("undefined", [False, True])
def test_megabytes_of_a_manufacturers_own_in_a_sequence(tmp_path, undefined):
    values = np.random.default_rng(3).integers(0, 256, (40, 60))
    ds, item = dicoms.dataset(values), Dataset()
    item.add_new(0x00211010, "OB", bytes(5_000_000))
    ds.add_new(0x00291010, "SQ", [item])
    item.is_undefined_length_sequence_item = ds[0x00291010].is_undefined_length = undefined
    assert np.array_equal(read(dicoms.write(ds, tmp_path / "own.dcm")).pixels, values)


def test_pixel_data_of_a_second_image_is_refused_and_padding_is_not(tmp_path):
    values = np.full((1500, 1100), 7)
    values[3:9] = 200
    for extra, fits in ((3_000, True), (3_300_000, False)):
        ds = dicoms.dataset(values)
        ds.PixelData += bytes(extra)
        path = dicoms.write(ds, tmp_path / "long.dcm")
        if fits:
            assert np.array_equal(read(path).pixels, values)
            continue
        with pytest.raises(RadiographError, match=r"4,950,000 bytes .* need 1,650,000"):
            read(path)


@pytest.mark.filterwarnings("ignore:The pixel data is:UserWarning")
@pytest.mark.parametrize("syntax", [*dicoms.UNCOMPRESSED, ExplicitVRBigEndian])
@pytest.mark.parametrize("colour", [False, True])
def test_padding_of_whole_images_is_no_image(tmp_path, syntax, colour):
    """pydicom takes it for more frames than the header speaks of."""
    values = np.random.default_rng(4).integers(0, 256, (48, 64, 3), np.uint8)
    ds = dicoms.dataset(values if colour else values[..., 0], syntax=syntax)
    expected = read(dicoms.write(ds, tmp_path / "one.dcm", syntax)).pixels
    ds.PixelData = 3 * ds.PixelData
    assert np.array_equal(read(dicoms.write(ds, tmp_path / "three.dcm", syntax)).pixels, expected)


def test_an_ordinary_progressive_jpeg_is_read(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    path = tmp_path / "c.jpg"
    Image.fromarray(pixels).save(path, progressive=True, quality=95)
    assert read(path).size == (70, 90)
    check_scans(path.read_bytes(), 99_000_000)
    with pytest.raises(RadiographError, match="10 scans"):
        check_scans(path.read_bytes(), 201_000_000)


def test_an_image_inside_dicom_has_its_scans_counted_too(tmp_path):
    bombs.dicom_jpeg_of_thousands_of_scans(tmp_path / "file")
    with pytest.raises(RadiographError, match="scans over 6,000,000 pixels"):
        read(tmp_path / "file")
    path = dicoms.write(dicoms.dataset(np.full((30, 50), 90)), tmp_path / "c.dcm", JPEGBaseline8Bit)
    assert read(path).size == (50, 30)


def test_opencvs_many_lines_become_one(tmp_path, monkeypatch):
    def fail(*_):
        raise cv2.error("OpenCV(5.0)\n> Overload resolution failed:\n>  - " + "words " * 500)

    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((30, 40, 3), np.uint16))
    monkeypatch.setattr("lungbox.radiograph.raster.cv2.imdecode", fail)
    with pytest.raises(RadiographError, match="the image is damaged or cut off") as caught:
        read(tmp_path / "c.png")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= MAX_REASON


def test_too_little_memory_is_a_reason(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    path = dicoms.write(dicoms.dataset(np.zeros((30, 40))), tmp_path / "c.dcm")
    # The package's function of the same name hides the module.
    monkeypatch.setattr(sys.modules["lungbox.radiograph.read"], "read_pixels", fail)
    with pytest.raises(RadiographError, match="not enough memory"):
        read(path)


def test_text_for_a_cell():
    assert single_line("a\r\n\tb\x1b[0m\x00  c", 20) == "a b [0m c"
    assert single_line("x" * 10_000_000, 50) == "x" * 47 + "..."
    assert single_line("x" * 50, 50) == "x" * 50
