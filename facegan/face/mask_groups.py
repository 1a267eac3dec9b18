"""Label map -> the masks of its groups, their mean colours, and both as one picture.

What models of faces from segmentation maps are shown. The same lines serve datasets, rendering and
edits; ``models.mask_pix2pix`` has the colour map once more, as part of a net.
"""

import numpy as np

from facegan.errors import DataError
from facegan.image import to_float, to_uint8

# The colour of a group that is not there.
BLACK = -1.0


def split_groups(label_map: np.ndarray, num_groups: int) -> np.ndarray:
    """The mask of each group of a label map.

    Args:
        label_map: [H, W] uint8 ids, 0 for background.
        num_groups: How many ids there are beside it.

    Returns:
        [H, W, num_groups] float32, 1 in the channel of the id less one, else 0.
    """
    ids = np.arange(1, num_groups + 1, dtype=label_map.dtype)
    return (label_map[..., None] == ids).astype(np.float32)


def mean_colours(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The mean colour of each group in a picture.

    Args:
        image: [H, W, 3] uint8.
        masks: [H, W, G] float32, 1 where a group lies, else 0; groups may overlap.

    Returns:
        [G, 3] float32 in [-1, 1]; black for a group that is nowhere.

    Raises:
        DataError: The picture has another size than the masks.
    """
    if image.shape[:2] != masks.shape[:2]:
        raise DataError(
            f"mean_colours takes a picture and masks of one size, got {list(image.shape)} and "
            f"{list(masks.shape)}."
        )
    flat = masks.reshape(-1, masks.shape[2])
    cover = flat.sum(axis=0)[:, None]
    total = flat.T @ to_float(image).reshape(-1, 3)
    return np.where(cover > 0, total / np.maximum(cover, 1e-6), BLACK).astype(np.float32)


def show_groups(image: np.ndarray, label_map: np.ndarray, num_groups: int) -> dict[str, np.ndarray]:
    """What a model of faces from maps is shown of a picture whose regions are known.

    Args:
        image: [H, W, 3] uint8.
        label_map: [H, W] uint8 ids, 0 for background.
        num_groups: How many ids there are beside it.

    Returns:
        ``masks`` [H, W, num_groups] float32 and ``colours`` [num_groups, 3] float32 in [-1, 1].
    """
    masks = split_groups(label_map, num_groups)
    return {"masks": masks, "colours": mean_colours(image, masks)}


def draw_colour_map(masks: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Paints each pixel in the colour of its group, or in the mean of those of its groups.

    Args:
        masks: [H, W, G] float32, 1 where a group lies, else 0.
        colours: [G, 3] float32 in [-1, 1].

    Returns:
        [H, W, 3] uint8, black where no group lies.
    """
    cover = masks.sum(axis=-1, keepdims=True)
    painted = masks @ (colours - BLACK) / np.maximum(cover, 1e-6) + BLACK
    return to_uint8(painted)
