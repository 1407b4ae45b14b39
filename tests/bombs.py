"""Files made to take all the memory or time there is, each a function of the path to write.

`SMALL` are quick to make and harm only who trusts them; `LARGE` are the largest that are read, or
just beyond, and take seconds.
"""

import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests import dicoms

CHEST = np.random.default_rng(5).integers(0, 256, (48, 64)).astype(np.uint8)
_LONG_VRS = ("OB", "OW", "SQ", "UN", "UT", "UC")
_UNDEFINED = 0xFFFFFFFF
_ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _grow(path: Path, size: int) -> None:
    """Make a file longer without writing anything."""
    with path.open("r+b") as file:
        file.truncate(size)


def _element(group: int, number: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, length) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), length) + value


def _item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def _with_elements(path: Path, elements: bytes, before: int = 0x00080016) -> None:
    """A radiograph with these explicit, little-endian elements in its header."""
    content = dicoms.write(dicoms.dataset(CHEST), path).read_bytes()
    tag = struct.pack("<HH", before >> 16, before & 0xFFFF)
    start = content.index(tag, 132 + 12)
    path.write_bytes(content[:start] + elements + content[start:])


def png_with_trailing_data(path: Path) -> None:
    Image.fromarray(CHEST).save(path, "PNG")
    _grow(path, 3_000_000_000)


def dicom_with_more_pixel_data_than_pixels(path: Path) -> None:
    ds = dicoms.dataset(CHEST)
    ds.PixelData = b""
    content = dicoms.write(ds, path).read_bytes()
    path.write_bytes(content[:-4] + struct.pack("<I", 2_500_000_000))
    _grow(path, len(content) + 2_500_000_000)


def dicom_of_several_images_said_to_be_one(path: Path) -> None:
    dicom_with_more_pixel_data_than_pixels(path)
    with path.open("rb") as file:
        content = file.read(4096)
    place = content.rindex(struct.pack("<I", 2_500_000_000))
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack("<I", 200_000_000))
        file.truncate(place + 4 + 200_000_000)


def png_one_pixel_wide(path: Path) -> None:
    Image.new("L", (1, 9_000_000)).save(path, "PNG", compress_level=1)


def png_one_pixel_high(path: Path) -> None:
    Image.new("L", (9_000_000, 1)).save(path, "PNG", compress_level=1)


def dicom_one_pixel_wide(path: Path) -> None:
    ds = dicoms.dataset(np.zeros((60_000, 3)))
    dicoms.write(ds, path)


def png_with_a_huge_text(path: Path) -> None:
    _png_with_chunk(path, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**27), 1))


def png_with_a_huge_profile(path: Path) -> None:
    _png_with_chunk(path, b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**27), 1))


def png_of_16_bit_colour_with_a_huge_profile(path: Path) -> None:
    content = png_bytes(np.stack([CHEST.astype(np.uint16) * 257] * 3, -1))
    _png_with_chunk(path, b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**27), 1), content)


def png_of_millions_of_chunks(path: Path) -> None:
    content = _png()
    path.write_bytes(content[:33] + _chunk(b"prVt", b"") * 500_000 + content[33:])


def _png() -> bytes:
    content = BytesIO()
    Image.fromarray(CHEST).save(content, "PNG")
    return content.getvalue()


def _chunk(name: bytes, value: bytes) -> bytes:
    return (
        struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
    )


def _png_with_chunk(path: Path, name: bytes, value: bytes, content: bytes | None = None) -> None:
    content = content or _png()
    path.write_bytes(content[:33] + _chunk(name, value) + content[33:])


def _progressive(size: tuple[int, int], mode: str = "L") -> bytes:
    content = BytesIO()
    Image.new(mode, size, 128 if mode == "L" else (90, 120, 30, 0)[: len(mode)]).save(
        content, "JPEG", progressive=True
    )
    return content.getvalue()


def _of_many_scans(size: tuple[int, int], scans: int) -> bytes:
    content = _progressive(size)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * scans + b"\xff\xd9"


def jpeg_of_thousands_of_scans(path: Path) -> None:
    path.write_bytes(_of_many_scans((2000, 3000), 20_000))


