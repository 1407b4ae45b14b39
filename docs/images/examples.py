"""Draws examples.png, the README's picture, from what `make demo` leaves.

python inference.py examples --overlays && python docs/images/examples.py
"""

from pathlib import Path

from PIL import Image

SHOWN = ("00010773_019", "00000193_019", "00001437_019", "00002451_007")
WIDTH, GAP = 420, 8


def main() -> None:
    """Read the overlays, write the picture."""
    pictures = []
    for name in SHOWN:
        picture = Image.open(Path("predictions/overlays", f"{name}.png")).convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        pictures.append(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
    side = len(pictures) * (WIDTH + GAP) - GAP
    sheet = Image.new("RGB", (side, max(picture.height for picture in pictures)), "white")
    for column, picture in enumerate(pictures):
        sheet.paste(picture, (column * (WIDTH + GAP), 0))
    # 128 colours are enough for gray, heat and boxes, and halve the file.
    sheet.quantize(128).save(Path(__file__).with_name("examples.png"), optimize=True)


if __name__ == "__main__":
    main()
