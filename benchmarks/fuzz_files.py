"""Damaged files by the thousand: python -m benchmarks.fuzz_files [--files N] [--seed N].

PNG, JPEG and DICOM files in every transfer syntax are damaged at random, and files made to hurt
(`tests/bombs.py`) come first. Each is read and prepared in a process beside this one, with its time
and memory. The promise: it is read, or refused by a `RadiographError` of one line, in 30 seconds
of processor time and 1.5 GB. Ends with 1 where a file breaks it. File `I` of seed `S` depends on
nothing else, so `--only I` makes it again, and `--keep DIR` keeps those that broke the promise.
Linux only.
"""

import argparse
import hashlib
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pydicom
from PIL import Image
from rich.console import Console
from rich.table import Table

from lungbox.constants import MAX_REASON
from tests import bombs, dicoms
from tests.measured import Measured, Reader

ROOT = Path(__file__).parent.parent
MOST_SECONDS, MOST_BYTES = 30.0, 1_500_000_000
# Wall-clock seconds after which a file is given up, as one that is waited for without computing;
# the machine may have other things to do.
_PATIENCE = 4 * MOST_SECONDS
# Larger ones of pydicom's own test files only take time.
_LARGEST_BASE = 500_000
_VALUES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_NAMES = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames", "WindowCenter", "WindowWidth",
    "RescaleSlope", "RescaleIntercept", "PixelPaddingValue",
)  # fmt: skip
_PHOTOMETRICS = ("MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "YBR_ICT", "X")

Change = Callable[[bytes, np.random.Generator], bytes]


def main() -> None:
    asked = _arguments()
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bases = list(_bases(folder))
        digest = hashlib.sha256(b"".join(bases)).hexdigest()[:12]
        console.print(f"seed {asked.seed}, {len(bases)} files to damage (sha256 {digest})")
        found: list[tuple[str, Measured]] = []
        with Reader(_PATIENCE) as reader:
            for name, make in _cases(asked, bases):
                path = folder / "file"
                make(path)
                measured = reader.read(path)
                found.append((name, measured))
                if fault := _fault(measured):
                    console.print(f"{name}: {fault}", markup=False)
                    if asked.keep and path.is_file():
                        asked.keep.mkdir(parents=True, exist_ok=True)
                        (asked.keep / name.partition(" ")[0]).write_bytes(path.read_bytes())
                _remove(folder)
    _report(found, console)
    sys.exit(any(_fault(measured) for _, measured in found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, help="this file of the seed alone")
    parser.add_argument("--keep", type=Path, help="keep files that break the promise here")
    return parser.parse_args()


def _cases(
    asked: argparse.Namespace, bases: list[bytes]
) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Name and maker of each file: those made to hurt, then damaged ones by their number."""
    if asked.only is None:
        for bomb in (*bombs.SMALL, *bombs.LARGE)[: asked.files]:
            yield bomb.__name__, bomb
        numbers = range(max(0, asked.files - len(bombs.SMALL) - len(bombs.LARGE)))
    else:
        numbers = range(asked.only, asked.only + 1)
    for number in numbers:
        content, changes = damaged(bases, asked.seed, number)
        yield f"{number} ({changes})", lambda path, content=content: path.write_bytes(content)


def damaged(bases: list[bytes], seed: int, number: int) -> tuple[bytes, str]:
    """File `number` of `seed`, and what was done to it."""
    random = np.random.default_rng([seed, number])
    base = int(random.integers(len(bases)))
    content, names = bases[base], [f"base {base}"]
    for _ in range(random.integers(1, 4)):
        change = _CHANGES[random.integers(len(_CHANGES))]
        content = change(content, random) or b"\0"
        names.append(change.__name__.strip("_"))
    return content, ", ".join(names)


def _fault(measured: Measured) -> str:
    """How a file broke the promise; empty where it did not."""
    if measured.outcome not in ("read", "refused"):
        return f"{measured.outcome}: {measured.message[:300]}"
    if measured.processor > MOST_SECONDS:
        return f"took {measured.processor:.1f} s"
    if measured.peak > MOST_BYTES:
        return f"took {measured.peak / 1e9:.2f} GB"
    said = measured.message
    if measured.outcome == "refused" and not (said.isprintable() and 0 < len(said) <= MAX_REASON):
        return f"refused with {said!r}"
    return ""


def _report(found: list[tuple[str, Measured]], console: Console) -> None:
    counts = Counter(
        # The first words; what follows depends on the file.
        " ".join(measured.message.split()[:7]) if measured.message else measured.outcome
        for _, measured in found
    )
    table = Table("files", "outcome")
    for outcome, count in counts.most_common(40):
        table.add_row(str(count), outcome)
    console.print(table)
    slowest = max(found, key=lambda item: item[1].processor)
    largest = max(found, key=lambda item: item[1].peak)
    faults = sum(bool(_fault(measured)) for _, measured in found)
    outcomes = Counter(measured.outcome for _, measured in found)
    console.print(f"{len(found)} files: {dict(outcomes)}; {faults} broke the promise")
    console.print(
        f"largest time {slowest[1].processor:.1f} s of the processor: {slowest[0]} "
        f"(wall-clock: at most {max(measured.seconds for _, measured in found):.1f} s)",
        markup=False,
    )
    console.print(f"largest memory {largest[1].peak / 1e6:.0f} MB: {largest[0]}", markup=False)


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def _bases(folder: Path) -> Iterator[bytes]:
    """Files in order: the examples, pydicom's test files, and one in each form there is."""
    examples = sorted((ROOT / "examples").iterdir())
    own = Path(pydicom.__file__).parent / "data" / "test_files"
    for path in (*examples, *sorted(own.rglob("*.dcm"))):
        content = path.read_bytes()
        image = path in examples or b"\xe0\x7f\x10\0" in content or b"\x7f\xe0\0\x10" in content
        if image and len(content) <= _LARGEST_BASE:
            yield content
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (9, 7, 3)).astype(np.uint8))
    colour = np.asarray(smooth.resize((180, 240), Image.Resampling.BICUBIC))
    yield from _rasters(colour)
    # The same identifiers each time, so that files depend on the seed alone.
    with patch("secrets.randbelow", return_value=10**37), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for syntax in (*dicoms.LOSSLESS, *dicoms.LOSSY):
            for values, bits in _values(colour, syntax in dicoms.LOSSY):
                path, ds = folder / "base.dcm", dicoms.dataset(values, bits, syntax=syntax)
                ds.StudyDate, ds.StudyTime = "20260101", "120000"  # GDCM would write the present
                yield dicoms.write(ds, path, syntax).read_bytes()
                path.unlink()