def dicom_jpeg_of_thousands_of_scans(path: Path) -> None:
    ds = dicoms.dataset(np.zeros((300, 200)))
    ds.Rows, ds.Columns = 3000, 2000
    ds.PixelData = encapsulate([_of_many_scans((2000, 3000), 20_000)])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.save_as(path, enforce_file_format=True)


def jpeg_of_millions_of_segments(path: Path) -> None:
    content = BytesIO()
    Image.fromarray(CHEST).save(content, "JPEG")
    path.write_bytes(b"\xff\xd8" + b"\xff\xfe\0\2" * 1_000_000 + content.getvalue()[2:])


def jpeg_with_rubbish_before_its_frame(path: Path) -> None:
    content = BytesIO()
    Image.fromarray(CHEST).save(content, "JPEG")
    path.write_bytes(b"\xff\xd8" + b"\xff" * 5_000_000 + content.getvalue()[2:])


def large_jpeg_with_gigabytes_of_exif(path: Path) -> None:
    """Pillow joins them, each time copying all before."""
    content = BytesIO()
    Image.fromarray(CHEST).save(content, "JPEG")
    segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(0xFFFF - 8)
    path.write_bytes(b"\xff\xd8" + segment * 3000 + content.getvalue()[2:])


def dicom_that_inflates_to_gigabytes(path: Path) -> None:
    dicoms.write_bomb(path, 1000 * 2**20)


def dicom_that_inflates_to_millions_of_elements(path: Path) -> None:
    _deflated(path, _many_elements(500_000))


def dicom_of_millions_of_elements(path: Path) -> None:
    _with_elements(path, b"".join(_many_elements(500_000)))


def _many_elements(count: int) -> Iterator[bytes]:
    numbers = np.arange(count, dtype=np.uint32)
    table = np.zeros((count, 8), np.uint8)
    table[:, 0], table[:, 1] = numbers % 100 * 2 + 9, 0
    table[:, 2], table[:, 3] = numbers // 100 % 256, numbers // 25600 % 256
    table[:, 4:6] = tuple(b"LO")
    yield table.tobytes()


def _deflated(path: Path, pieces: Iterator[bytes]) -> None:
    ds = dicoms.dataset(CHEST, syntax=DeflatedExplicitVRLittleEndian)
    content = dicoms.write(ds, path, DeflatedExplicitVRLittleEndian).read_bytes()
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    body = b"".join([*map(deflater.compress, pieces), deflater.flush()])
    path.write_bytes(content[:start] + body)


def dicom_of_nested_sequences(path: Path) -> None:
    opened = _element(0x0008, 0x1140, "SQ", b"", _UNDEFINED)
    opened += struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
    depth = 100_000
    _with_elements(path, opened * depth + (_ITEM_END + _SEQUENCE_END) * depth)


def dicom_of_a_sequence_of_millions_of_items(path: Path) -> None:
    items = _item(b"") * 1_000_000
    _with_elements(path, _element(0x0008, 0x1140, "SQ", items + _SEQUENCE_END, _UNDEFINED))


def dicom_with_a_view_code_of_many_items(path: Path) -> None:
    """Asked for only where the header has no view."""
    ds = dicoms.dataset(CHEST)
    del ds.ViewPosition
    ds.add_new(0x00540220, "OB", _item(b"") * 60_000)
    content = dicoms.write(ds, path).read_bytes()
    path.write_bytes(content.replace(b"\x54\0\x20\2OB", b"\x54\0\x20\2SQ"))


def dicom_with_a_lut_of_many_items(path: Path) -> None:
    _with_elements(path, _element(0x0028, 0x3010, "SQ", _item(b"") * 60_000), 0x7FE00010)


def dicom_with_a_lut_descriptor_of_megabytes(path: Path) -> None:
    descriptor = _element(0x0028, 0x3002, "US", b"\0\1" * 32_000)
    inner = descriptor * 30 + _element(0x0028, 0x3006, "OW", bytes(512))
    value = _item(inner) + _SEQUENCE_END
    _with_elements(path, _element(0x0028, 0x3010, "SQ", value, _UNDEFINED), 0x7FE00010)


