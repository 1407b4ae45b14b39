"""Every transfer syntax, every bit depth, every way a header says how values become gray."""

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.processing import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from lungbox.datasets.phantom import draw
from lungbox.radiograph import RadiographError, dicom, grayscale, read, size
from tests import dicoms

CHEST = draw(64, 2, np.random.default_rng(7)).pixels
RAMP = np.arange(4096, dtype=np.int32).reshape(64, 64)


@pytest.mark.parametrize("syntax", dicoms.LOSSLESS, ids=lambda uid: uid.keyword)
def test_lossless_syntaxes_give_the_pixels_exactly(tmp_path, syntax):
    path = dicoms.write(dicoms.dataset(CHEST, syntax=syntax), tmp_path / "chest", syntax)
    assert np.array_equal(read(path).pixels, CHEST)
    assert size(path) == (64, 64)


@pytest.mark.parametrize("syntax", dicoms.LOSSLESS, ids=lambda uid: uid.keyword)
def test_twelve_bits_in_every_lossless_syntax(tmp_path, syntax):
    ds = dicoms.dataset(CHEST.astype(int) * 16, bits=12, syntax=syntax)
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    pixels = read(dicoms.write(ds, tmp_path / "chest.dcm", syntax)).pixels
    assert np.abs(pixels.astype(int) - CHEST).max() <= 1


@pytest.mark.parametrize("syntax", dicoms.LOSSY, ids=lambda uid: uid.keyword)
def test_lossy_syntaxes_come_close(tmp_path, syntax):
    pixels = read(dicoms.write(dicoms.dataset(CHEST), tmp_path / "chest.dcm", syntax)).pixels
    assert np.abs(pixels.astype(int) - CHEST).mean() < 3


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "header",
    [
        {},
        {"RescaleSlope": 1, "RescaleIntercept": 0},
        {"RescaleSlope": 2, "RescaleIntercept": -3},
        {"WindowCenter": 100, "WindowWidth": 80},
        {"WindowCenter": 100, "WindowWidth": 0},
        {"PixelPaddingValue": 0},
        {"BitsStored": 7, "HighBit": 6},
        {"PixelRepresentation": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGBaseline8Bit])
def test_the_short_way_of_eight_bits_is_the_long_one(
    tmp_path, monkeypatch, syntax, header, photometric
):
    """Gray levels that stand for themselves are not looked up, and gray JPEG not decoded by way
    of pydicom."""
    values = np.random.default_rng(1).integers(0, 256, (48, 32)).astype(np.uint8)
    ds = dicoms.dataset(values)
    ds.PhotometricInterpretation = photometric
    for name, value in header.items():
        setattr(ds, name, value)
    path = dicoms.write(ds, tmp_path / "a.dcm", syntax)
    short = read(path).pixels
    monkeypatch.setattr(grayscale, "look_up", lambda table, of, low: table[of.astype(int) - low])
    monkeypatch.setattr(dicom, "_decode_gray_jpeg", lambda *_: None)
    assert np.array_equal(short, read(path).pixels)


def test_lossy_twelve_bits(tmp_path):
    """Encoded at 12 bits, of which none is lost to the 8 that most decoders stop at."""
    values = (CHEST.astype(np.uint16) * 16 + RAMP % 16)[:48].astype(np.uint16)
    ds = dicoms.dataset(values, bits=12)
    ds.WindowCenter, ds.WindowWidth = 2048, 256  # sixteen values for each gray level
    exact = read(dicoms.write(ds, tmp_path / "exact.dcm")).pixels
    image = imagecodecs.jpeg8_encode(values, level=100, bitspersample=12)
    dicoms.store(ds, image, JPEGExtended12Bit)
    lossy = read(dicoms.write(ds, tmp_path / "lossy.dcm")).pixels
    assert np.abs(lossy.astype(int) - exact).max() <= 4
    assert (exact > 0).sum() > 100


def test_monochrome1_is_inverted_after_the_window(tmp_path):
    ds = dicoms.dataset(RAMP, bits=12)
    ds.WindowCenter, ds.WindowWidth = 1000, 500
    upright = read(dicoms.write(ds, tmp_path / "upright.dcm")).pixels
    ds.PhotometricInterpretation = "MONOCHROME1"
    inverted = read(dicoms.write(ds, tmp_path / "inverted.dcm")).pixels
    assert np.array_equal(inverted, 255 - upright)
    assert upright.ravel()[0] == 0
    assert upright.ravel()[-1] == 255


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", ""])
@pytest.mark.parametrize(("centre", "width"), [(2048, 4096), (600, 300), (3000, 2), (100, 9000)])
def test_windows_are_those_of_the_standard(tmp_path, function, centre, width):
    ds = dicoms.dataset(RAMP, bits=12)
    ds.WindowCenter, ds.WindowWidth = centre, width
    if function:
        ds.VOILUTFunction = function
    with np.errstate(over="ignore"):
        expected = apply_windowing(RAMP, ds) / 4095 * 255
    pixels = read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels
    assert np.abs(pixels - expected).max() <= 0.51


