"""Makes tests/fixtures/images: pictures as Pillow and torchvision resize them. Needs numpy, pillow, torchvision.

python tools/make_image_fixtures.py [FOLDER]
"""

import pathlib
import sys

import numpy as np
from PIL import Image
from torchvision import transforms

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
for height, width in [(20, 20), (37, 24), (11, 53), (80, 91), (1, 1), (36, 50)]:
    source.resize((width, height), Image.BILINEAR).save(folder / f"resized_{height}x{width}.png")


def centre(image, size):
    return transforms.CenterCrop(size)(transforms.Resize(round(size * 8 / 7))(image))


for size in [21, 28, 56]:
    centre(source, size).save(folder / f"centre_{size}.png")
tall = picture(61, 40, 1)
tall.save(folder / "tall.png")
centre(tall, 28).save(folder / "tall_centre_28.png")
