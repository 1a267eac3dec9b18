"""What is done with label maps: merging, mirroring, resizing, counting, painting and reading back.

A label map is [H, W] uint8, one id a pixel; what the ids mean is a ``LabelSchema``'s matter.
"""

from collections.abc import Mapping

import cv2
import numpy as np

from facegan.config import unknown_name
from facegan.errors import ConfigError, DataError
from facegan.face.labels import BACKGROUND, PALETTES, LabelSchema, Palette, conversion_table


def convert_labels(label_map: np.ndarray, source: LabelSchema, target: LabelSchema) -> np.ndarray:
    """Turns a label map [H, W] uint8 of one schema into one of another.

    Raises:
        DataError: Labels of the source have no counterpart, or the map has ids outside of it.
    """
    table = conversion_table(source, target)
    check_labels(label_map, source, "The label map")
    return cv2.LUT(label_map, table)


def swap_sides(label_map: np.ndarray, schema: LabelSchema) -> np.ndarray:
    """Exchanges the ids of the flip pairs and moves no pixel; for pixels that are mirrored already.

    Args:
        label_map: [H, W] uint8.
        schema: Of the map.
    """
    _check_map(label_map, "The label map")
    return cv2.LUT(label_map, schema.flip_table)


def flip_labels(label_map: np.ndarray, schema: LabelSchema) -> np.ndarray:
    """The label map [H, W] uint8 of the mirrored picture: pixels mirrored and sides swapped."""
    return np.ascontiguousarray(swap_sides(label_map, schema)[:, ::-1])


def merge_parts(masks: Mapping[str, np.ndarray], schema: LabelSchema) -> np.ndarray:
    """Paints part masks over each other in the order of the ids: where two overlap, later wins.

    Args:
        masks: [H, W] bool by label name, all of one size; a part that is not there is left out.
        schema: Of the result.

    Returns:
        [H, W] uint8, background where no mask is.

    Raises:
        DataError: There is no mask, one has another size or type, or a name that the schema does
            not have.
    """
    if not masks:
        raise DataError("There is no part mask to merge; at least one is needed to know the size.")
    merged: np.ndarray = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for name, mask in masks.items():
        if name not in schema.labels[1:]:
            error = unknown_name("The name of a part mask", name, schema.labels[1:], what="value")
            raise DataError(str(error))
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise DataError(
                f"The part mask {name!r} must be [H, W] bool, got {list(mask.shape)} {mask.dtype}."
            )
        if mask.shape != merged.shape:
            raise DataError(
                f"The part mask {name!r} is {mask.shape[0]}x{mask.shape[1]}, others are "
                f"{merged.shape[0]}x{merged.shape[1]}; all masks of a picture have one size."
            )
        # The larger id wins wherever it stands in the mapping.
        np.maximum(merged, mask * np.uint8(schema.index(name)), out=merged)
    return merged


