"""Records with a label map -> examples for models that are conditioned on one."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from facegan.config import require_power_of_two
from facegan.datasets.transforms import Augmentation
from facegan.errors import DataError
from facegan.face.label_maps import check_labels, paint_background, resize_labels
from facegan.face.labels import BACKGROUND, CELEBAMASK19, LabelSchema, conversion_table
from facegan.image import decode_picture, resize

# A PNG's first bytes, and its bit depth and colour type (8 bits, grey) behind the size.
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY8 = b"\x08\x00"


class LabelMapExample:
    """A face picture and its label map, moved together.

    Reads the fields ``image`` (PNG or JPEG bytes of a square picture) and ``label_map`` (ids as
    8-bit grey PNG bytes of the same height and width). Gives ``image``, [size, size, 3] uint8, and
    ``label_map``, [size, size] uint8 ids of ``schema``. What a move brings in from outside is
    background; a flip swaps the labels of the two sides.

    Args:
        size: Height and width of what is made, a power of two.
        schema: The model's schema.
        source_schema: The records' schema, where it is not the model's.
        background: (r, g, b) that the picture's background is painted with; None leaves it.

    Raises:
        DataError: The source's labels cannot be turned into the model's. When called: the label
            map has other ids, is no 8-bit grey PNG, or does not have the picture's size.
    """

    fields: tuple[str, ...] = ("image", "label_map")
    outputs: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

    def __init__(
        self,
        size: int,
        schema: LabelSchema = CELEBAMASK19,
        source_schema: LabelSchema | None = None,
        background: tuple[int, int, int] | None = None,
    ):
        require_power_of_two("size", size, 16)
        self.size, self.background = size, background
        self.schema = schema
        self.source_schema = source_schema or schema
        self.outputs = {
            "image": ((size, size, 3), np.uint8),
            "label_map": ((size, size), np.uint8),
        }
        table = conversion_table(self.source_schema, schema)
        # Conversion and swapped sides in one step, by whether the picture is flipped.
        self._tables = {False: table, True: schema.flip_table[table]}

    def __call__(
        self, record: Mapping[str, Any], augmentation: Augmentation
    ) -> dict[str, np.ndarray]:
        """Makes the example of one record."""
        image = decode_picture(record["image"])
        stored = _decode_label_map(record["label_map"])
        if stored.shape != image.shape[:2]:
            raise DataError(
                f"A record's label map is {stored.shape[0]}x{stored.shape[1]} and its image "
                f"{image.shape[0]}x{image.shape[1]}; they must have one size. Build the dataset "
                "again."
            )
        check_labels(stored, self.source_schema, "The label map of a record")
        labels = cv2.LUT(stored, self._tables[augmentation.flip])
        labels = augmentation.apply_to_labels(labels, outside=self.schema.index(BACKGROUND))
        image = resize(augmentation.apply_to_image(image), self.size, self.size)
        labels = resize_labels(labels, self.size, self.size)
        if self.background is not None:
            image = paint_background(image, labels, self.background)
        return {"image": image, "label_map": labels}


def _decode_label_map(data: bytes) -> np.ndarray:
    """8-bit grey PNG bytes -> [H, W] uint8; any other form would change ids without a word."""
    labels = None
    if data[:8] == _PNG and data[24:26] == _GREY8:
        labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise DataError(
            f"A record's label map of {len(data)} bytes is no 8-bit grey PNG of label ids; build "
            "the dataset again."
        )
    return labels