def test_rescale_comes_before_the_window(tmp_path):
    ds = dicoms.dataset(RAMP, bits=12)
    ds.RescaleSlope, ds.RescaleIntercept = 2, -1000
    ds.WindowCenter, ds.WindowWidth = 1000.5, 1001
    pixels = read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels.ravel()
    assert pixels[750] == 0  # 2 * 750 - 1000 = 500, the window's lower end
    assert pixels[1250] == 255
    assert 0 < pixels[1000] < 255


def test_modality_and_voi_luts(tmp_path):
    ds = dicoms.dataset(np.arange(256, dtype=np.uint8).reshape(16, 16))
    ds.ModalityLUTSequence = Sequence([_lut(np.arange(256)[::-1], bits=8)])
    ds.VOILUTSequence = Sequence([_lut(np.minimum(np.arange(256) * 32, 4095), bits=16)])
    pixels = read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels.ravel()
    # The modality LUT reverses; the VOI LUT reaches its top (12 bits, though it claims 16) at 128.
    assert pixels[255] == 0
    assert (pixels[:128] == 255).all()
    assert pixels[255 - 64] == round(64 * 32 / 4095 * 255)


def test_the_first_of_several_windows_is_used(tmp_path):
    ds = dicoms.dataset(RAMP, bits=12)
    ds.WindowCenter, ds.WindowWidth = [500, 3000], [200, 200]
    pixels = read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels.ravel()
    assert pixels[700] == 255


@pytest.mark.parametrize("width", [0, -5, None])
def test_a_useless_window_is_no_window(tmp_path, width):
    ds = dicoms.dataset(RAMP, bits=12)
    ds.WindowCenter, ds.WindowWidth = 40, width
    pixels = read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels
    assert pixels.max() == 255
    assert len(np.unique(pixels)) == 256


def test_signed_values(tmp_path):
    ds = dicoms.dataset(RAMP - 2048, bits=12, signed=True)
    pixels = read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels.ravel().astype(int)
    assert (np.diff(pixels) >= 0).all()
    assert (pixels[0], pixels[-1]) == (0, 255)


def test_sixteen_bits_without_a_window_ignore_a_burned_in_marker(tmp_path):
    values = CHEST.astype(int) * 8
    values[:3, :3] = 65535
    pixels = read(dicoms.write(dicoms.dataset(values, bits=16), tmp_path / "chest.dcm")).pixels
    assert pixels[10:, 10:].std() > 40


@pytest.mark.parametrize("signed", [False, True])
def test_thirty_two_bits_allocated(tmp_path, signed):
    values = CHEST.astype(np.int64) * 2**23
    ds = dicoms.dataset(values - 2**31 * signed, bits=32, signed=signed)
    ds.WindowCenter, ds.WindowWidth = 2**30 - 2**31 * signed, 2**31
    pixels = read(dicoms.write(ds, tmp_path / "chest.dcm")).pixels
    assert np.abs(pixels - CHEST * (255 / 256)).max() <= 0.51


def test_twelve_bits_in_thirty_two(tmp_path):
    ds = dicoms.dataset(RAMP, bits=32)
    ds.BitsStored, ds.HighBit = 12, 11
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    pixels = read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels
    assert np.abs(pixels - RAMP * 255 / 4095).max() <= 0.51


@pytest.mark.parametrize("slope", [0, "nan", "1e400", None])
@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_a_useless_slope_is_no_rescale(tmp_path, slope):
    """The values are shown as they are, and never as one level."""
    ds = dicoms.dataset(RAMP, bits=12)
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    plain = read(dicoms.write(ds, tmp_path / "plain.dcm")).pixels
    ds.RescaleSlope, ds.RescaleIntercept = slope, 0
    assert np.array_equal(read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels, plain)