def large_dicom_with_a_long_character_set(path: Path) -> None:
    inner = _element(0x0008, 0x0005, "UC", b"\\" * 1_000_000)
    _with_elements(path, inner)


def large_dicom_with_many_long_character_sets(path: Path) -> None:
    inner = _item(_element(0x0008, 0x0005, "UC", b"ISO_IR 100\\" * 90_000))
    _with_elements(path, _element(0x0008, 0x1140, "SQ", inner * 40 + _SEQUENCE_END, _UNDEFINED))


def dicom_with_a_transfer_syntax_of_megabytes(path: Path) -> None:
    content = dicoms.write(dicoms.dataset(CHEST), path).read_bytes()
    place = content.index(b"\2\0\x10\0UI")
    long = _element(0x0002, 0x0010, "UC", b"1.2\\" * 500_000)
    path.write_bytes(content[:place] + long + content[place + 8 + content[place + 6] :])


def dicom_with_a_window_of_many_numbers(path: Path) -> None:
    value = b"1\\" * 32_000
    window = _element(0x0028, 0x1050, "DS", value) + _element(0x0028, 0x1051, "DS", value)
    _with_elements(path, window, 0x7FE00010)


def dicom_with_a_body_part_of_megabytes(path: Path) -> None:
    _with_elements(path, _element(0x0018, 0x0015, "UT", b"A\\" * 500_000), 0x00180015)


def dicom_with_a_huge_private_element(path: Path) -> None:
    content = dicoms.write(dicoms.dataset(CHEST), path).read_bytes()
    private = _element(0x0009, 0x1010, "OB", b"", 4_000_000_000)
    path.write_bytes(content[: -CHEST.size - 12] + private)
    _grow(path, 4_100_000_000)