def resize_labels(label_map: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Resizes a label map; every id of the result was there before.

    Shrinking by whole factors takes the id that most pixels of a block have, and of equals the
    larger one, which was painted later. Anything else takes the pixel whose area holds the new
    pixel's centre; growing by whole factors thus repeats pixels.

    Args:
        label_map: [H, W] uint8.
        height_px: New height.
        width_px: New width.

    Returns:
        [height_px, width_px] uint8.
    """
    _check_map(label_map, "The label map")
    if height_px < 1 or width_px < 1:
        raise ConfigError(f"A label map needs at least 1x1 pixel, got {height_px}x{width_px}.")
    height, width = label_map.shape
    if (height, width) == (height_px, width_px):
        return label_map
    if height % height_px == 0 and width % width_px == 0:
        return _block_majority(label_map, height // height_px, width // width_px)
    rows = (2 * np.arange(height_px) + 1) * height // (2 * height_px)
    columns = (2 * np.arange(width_px) + 1) * width // (2 * width_px)
    return label_map[rows][:, columns]


def _block_majority(label_map: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The most frequent id of each block of ``rows`` x ``columns`` pixels; see resize_labels."""
    height, width = label_map.shape[0] // rows, label_map.shape[1] // columns
    out = np.zeros((height, width), np.uint8)
    most = np.zeros((height, width), np.uint32)
    for index in np.flatnonzero(count_labels(label_map)):
        is_label = (label_map == index).view(np.uint8).reshape(height, rows, -1)
        by_row = np.add.reduce(is_label, axis=1, dtype=np.uint32)  # [height, W]
        # Summed over slices: a reduction over a short last axis takes NumPy far longer.
        count = np.zeros((height, width), np.uint32)
        for column in range(columns):
            count += by_row[:, column::columns]
        wins = count >= most
        most[wins] = count[wins]
        out[wins] = index
    return out


def one_hot(label_map: np.ndarray, num_labels: int) -> np.ndarray:
    """A label map [H, W] uint8 as [H, W, num_labels] float32, 1 in the channel of the id, else 0.

    Raises:
        DataError: The map has ids from ``num_labels`` on.
    """
    _check_map(label_map, "The label map")
    if label_map.max() >= num_labels:
        raise DataError(
            f"The label map has the id {label_map.max()}; one_hot with {num_labels} labels takes "
            f"0 to {num_labels - 1}."
        )
    return np.take(np.eye(num_labels, dtype=np.float32), label_map, axis=0)


def count_labels(label_map: np.ndarray) -> np.ndarray:
    """How many pixels of a label map [H, W] uint8 have each id, [256] int64."""
    _check_map(label_map, "The label map")
    return np.bincount(label_map.ravel(), minlength=256).astype(np.int64)


# What is nearest to a label where it was never seen, the first that was; skin is on every face.
_NEAREST: dict[str, tuple[str, ...]] = {
    "hat": ("hair", BACKGROUND),
    "hair": (BACKGROUND,),
    "neck_l": ("neck",),
    "cloth": ("neck", BACKGROUND),
    "mouth": ("l_lip",),
}


def find_substitutes(frames_with: np.ndarray, frames: int, schema: LabelSchema) -> dict[str, str]:
    """What to show a model in place of labels that its training data lack.

    Weights of a label that never came up are as they began, so it would be drawn as noise.

    Args:
        frames_with: [256] int, in how many label maps each id was seen.
        frames: How many label maps there are.
        schema: Of the maps; labels of CelebAMask-HQ's names are known, others become background.

    Returns:
        Label -> the label in its place, for those in fewer than one map of twenty.
    """
    seen = [name for i, name in enumerate(schema.labels) if frames_with[i] >= max(1, 0.05 * frames)]
    found = {}
    for name in schema.labels:
        if name not in seen:
            nearest = (*_NEAREST.get(name, ()), "skin", BACKGROUND)
            found[name] = next(n for n in nearest if n in seen or n == BACKGROUND)
    return {name: substitute for name, substitute in found.items() if name != substitute}


def check_labels(label_map: np.ndarray, schema: LabelSchema, name: str) -> None:
    """Makes sure that a label map [H, W] uint8 has ids of the schema only.

    Args:
        label_map: The map.
        schema: Of the map.
        name: What to call the map in an error: its file or record.

    Raises:
        DataError: It has other ids, or is no label map.
    """
    _check_map(label_map, name)
    if label_map.max() < schema.num_labels:
        return
    counts = count_labels(label_map)
    outside = [int(i) for i in np.flatnonzero(counts) if i >= schema.num_labels]
    shown = ", ".join(map(str, outside[:8])) + (", ..." if len(outside) > 8 else "")
    raise DataError(
        f"{name} has ids that the schema {schema.name!r} (0 to {schema.num_labels - 1}) does not "
        f"have: {shown}, on {int(counts[schema.num_labels :].sum())} of {label_map.size} pixels. "
        "Name the schema that the map was made with, or mend the map."
    )


def colour_labels(label_map: np.ndarray, palette: Palette) -> np.ndarray:
    """Paints a label map [H, W] uint8 as a picture [H, W, 3] uint8 RGB.

    Raises:
        DataError: The map has ids that the palette's schema does not have.
    """
    check_labels(label_map, palette.schema, "The label map")
    return np.take(np.array(palette.colours, np.uint8), label_map, axis=0)


def paint_background(
    image: np.ndarray, label_map: np.ndarray, colour: tuple[int, int, int]
) -> np.ndarray:
    """A copy of a picture [H, W, 3] uint8 whose background has one colour.

    Args:
        image: The picture.
        label_map: [H, W] uint8, ids of any schema; 0 is background in all of them.
        colour: (r, g, b).
    """
    painted = image.copy()
    painted[label_map == 0] = colour
    return painted


def labels_from_colours(picture: np.ndarray, palette: Palette) -> np.ndarray:
    """Reads a picture that ``colour_labels``, or another program, painted with the palette.

    Args:
        picture: [H, W, 3] uint8 RGB.
        palette: The very palette it was painted with.

    Returns:
        [H, W] uint8, ids of the palette's schema.

    Raises:
        DataError: A pixel has another colour. The nearest one would be a guess: between hair and
            background, smoothed edges pass through the colours of unrelated parts.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise DataError(
            f"A colour picture of labels must be [H, W, 3] uint8, got {list(picture.shape)} "
            f"{picture.dtype}."
        )
    codes = _pack(picture)
    known = _pack(np.array(palette.colours, np.uint8))
    order = np.argsort(known)
    place = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    ids = order.astype(np.uint8)[place]
    wrong = known[ids] != codes
    if wrong.any():
        raise _unknown_colour(picture, wrong, palette)
    return ids


def _unknown_colour(picture: np.ndarray, wrong: np.ndarray, palette: Palette) -> DataError:
    row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
    colour = tuple(int(value) for value in picture[row, column])
    colours = len(np.unique(_pack(picture)[wrong]))
    others = [name for name, other in PALETTES.items() if colour in other.colours]
    advice = (
        f"The colour is one of the palette {' and of '.join(map(repr, others))}; try that."
        if others
        else "Pictures with smoothed edges or stored as JPEG cannot be read back; export the "
        "labels as ids, or as PNG without smoothing."
    )
    return DataError(
        f"The colour {colour} at row {row}, column {column} is not in the palette "
        f"{palette.name!r}. Pixels of unknown colours: {int(wrong.sum())} of {wrong.size}; unknown "
        f"colours: {colours}. {advice}"
    )


def _pack(colours: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] -> int32 [...], a number for each colour."""
    parts = colours.astype(np.int32)
    return (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]


def _check_map(label_map: np.ndarray, name: str) -> None:
    if label_map.ndim != 2 or label_map.dtype != np.uint8 or not label_map.size:
        raise DataError(
            f"{name} must be a label map [H, W] uint8 with at least one pixel, got "
            f"{list(label_map.shape)} {label_map.dtype}."
        )
