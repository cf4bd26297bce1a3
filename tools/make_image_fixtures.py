"""Makes tests/fixtures/images: pictures as Pillow and torchvision resize them, and JPEG files with their pixels as
Pillow reads them. Needs numpy, Pillow 13 and torchvision; Pillow must have been built with libjpeg-turbo.

python tools/make_image_fixtures.py [FOLDER]
"""

import io
import pathlib
import sys

import numpy as np
from PIL import Image
from torchvision import transforms
from torchvision.transforms.v2 import functional

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures/images")
folder.mkdir(parents=True, exist_ok=True)


def picture(height, width, seed):
    """Waves with noise on top: smooth parts and single pixels that stand out."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 3 + y / 7), np.cos(x / 11 - y / 5), np.sin(x * y / 90)], axis=-1)
    noise = np.random.default_rng(seed).normal(0, 0.3, waves.shape)
    return Image.fromarray(np.clip(127 + 100 * (waves + noise), 0, 255).astype(np.uint8))


source = picture(37, 53, 0)
source.save(folder / "source.png")
sizes = [(20, 20), (37, 24), (11, 53), (80, 91), (1, 1), (36, 50), (12, 91), (17, 43), (16, 43), (2, 50)]
for height, width in sizes:
    functional.resize(source, [height, width]).save(folder / f"resized_{height}x{width}.png")


def centre(image, size):
    return transforms.CenterCrop(size)(transforms.Resize(round(size * 8 / 7))(image))


tall, tower = picture(61, 40, 1), picture(97, 30, 2)
tall.save(folder / "tall.png")
tower.save(folder / "tower.png")
for name, image, size in [
    ("source", source, 21),
    ("source", source, 28),
    ("source", source, 56),
    ("tall", tall, 28),
    ("tower", tower, 21),
]:
    centre(image, size).save(folder / f"{name}_centre_{size}.png")


def jpeg(kind, image, change=lambda data: data, **settings):
    """Writes an image as JPEG, and what Pillow reads from that file."""
    data = io.BytesIO()
    image.save(data, "JPEG", **settings)
    data = change(data.getvalue())
    (folder / f"jpeg_{kind}.jpg").write_bytes(data)
    Image.open(io.BytesIO(data)).convert("RGB").save(folder / f"jpeg_{kind}.png")


def turned(data):
    """A file with 4:2:2 as one with 4:4:0, which Pillow does not write: sides and factors change places, and as many
    blocks show another picture."""
    frame = data.index(b"\xff\xc0")
    height, width, factors = frame + 5, frame + 7, frame + 11
    assert data[factors] == 0x21
    return data[:height] + data[width : width + 2] + data[height:width] + data[width + 2 : factors] + b"\x12" + data[factors + 1 :]


small = picture(19, 37, 3)
inks = Image.merge("CMYK", [*small.split(), picture(19, 37, 4).split()[0]])
jpeg("444", small, quality=95, subsampling=0)
jpeg("422", small, quality=80, subsampling=1)
jpeg("420", small, quality=30, subsampling=2)
jpeg("440", small, turned, quality=80, subsampling=1)
jpeg("progressive", small, quality=90, subsampling=2, progressive=True)
jpeg("restarts", small, quality=75, subsampling=2, restart_marker_blocks=2)
jpeg("grey", small.convert("L"), quality=75)
jpeg("cmyk", inks, quality=75, progressive=True)
