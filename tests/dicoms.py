"""DICOM files made for the tests: one in each transfer syntax, with whatever header is wanted."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import gdcm
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
LOSSLESS = (
    *UNCOMPRESSED,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEG2000)
_GDCM = {
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEGExtended12Bit: gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    JPEG2000: gdcm.TransferSyntax.JPEG2000,
}


def dataset(
    values: NDArray, bits: int = 8, signed: bool = False, syntax: UID = ExplicitVRLittleEndian
) -> FileDataset:
    """An uncompressed radiograph of `values`, `(H, W)` or `(H, W, 3)`; change it as you like.

    It can be written in `syntax`, for only big-endian files store their values otherwise.
    """
    if syntax.is_encapsulated:
        syntax = ExplicitVRLittleEndian
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(COMPUTED_RADIOGRAPHY)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    ds = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "CR", "CHEST", "PA"
    ds.PatientID, ds.PatientName = "phantom", "Phantom"
    ds.Rows, ds.Columns = values.shape[:2]
    ds.SamplesPerPixel = 1 if values.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        ds.PlanarConfiguration = 0
    allocated = 8 if bits <= 8 else 16 if bits <= 16 else 32
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    ds.PixelRepresentation = int(signed)
    stored = values.astype(f"{'>' if syntax == ExplicitVRBigEndian else '<'}i{allocated // 8}")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return ds


def write(ds: FileDataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write `ds`, compressed in `syntax`."""
    if syntax in UNCOMPRESSED or syntax == ExplicitVRBigEndian:
        pass  # as it was made
    elif syntax == JPEGBaseline8Bit:
        _jpeg_baseline(ds)
    elif syntax == HTJ2KLossless:
        # By OpenJPH, while OpenJPEG decodes it.
        store(ds, imagecodecs.htj2k_encode(ds.pixel_array), syntax)
    elif syntax not in _GDCM:
        ds.compress(syntax)
    ds.save_as(path, enforce_file_format=True)
    if syntax in _GDCM:
        _transcode(path, syntax)
    return path


def store(ds: FileDataset, codestream: bytes, syntax: UID) -> None:
    """Put a compressed image into `ds`, whatever its header says."""
    ds.PixelData = encapsulate([codestream])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax


def without_preamble(path: Path) -> Path:
    """Take the preamble and its magic off a file, so that it begins with its group 2."""
    path.write_bytes(path.read_bytes()[132:])
    return path


def damage_image(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Change the compressed image in a file, and leave everything around it in order."""
    ds = dcmread(path)
    ds.PixelData = encapsulate([change(get_frame(ds.PixelData, 0, number_of_frames=1))])
    ds.save_as(path)
    return path


def write_bomb(path: Path, size: int) -> Path:
    """Write a small deflated file that inflates to `size` bytes of pixel data, all of them 0."""
    ds = dataset(np.zeros((8, 8)), syntax=DeflatedExplicitVRLittleEndian)
    del ds.PixelData
    content = write(ds, path, DeflatedExplicitVRLittleEndian).read_bytes()
    # The group's length counts from behind its own element, of 12 bytes after the preamble.
    start = 144 + int(read_file_meta_info(path).FileMetaInformationGroupLength)
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    header = zlib.decompress(content[start:], wbits=-zlib.MAX_WBITS)
    header += struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, size)
    begin = deflater.compress(header) + deflater.flush(zlib.Z_FULL_FLUSH)
    # After a full flush each megabyte is the same bytes, which can be repeated.
    megabyte = deflater.compress(bytes(2**20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(content[:start] + begin + megabyte * (size // 2**20) + deflater.flush())
    return path


def _jpeg_baseline(ds: FileDataset) -> None:
    mode = "L" if ds.SamplesPerPixel == 1 else "RGB"
    shape = (ds.Rows, ds.Columns) if mode == "L" else (ds.Rows, ds.Columns, 3)
    image = Image.fromarray(np.frombuffer(ds.PixelData, np.uint8).reshape(shape), mode)
    compressed = BytesIO()
    image.save(compressed, "JPEG", quality=95, subsampling=0)
    if mode == "RGB":
        ds.PhotometricInterpretation = "YBR_FULL_422"
    store(ds, compressed.getvalue(), JPEGBaseline8Bit)


def _transcode(path: Path, syntax: UID) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(_GDCM[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
