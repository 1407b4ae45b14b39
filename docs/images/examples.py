"""Draws examples.png, the README's picture, from what `make demo` leaves.

python inference.py examples --overlays --precision float32 && python docs/images/examples.py
"""

from pathlib import Path

from PIL import Image

SHOWN = ("00010773_019", "00000193_019", "00002954_007", "00002451_007")
WIDTH, GAP = 420, 8


def sheet_of(overlays: Path) -> Image.Image:
    """The pictures in a folder of overlays, side by side."""
    pictures = []
    for name in SHOWN:
        picture = Image.open(overlays / f"{name}.png").convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        pictures.append(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
    side = len(pictures) * (WIDTH + GAP) - GAP
    sheet = Image.new("RGB", (side, max(picture.height for picture in pictures)), "white")
    for column, picture in enumerate(pictures):
        sheet.paste(picture, (column * (WIDTH + GAP), 0))
    # 128 colours are enough for gray, heat and boxes, and halve the file.
    return sheet.quantize(128)


def main() -> None:
    """Read the overlays, write the picture."""
    sheet = sheet_of(Path("predictions/overlays"))
    sheet.save(Path(__file__).with_name("examples.png"), optimize=True)


if __name__ == "__main__":
    main()
