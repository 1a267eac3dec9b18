"""One region of a label map, moved or grown: it covers what it comes over, and others fill its gap.

A region that the border cuts goes on beyond it as it is at the border. Where a region leaves, each
pixel becomes what was nearest to it of other labels, background included.
"""

import cv2
import numpy as np


def move_region(label_map: np.ndarray, index: int, shift_xy: tuple[float, float]) -> np.ndarray:
    """Moves a region.

    Args:
        label_map: [H, W] uint8 ids.
        index: The id of the region; one that is nowhere changes nothing.
        shift_xy: To the right and down, as shares of the width and the height.

    Returns:
        A new map.
    """
    height, width = label_map.shape
    region = label_map == index
    moved = _warp(region, 1.0, (shift_xy[0] * width, shift_xy[1] * height))
    return _replace(label_map, index, region, moved)


def grow_region(label_map: np.ndarray, index: int, factor: float) -> np.ndarray:
    """Grows or shrinks a region, each of its pieces about its own centre.

    Growing only adds to a piece, outside of its outline: what it encloses, as skin the eyes, stays.
    Shrinking only takes away.

    Args:
        label_map: [H, W] uint8 ids.
        index: The id of the region; one that is nowhere changes nothing.
        factor: By which lengths change; below 1 it shrinks.

    Returns:
        A new map.
    """
    region = label_map == index
    grown = region.copy()
    count, pieces = cv2.connectedComponents(region.view(np.uint8), connectivity=8)
    for number in range(1, count):
        piece = pieces == number
        outline = _fill_holes(piece)
        rows, columns = np.nonzero(outline)
        stay = 1.0 - factor
        scaled = _warp(outline, factor, (stay * columns.mean(), stay * rows.mean()))
        if factor >= 1.0:
            grown |= scaled & ~outline
        else:
            grown &= scaled | ~piece
    return _replace(label_map, index, region, grown)


def surround(area: np.ndarray, reach: float = 0.03) -> np.ndarray:
    """A soft mask of an area and what lies close to it.

    Args:
        area: [H, W] bool.
        reach: How far it goes beyond the area, and fades there, as a share of the height.

    Returns:
        [H, W] float32 in [0, 1].
    """
    radius_px = max(1, round(reach * len(area)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    wide = cv2.dilate(area.astype(np.float32), kernel)
    return cv2.GaussianBlur(wide, (0, 0), radius_px)


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled: np.ndarray = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    return filled > 0


def _warp(mask: np.ndarray, scale: float, shift_xy_px: tuple[float, float]) -> np.ndarray:
    matrix = np.array([[scale, 0.0, shift_xy_px[0]], [0.0, scale, shift_xy_px[1]]])
    height, width = mask.shape
    # Linear, then cut at the half: nearest pixels alone would leave steps in the outline.
    warped = cv2.warpAffine(
        mask * np.uint8(255),
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return warped > 127


def _replace(
    label_map: np.ndarray, index: int, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """The map with a region that was at one mask at another."""
    out = label_map.copy()
    gap = before & ~after
    # What is everywhere goes on beyond every border and leaves no gap.
    if gap.any():
        out[gap] = _nearest_other(label_map, before)[gap]
    out[after] = index
    return out


def _nearest_other(label_map: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The id of the nearest pixel outside of a region, which is not everywhere."""
    _, nearest = cv2.distanceTransformWithLabels(
        region.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    ids = np.zeros(int(nearest.max()) + 1, np.uint8)
    ids[nearest[~region]] = label_map[~region]
    return ids[nearest]