@pytest.mark.parametrize("width", ["nan", "1e400"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_a_window_that_is_no_number_is_no_window(tmp_path, width):
    ds = dicoms.dataset(RAMP, bits=12)
    plain = read(dicoms.write(ds, tmp_path / "plain.dcm")).pixels
    ds.WindowCenter, ds.WindowWidth = 2048, width
    assert np.array_equal(read(dicoms.write(ds, tmp_path / "ramp.dcm")).pixels, plain)


@pytest.mark.parametrize("given", [("SS", -2000), ("US", 2**16 - 2000)], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", [12, 16])
def test_padding_of_signed_values(tmp_path, given, bits):
    """Its element is often written unsigned, where the pixels are not."""
    values = CHEST.astype(int) * 4 - 500
    values[:, :8] = -2000
    ds = dicoms.dataset(values, bits=bits, signed=True)
    ds.add_new("PixelPaddingValue", *given)
    pixels = read(dicoms.write(ds, tmp_path / "chest.dcm")).pixels
    assert (pixels[:, :8] == 0).all()
    # Without the padding, for otherwise the chest would begin at mid-gray.
    assert pixels[:, 8:].min() == 0
    assert pixels[:, 8:].max() == 255


def test_padding_is_black_and_does_not_count(tmp_path):
    values = CHEST.astype(int) * 4 + 500
    values[:, :8] = 4000
    ds = dicoms.dataset(values, bits=12)
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = 3990, 4010
    pixels = read(dicoms.write(ds, tmp_path / "chest.dcm")).pixels
    assert (pixels[:, :8] == 0).all()
    assert pixels[:, 8:].max() == 255


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit])
def test_colour_becomes_luma(tmp_path, syntax):
    colour = np.stack([CHEST, CHEST // 2, 255 - CHEST], axis=-1)
    pixels = read(dicoms.write(dicoms.dataset(colour), tmp_path / "c.dcm", syntax)).pixels
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels - expected).mean() < (0.6 if syntax != JPEGBaseline8Bit else 3)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_twelve_bits_of_colour(tmp_path, syntax):
    colour = np.stack([CHEST, CHEST // 2, 255 - CHEST], axis=-1).astype(int) * 16
    path = dicoms.write(dicoms.dataset(colour, bits=12), tmp_path / "c.dcm", syntax)
    expected = colour @ np.array([0.299, 0.587, 0.114]) * 255 / 4095
    assert np.abs(read(path).pixels - expected).max() <= 0.51


def test_palette_colour(tmp_path):
    ds = dicoms.dataset(CHEST)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = (np.arange(256) * 257).astype("<u2").tobytes()
        setattr(ds, f"{colour}PaletteColorLookupTableData", table)
    assert np.array_equal(read(dicoms.write(ds, tmp_path / "palette.dcm")).pixels, CHEST)


@pytest.mark.parametrize("largest", [255, 65535])
def test_a_palette_of_8_bit_colours_in_16_bit_entries(tmp_path, largest):
    """They are not 256 times darker than they look elsewhere."""
    ds = dicoms.dataset(CHEST)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for colour, share in (("Red", 1.0), ("Green", 0.5), ("Blue", 0.0)):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = np.round(np.linspace(0, share * largest, 256)).astype("<u2").tobytes()
        setattr(ds, f"{colour}PaletteColorLookupTableData", table)
    pixels = read(dicoms.write(ds, tmp_path / "palette.dcm")).pixels
    assert np.abs(pixels - CHEST * (0.299 + 0.587 / 2)).max() <= 1


def test_a_palette_of_8_bit_entries(tmp_path):
    ds = dicoms.dataset(CHEST)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        table = np.arange(256, dtype=np.uint8) // 2
        setattr(ds, f"{colour}PaletteColorLookupTableData", table.tobytes())
    pixels = read(dicoms.write(ds, tmp_path / "palette.dcm")).pixels
    assert np.array_equal(pixels, CHEST // 2)


@pytest.mark.parametrize("syntax", [*dicoms.LOSSLESS], ids=lambda uid: uid.keyword)
def test_a_file_without_preamble(tmp_path, syntax):
    path = dicoms.write(dicoms.dataset(CHEST, syntax=syntax), tmp_path / "bare", syntax)
    dicoms.without_preamble(path)
    assert path.read_bytes()[:4] == b"\x02\0\0\0"
    assert np.array_equal(read(path).pixels, CHEST)
    assert size(path) == (64, 64)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian],
    ids=lambda uid: uid.keyword,
)
def test_a_file_without_preamble_and_meta_information(tmp_path, syntax):
    """Its own first elements tell how it is written."""
    ds = dicoms.dataset(RAMP, bits=12, syntax=syntax)
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    del ds.file_meta
    path = tmp_path / "bare"
    ds.preamble = None
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    ds.save_as(path, implicit_vr=implicit, little_endian=little)
    assert sorted(path.read_bytes()[:2]) == [0, 8]
    assert np.abs(read(path).pixels - RAMP * (255 / 4095)).max() <= 0.51


def test_ending_does_not_matter(tmp_path):
    path = dicoms.write(dicoms.dataset(CHEST), tmp_path / "chest.png")
    assert np.array_equal(read(path).pixels, CHEST)
    assert read(path).identity == "chest"


def test_multi_frame_is_refused(tmp_path):
    ds = dicoms.dataset(CHEST)
    ds.NumberOfFrames = 4
    ds.PixelData = ds.PixelData * 4
    with pytest.raises(RadiographError, match="4 frames"):
        read(dicoms.write(ds, tmp_path / "film.dcm"))


def test_enormous_is_refused_before_it_is_decoded(tmp_path):
    ds = dicoms.dataset(CHEST)
    ds.Rows, ds.Columns = 20000, 20000
    with pytest.raises(RadiographError, match="20000 x 20000 pixels"):
        read(dicoms.write(ds, tmp_path / "enormous.dcm"))


def test_an_image_larger_than_its_header_is_refused(tmp_path):
    path = dicoms.write(dicoms.dataset(CHEST), tmp_path / "bomb.dcm", JPEGBaseline8Bit)
    ds = pydicom.dcmread(path)
    ds.Rows, ds.Columns = 32, 32
    ds.save_as(path)
    with pytest.raises(RadiographError, match="disagree on its size"):
        read(path)


@pytest.mark.parametrize("rubbish", [b"\x00", b"\x12\x34\x56"])
def test_an_image_larger_than_its_header_is_refused_behind_rubbish(tmp_path, rubbish):
    """Decoders skip what is between two segments of a JPEG, so its size is there all the same."""
    path = dicoms.write(dicoms.dataset(CHEST), tmp_path / "bomb.dcm", JPEGBaseline8Bit)
    ds = pydicom.dcmread(path)
    content = get_frame(ds.PixelData, 0, number_of_frames=1)
    assert content[:3] == b"\xff\xd8\xff"
    length = int.from_bytes(content[4:6], "big")
    content = content[: 4 + length] + rubbish + content[4 + length :]
    ds.PixelData = encapsulate([content + b"\0" * (len(content) % 2)])
    ds.save_as(path)
    assert (read(path).pixels == _without_rubbish(tmp_path)).all()
    ds.Rows, ds.Columns = 32, 32
    ds.save_as(path)
    with pytest.raises(RadiographError, match="disagree on its size"):
        read(path)


def test_a_preview_inside_a_jpeg_is_no_scan(tmp_path, monkeypatch):
    """Its own start of scan stands in a segment, as it does in many Exif segments."""
    path = dicoms.write(dicoms.dataset(CHEST), tmp_path / "a.dcm", JPEGBaseline8Bit)
    expected = read(path).pixels
    preview = b"\xff\xe1\x00\x0c" + b"\xff\xd8\xff\xda\x00\x02..\xff\xd9"
    dicoms.damage_image(path, lambda image: image[:2] + preview + image[2:])
    monkeypatch.setattr(dicom, "decode_in_subprocess", None)
    assert np.array_equal(read(path).pixels, expected)


def _without_rubbish(folder):
    path = dicoms.write(dicoms.dataset(CHEST), folder / "clean.dcm", JPEGBaseline8Bit)
    return read(path).pixels


def test_no_image(tmp_path):
    ds = dicoms.dataset(CHEST)
    del ds.PixelData
    with pytest.raises(RadiographError, match="without an image"):
        read(dicoms.write(ds, tmp_path / "report.dcm"))


def test_no_image_but_a_sequence_that_is_not_in_use(tmp_path):
    """Which is not a file that was cut off."""
    ds = dicoms.dataset(CHEST)
    item = Dataset()
    item.TextValue = "finding"
    for element in list(ds):
        del ds[element.tag]
    ds.ContentSequence = Sequence([item])
    with pytest.raises(RadiographError, match=r"without an image \(no pixel data\)"):
        read(dicoms.write(ds, tmp_path / "sequence.dcm"))


def _lut(entries: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), 0, bits]
    item.LUTData = entries.astype("<u2").tobytes()
    return item
