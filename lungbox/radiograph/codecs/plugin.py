"""imagecodecs as a decoding plugin of pydicom.

It brings libjpeg-turbo (JPEG of any process and depth), CharLS (JPEG-LS) and OpenJPEG
(JPEG 2000 and its high-throughput form): none of pydicom's own plugins decodes all of these.
"""

from collections.abc import Callable

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

_NAME = "imagecodecs"
NAMES = (_NAME, "pillow", "pydicom")
_CODECS: dict[UID, Callable[[bytes], NDArray]] = {
    JPEGExtended12Bit: imagecodecs.jpeg8_decode,
    JPEGLossless: imagecodecs.jpeg8_decode,
    JPEGLosslessSV1: imagecodecs.jpeg8_decode,
    JPEGLSLossless: imagecodecs.jpegls_decode,
    JPEGLSNearLossless: imagecodecs.jpegls_decode,
    JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    JPEG2000: imagecodecs.jpeg2k_decode,
    HTJ2KLossless: imagecodecs.jpeg2k_decode,
    HTJ2KLosslessRPCL: imagecodecs.jpeg2k_decode,
    UID("1.2.840.10008.1.2.4.203"): imagecodecs.jpeg2k_decode,  # HTJ2K
}
DECODER_DEPENDENCIES = {syntax: (_NAME,) for syntax in _CODECS}


def is_available(uid: str) -> bool:
    """Whether it decodes a transfer syntax."""
    return uid in _CODECS


def register() -> None:
    """Add it to pydicom's decoders, in this process."""
    for syntax in _CODECS:
        get_decoder(syntax).add_plugin(_NAME, (__name__, "decode_frame"))


def name_for(dataset: Dataset) -> str:
    """Name of the pydicom plugin that decodes a file's pixels; empty where pydicom may choose.

    Never GDCM, which pydicom would choose where it is installed: it crashes on damaged data.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEGBaseline8Bit or (syntax == JPEGExtended12Bit and int(dataset.BitsStored) == 8):
        return "pillow"
    if syntax == RLELossless:
        return "pydicom"
    return _NAME if syntax in _CODECS else ""


def decode_frame(codestream: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame, and set the options by which pydicom interprets it."""
    syntax = runner.transfer_syntax
    values = np.asarray(_CODECS[syntax](codestream))
    if runner.samples_per_pixel > 1:
        # JPEG-LS may hold one colour plane after the other.
        runner.set_option("planar_configuration", int(values.shape[-1] != runner.samples_per_pixel))
    if _CODECS[syntax] is imagecodecs.jpeg2k_decode and "YBR" in runner.photometric_interpretation:
        runner.set_option("photometric_interpretation", "RGB")  # OpenJPEG converts it
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    return values.tobytes()