def _encapsulated(path: Path, pixel_data: bytes, side: int = 64) -> None:
    ds = dicoms.dataset(CHEST)
    ds.PixelData = encapsulate([b"\0\0"])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.Rows = ds.Columns = side
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    start = content.index(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff") + 12
    path.write_bytes(content[:start] + pixel_data + _SEQUENCE_END)


def dicom_of_millions_of_fragments(path: Path) -> None:
    _encapsulated(path, _item(b"") * 1_000_000)


def dicom_with_a_huge_offset_table(path: Path) -> None:
    _encapsulated(path, _item(bytes(20_000_000)) + _item(b"\0\0"))


def dicom_of_empty_runs(path: Path) -> None:
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    _encapsulated(path, _item(b"") + _item(header + b"\x80" * 100_000_000), side=9_000)


def dicom_of_a_segmented_palette(path: Path) -> None:
    ds = dicoms.dataset(CHEST)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    linear = struct.pack("<3H", 1, 65535, 9)
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        data = struct.pack("<3H", 0, 1, 5) + linear * 2_000
        setattr(ds, f"Segmented{colour}PaletteColorLookupTableData", data)
    dicoms.write(ds, path)


def named_pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_named_pipe(path: Path) -> None:
    os.mkfifo(path.with_name(f"{path.name}-pipe"))
    path.symlink_to(path.with_name(f"{path.name}-pipe"))


def link_to_an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def unix_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # the whole path may be too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def folder(path: Path) -> None:
    path.mkdir()


def large_png_with_transparency(path: Path) -> None:
    Image.new("RGBA", (10_000, 10_000), (90, 120, 30, 200)).save(path, "PNG", compress_level=1)


def large_png_of_a_palette(path: Path) -> None:
    image = Image.new("P", (10_000, 10_000), 3)
    image.putpalette(list(range(256)) * 3)
    image.save(path, "PNG", compress_level=1, transparency=3)


def large_png_of_16_bits(path: Path) -> None:
    Image.new("I;16", (10_000, 10_000), 900).save(path, "PNG", compress_level=1)


def large_png_of_16_bit_colour(path: Path) -> None:
    values = np.full((7_000, 8_900, 4), 900, np.uint16)
    values[::7, ::5] = 60_000
    path.write_bytes(png_bytes(values))


def too_large_png_of_16_bit_colour(path: Path) -> None:
    path.write_bytes(png_bytes(np.full((10_000, 10_000, 4), 900, np.uint16)))


def png_bytes(values: np.ndarray) -> bytes:
    """A PNG of `(H, W, C)` uint16, which Pillow does not write."""
    done, content = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return content.tobytes()


def large_progressive_jpeg(path: Path) -> None:
    path.write_bytes(_progressive((10_000, 10_000)))


def large_progressive_jpeg_in_colour(path: Path) -> None:
    path.write_bytes(_progressive((8_000, 9_600), "RGB"))


def large_progressive_jpeg_of_four_inks(path: Path) -> None:
    path.write_bytes(_progressive((8_000, 8_300), "CMYK"))


def large_progressive_jpeg_of_all_the_scans_allowed(path: Path) -> None:
    path.write_bytes(_of_many_scans((10_000, 10_000), 13))


def _large_dicom(path: Path, shape: tuple[int, ...], bits: int, **header: object) -> None:
    small = np.zeros((8, 8, 3) if len(shape) == 3 else (8, 8))
    ds = dicoms.dataset(small, bits=bits)
    ds.Rows, ds.Columns = shape[:2]
    for name, value in header.items():
        setattr(ds, name, value)
    ds.PixelData = b""
    content = dicoms.write(ds, path).read_bytes()
    size = int(np.prod(shape)) * (int(ds.BitsAllocated) // 8)
    with path.open("wb") as file:
        file.write(content[:-4] + struct.pack("<I", size))
        block = np.random.default_rng(1).integers(0, 256, 2**20, np.uint8).tobytes()
        for start in range(0, size, len(block)):
            file.write(block[: size - start])


def large_dicom_of_16_bits(path: Path) -> None:
    _large_dicom(path, (10_000, 10_000), 16, PixelPaddingValue=7)


def large_dicom_of_32_bits(path: Path) -> None:
    _large_dicom(path, (4_000, 4_100), 32)


def large_dicom_of_32_bits_in_a_window(path: Path) -> None:
    _large_dicom(
        path, (4_000, 4_100), 32, WindowCenter="9999", WindowWidth="7777",
        VOILUTFunction="SIGMOID", RescaleSlope="2", RescaleIntercept="1",
    )  # fmt: skip


def large_dicom_in_colour(path: Path) -> None:
    _large_dicom(path, (4_500, 4_600, 3), 8, PhotometricInterpretation="YBR_FULL")


def large_dicom_of_16_bit_colour(path: Path) -> None:
    _large_dicom(path, (4_500, 4_600, 3), 16, PlanarConfiguration=1)


def large_dicom_of_a_palette(path: Path) -> None:
    colours = {
        f"{colour}PaletteColorLookupTable{name}": value
        for colour in ("Red", "Green", "Blue")
        for name, value in (("Descriptor", [0, 0, 16]), ("Data", bytes(131_072)))
    }
    _large_dicom(path, (4_500, 4_600), 16, PhotometricInterpretation="PALETTE COLOR", **colours)


def large_dicom_of_run_lengths(path: Path) -> None:
    """As many runs as may be."""
    count = 2**26 - 128
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    _encapsulated(path, _item(b"") + _item(header + b"\xff\7" * (count // 2)), side=9_000)


def large_deflated_dicom(path: Path) -> None:
    ds = dicoms.dataset(np.zeros((8, 8)), bits=16)
    ds.Rows = ds.Columns = 10_000
    ds.PixelData = b""
    plain = dicoms.write(ds, path).read_bytes()
    body = plain[144 + struct.unpack_from("<I", plain, 140)[0] : -4] + struct.pack(
        "<I", 200_000_000
    )
    noise = np.random.default_rng(1).integers(0, 256, 10**6, np.uint8).tobytes()
    _deflated(path, iter([body, *[noise] * 200]))


_MADE = [made for name, made in list(globals().items()) if name[0] != "_" and callable(made)]
_HERE = [
    made for made in _MADE if getattr(made, "__module__", "") == __name__ and made is not png_bytes
]
SMALL: tuple[Callable[[Path], None], ...] = tuple(
    made for made in _HERE if "large" not in made.__name__
)
LARGE: tuple[Callable[[Path], None], ...] = tuple(
    made for made in _HERE if "large" in made.__name__
)