def _values(colour: np.ndarray, lossy: bool) -> Iterator[tuple[np.ndarray, int]]:
    yield colour[..., 0], 8
    yield colour, 8
    if not lossy:
        yield colour[..., 0].astype(int) * 16 + 7, 12
        yield colour[..., 1].astype(int) * 257, 16


def _rasters(colour: np.ndarray) -> Iterator[bytes]:
    image = Image.fromarray(colour)
    forms = [(image.convert(mode), "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    forms += [(Image.fromarray(colour[..., 0].astype(np.uint16) * 200), "PNG", {})]
    forms += [(image.convert(mode), "JPEG", {}) for mode in ("L", "RGB", "CMYK")]
    forms += [(image.convert(mode), "JPEG", {"progressive": True}) for mode in ("L", "RGB")]
    forms += [(image.convert("L"), "PNG", {"compress_level": 0})]
    for form, kind, options in forms:
        content = BytesIO()
        form.save(content, kind, **options)
        yield content.getvalue()
    yield bombs.png_bytes(np.dstack([colour, colour[..., 0]]).astype(np.uint16) * 257)


def _flip(content: bytes, random: np.random.Generator) -> bytes:
    values = np.frombuffer(content, np.uint8).copy()
    places = random.integers(0, len(values), random.integers(1, 32))
    values[places] ^= random.integers(1, 256, len(places)).astype(np.uint8)
    return values.tobytes()


def _flip_in_header(content: bytes, random: np.random.Generator) -> bytes:
    return _flip(content[:1500], random) + content[1500:]


def _cut_off(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(0, len(content))]


def _repeat_block(content: bytes, random: np.random.Generator) -> bytes:
    start, end = _block(content, random)
    times = int(random.choice([2, 3, 50]))
    return content[:start] + content[start:end] * times + content[end:]


def _remove_block(content: bytes, random: np.random.Generator) -> bytes:
    start, end = _block(content, random)
    return content[:start] + content[end:]


def _move_block(content: bytes, random: np.random.Generator) -> bytes:
    start, end = _block(content, random)
    place = int(random.integers(0, len(content)))
    return content[:place] + content[start:end] + content[place:]


def _blank_block(content: bytes, random: np.random.Generator) -> bytes:
    start, end = _block(content, random)
    return content[:start] + bytes([random.choice([0, 255])]) * (end - start) + content[end:]


def _block(content: bytes, random: np.random.Generator) -> tuple[int, int]:
    start = int(random.integers(0, len(content)))
    return start, start + int(2 ** random.uniform(0, 13))


def _number(content: bytes, random: np.random.Generator) -> bytes:
    """A number of two or four bytes replaced, more often near the start, where lengths are."""
    end = len(content) if random.integers(3) == 0 else min(1500, len(content))
    place = int(random.integers(0, end))
    width = int(random.choice([2, 4]))
    value = int(random.choice(_VALUES)) % 256**width
    order = "little" if random.integers(2) else "big"
    return content[:place] + value.to_bytes(width, order) + content[place + width :]


def _element(content: bytes, random: np.random.Generator) -> bytes:
    """An element of a DICOM file changed or removed, and its length with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(BytesIO(content), force=True)
            if random.integers(3) == 0:
                tags = list(ds.keys())
                del ds[tags[random.integers(len(tags))]]
            elif random.integers(5) == 0:
                ds.PhotometricInterpretation = str(random.choice(_PHOTOMETRICS))
            else:
                name = str(random.choice(_NAMES))
                setattr(ds, name, int(random.choice((*_VALUES, 8, 16, 32, 64, 512, 10_000))))
            changed = BytesIO()
            ds.save_as(changed)
            return changed.getvalue()
    except Exception:  # no DICOM, or too damaged to be written again
        return _flip(content, random)


_CHANGES: tuple[Change, ...] = (
    _flip, _flip_in_header, _cut_off, _repeat_block, _remove_block, _move_block, _blank_block,
    _number, _number, _element, _element,
)  # fmt: skip

if __name__ == "__main__":
    main()
