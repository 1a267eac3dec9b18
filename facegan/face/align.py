"""Similarity transforms, fixed square crops around a face, and pasting a crop back.

Matrices are [2, 3] float64 and map (x, y) pixel centres; the first pixel's centre is (0, 0), so
scaling by s maps x to (x + 0.5) s - 0.5.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import cv2
import numpy as np

from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import box_from_landmarks
from facegan.image import resize

# Frames whose boxes are worked on at a time, so that memory does not grow with the clip.
_CHUNK = 4096
# Distance in CIELAB that one can just see side by side.
_VISIBLE = 2.3
# Shares of the strongest change of a picture: what is less has not changed, what is more has.
_WEAK, _STRONG = 0.15, 0.4


def estimate_similarity(src_xy: np.ndarray, dst_xy: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that take points nearest to others.

    Args:
        src_xy: [N, 2], at least two different points.
        dst_xy: [N, 2].

    Returns:
        [2, 3] float64; never a reflection.

    Raises:
        DataError: The shapes differ or all source points coincide.

    Reference: Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point
    Patterns", PAMI 1991; in the plane the solution is closed and needs no decomposition.
    """
    src, dst = np.asarray(src_xy, np.float64), np.asarray(dst_xy, np.float64)
    if src.ndim != 2 or src.shape[1] != 2 or src.shape != dst.shape:
        raise DataError(
            "estimate_similarity takes two lists of points of the same shape [N, 2], got "
            f"{list(src.shape)} and {list(dst.shape)}."
        )
    src_mean, dst_mean = src.mean(axis=0), dst.mean(axis=0)
    p, q = src - src_mean, dst - dst_mean
    variance = float((p * p).sum())
    if not variance > 0.0 or not np.isfinite(dst).all():
        raise DataError("estimate_similarity needs finite points, two of them different.")
    a = float((p * q).sum()) / variance
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / variance
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, dst_mean - linear @ src_mean])


def invert_matrix(matrix: np.ndarray) -> np.ndarray:
    """The [2, 3] matrix that undoes an affine one.

    Raises:
        DataError: The matrix flattens the plane.
    """
    linear = np.asarray(matrix, np.float64)[:, :2]
    if abs(np.linalg.det(linear)) < 1e-12:
        raise DataError(f"The matrix {np.asarray(matrix).tolist()} cannot be inverted.")
    inverse = np.linalg.inv(linear)
    return np.column_stack([inverse, -inverse @ np.asarray(matrix, np.float64)[:, 2]])


def compose_matrices(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The [2, 3] matrix that applies ``inner`` first and ``outer`` after it."""
    outer, inner = np.asarray(outer, np.float64), np.asarray(inner, np.float64)
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def transform_points(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Applies a [2, 3] matrix to points [..., 2]; keeps their dtype when it is a float."""
    xy = np.asarray(xy)
    out = xy @ np.asarray(matrix)[:, :2].T + np.asarray(matrix)[:, 2]
    return out.astype(xy.dtype if xy.dtype.kind == "f" else np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CropConfig:
    """Which square of the frame the network sees.

    Attributes:
        mode: ``whole`` takes the centred square of the whole frame, ``face`` a square around the
            face, ``auto`` the whole frame when it is square and the face large in it.
        scale: Side of a face square as a multiple of the face's box.
        raise_by: How far the square's centre stands above the box's, in boxes: hair and forehead
            need more room than the chin.
        steady: While the face's centre stays within this share of the side around its median, the
            square stands still, and the background with it.
        smooth_frames: Standard deviation, in frames, of the smoothing of a moving square's path.
    """

    KIND: ClassVar[str] = "crop"

    mode: Literal["auto", "whole", "face"] = "auto"
    scale: float = 2.0
    raise_by: float = 0.12
    steady: float = 0.12
    smooth_frames: float = 20.0

    def __post_init__(self) -> None:
        if not 1.2 <= self.scale <= 8.0:
            raise ConfigError(f"scale must be from 1.2 to 8, got {self.scale}.")
        if self.smooth_frames < 0.0 or self.steady < 0.0:
            raise ConfigError(
                f"smooth_frames and steady must not be negative, got {self.smooth_frames} and "
                f"{self.steady}."
            )


# A face's box is that share of a square frame's side, at least, when "auto" takes it whole. A jaw
# is 0.9 of its box.
_LARGE_FACE = 0.28


@dataclasses.dataclass(frozen=True, slots=True)
class CropPath:
    """One square of fixed side for each frame of a clip.

    Attributes:
        side_px: Side of the square in frame pixels.
        centers_xy_px: [N, 2] float64, the square's centre in each frame.
    """

    side_px: int
    centers_xy_px: np.ndarray

    def crop_matrix(self, index: int, size_px: int) -> np.ndarray:
        """[2, 3] float64 from frame pixels to pixels of the crop of ``size_px``."""
        scale = size_px / self.side_px
        left, top = self.centers_xy_px[index] - (self.side_px - 1) / 2.0
        return np.array(
            [
                [scale, 0.0, (0.5 - left) * scale - 0.5],
                [0.0, scale, (0.5 - top) * scale - 0.5],
            ]
        )

    def extract(self, image: np.ndarray, index: int, size_px: int) -> np.ndarray:
        """The square of a frame [H, W, 3] uint8: [size_px, size_px, 3] uint8."""
        return extract_crop(image, self.crop_matrix(index, size_px), size_px)


def plan_crops(
    landmarks_xy_px: np.ndarray,
    present: np.ndarray,
    frame_hw: tuple[int, int],
    config: CropConfig | None = None,
) -> CropPath:
    """Chooses the square of every frame of a clip.

    The side is fixed over the clip and the path is smooth, so a head moves inside the crop as it
    does in the frame. The square stays inside the frame wherever it fits.

    Args:
        landmarks_xy_px: [N, 68, 2], the face of each frame; may be a memory map.
        present: [N] bool, False where the frame has no face.
        frame_hw: Height and width of the frames.
        config: How to choose.

    Raises:
        DataError: No frame has a face.
    """
    config = config or CropConfig()
    present = np.asarray(present, bool)
    height, width = frame_hw
    shorter = min(height, width)
    if not present.any():
        raise DataError(f"None of the {len(present)} frames has a face, so nothing can be cropped.")
    middle, box_px = _follow_boxes(landmarks_xy_px, present)
    large = float(np.median(box_px[present])) >= _LARGE_FACE * shorter
    if config.mode == "whole" or (config.mode == "auto" and height == width and large):
        centre = [[(width - 1) / 2.0, (height - 1) / 2.0]]
        if (width - shorter) % 2 or (height - shorter) % 2:
            centre = [[(shorter - 1) / 2.0 + (n - shorter) // 2 for n in (width, height)]]
        return CropPath(shorter, np.repeat(centre, len(present), axis=0))
    typical = float(np.quantile(box_px[present], 0.9))
    side = max(8, round(config.scale * typical))
    if side > shorter and typical * 1.3 <= shorter:
        side = shorter
    middle[:, 1] -= config.raise_by * typical
    return CropPath(side, _steady_path(middle, side, typical, (width, height), config))


def _follow_boxes(landmarks: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box centres [N, 2], filled in where the face is missing, and sides [N]."""
    count = len(present)
    middle, side = np.full((count, 2), np.nan), np.full(count, np.nan)
    for start in range(0, count, _CHUNK):
        here = present[start : start + _CHUNK]
        boxes = box_from_landmarks(np.asarray(landmarks[start : start + _CHUNK])[here])
        middle[start : start + _CHUNK][here] = (boxes[:, :2] + boxes[:, 2:]) / 2.0 - 0.5
        side[start : start + _CHUNK][here] = boxes[:, 2] - boxes[:, 0]
    index, known = np.arange(count), np.flatnonzero(present)
    for axis in range(2):
        middle[:, axis] = np.interp(index, known, middle[known, axis])
    return middle, side


def _steady_path(
    middle: np.ndarray,
    side: int,
    box_px: float,
    frame_wh: tuple[int, int],
    config: CropConfig,
) -> np.ndarray:
    rest = np.median(middle, axis=0)
    if (np.abs(middle - rest) <= config.steady * side).all():
        path = np.repeat(rest[None], len(middle), axis=0)
    else:
        path = smooth_gaussian(middle, config.smooth_frames)
        # A fast move may outrun the smooth path: the face itself never leaves the square.
        room = max(0.0, (side - 1.2 * box_px) / 2.0)
        path = np.clip(path, middle - room, middle + room)
    for axis, length in enumerate(frame_wh):
        half = (side - 1) / 2.0
        if side <= length:
            path[:, axis] = np.clip(path[:, axis], half, length - 1 - half)
        else:
            path[:, axis] = (length - 1) / 2.0
    if (path == path[0]).all():
        # A square that stands still is put on whole pixels, where cropping needs no interpolation.
        corner = np.floor(path - (side - 1) / 2.0 + 0.5)
        path = corner + (side - 1) / 2.0
    return path


def smooth_gaussian(
    values: np.ndarray, sigma: float, ends: Literal["value", "line"] = "value"
) -> np.ndarray:
    """Smooths columns [N, D] over N by a Gaussian.

    Args:
        values: The columns.
        sigma: Its standard deviation, in rows.
        ends: What columns are mirrored in past their ends, so that a move goes on there: the last
            value, which then stays as it is; or that of a line through the last ones.
    """
    if sigma <= 0.0:
        return values.copy()
    radius = max(1, round(3.0 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="reflect", reflect_type="odd")
    if ends == "line" and len(values) > 2:
        near = min(radius, len(values))
        padded[:radius] += 2.0 * (_value_at_start(values[:near]) - values[0])
        padded[-radius:] += 2.0 * (_value_at_start(values[::-1][:near]) - values[-1])
    return np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1)


def _value_at_start(values: np.ndarray) -> np.ndarray:
    """[D]: of the lines that lie nearest to columns [N, D]."""
    slope, start = np.polyfit(np.arange(len(values)), values, 1)
    return start


def extract_crop(
    image: np.ndarray, matrix: np.ndarray, size_px: int, *, mirror: bool = False
) -> np.ndarray:
    """Cuts a square out of an image, without aliasing when it shrinks.

    Args:
        image: [H, W, 3] uint8.
        matrix: [2, 3] from image pixels to crop pixels, a similarity.
        size_px: Height and width of the crop.
        mirror: Whether the image is mirrored outside its border, instead of the border repeated.

    Returns:
        [size_px, size_px, 3] uint8.
    """
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    if matrix[0, 1] == 0.0 and matrix[1, 0] == 0.0 and matrix[0, 0] == matrix[1, 1] > 0.0:
        left, top = 0.5 - (matrix[:, 2] + 0.5) / scale
        side = size_px / scale
        x, y, whole = round(left), round(top), round(side)
        exact = max(abs(left - x), abs(top - y), abs(side - whole)) < 1e-6
        if exact and 0 <= x <= image.shape[1] - whole and 0 <= y <= image.shape[0] - whole:
            return resize(image[y : y + whole, x : x + whole], size_px, size_px).copy()
    border = cv2.BORDER_REFLECT if mirror else cv2.BORDER_REPLICATE
    return _warp(image, matrix, (0, 0, size_px, size_px), border)


def _warp(
    image: np.ndarray, matrix: np.ndarray, window: tuple[int, int, int, int], border: int
) -> np.ndarray:
    """Warps an image into a window (left, top, right, bottom) of the output plane."""
    left, top, right, bottom = window
    matrix = np.asarray(matrix, np.float64).copy()
    matrix[:, 2] -= (left, top)
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    if scale < 0.8:
        # Bilinear sampling would skip pixels, so the part that is seen is shrunk by area first.
        corners = np.array([[0, 0], [right - left, 0], [0, bottom - top]], np.float64) - 0.5
        corners = np.vstack([corners, corners[1] + corners[2] - corners[0]])
        seen = transform_points(invert_matrix(matrix), corners)
        low = np.floor(seen.min(axis=0) - 2.0 / scale).astype(int)
        high = np.ceil(seen.max(axis=0) + 2.0 / scale).astype(int) + 1
        height, width = image.shape[:2]
        if border == cv2.BORDER_REFLECT:
            # What is mirrored lies as far inside as the window reaches outside.
            last = np.array([width, height])
            low, high = np.minimum(low, 2 * last - high), np.maximum(high, -low)
        x0, y0 = max(0, low[0]), max(0, low[1])
        x1, y1 = min(width, high[0]), min(height, high[1])
        if x1 - x0 >= 2 and y1 - y0 >= 2:
            small_w = max(1, round((x1 - x0) * scale))
            small_h = max(1, round((y1 - y0) * scale))
            image = cv2.resize(
                image[y0:y1, x0:x1], (small_w, small_h), interpolation=cv2.INTER_AREA
            )
            sx, sy = small_w / (x1 - x0), small_h / (y1 - y0)
            back = np.array(
                [[1 / sx, 0, (0.5 / sx) - 0.5 + x0], [0, 1 / sy, (0.5 / sy) - 0.5 + y0]]
            )
            matrix = compose_matrices(matrix, back)
    return cv2.warpAffine(
        image,
        matrix,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
    )


def face_mask(landmarks_xy_px: np.ndarray, size_px: int, feather: float = 0.05) -> np.ndarray:
    """A soft mask of the face: the hull of its landmarks with the forehead, faded to zero.

    Args:
        landmarks_xy_px: [68, 2] in pixels of the mask.
        size_px: Height and width of the mask.
        feather: Width of the fade as a share of the side.

    Returns:
        [size_px, size_px] float32 in [0, 1], zero along the border of the square.
    """
    xy = np.asarray(landmarks_xy_px, np.float64)
    # The 68 points end at the brows; the forehead follows the line from the chin to the nose root.
    up = (xy[27] - xy[8]) * 0.22
    hull = cv2.convexHull(np.vstack([xy, xy[17:27] + up]).astype(np.float32))[:, 0]
    mask: np.ndarray = np.zeros((size_px, size_px), np.uint8)
    fixed = np.rint(np.clip(hull, -4.0 * size_px, 5.0 * size_px) * 16).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_AA, shift=4)
    return _fade(mask, feather)


def change_mask(before: np.ndarray, after: np.ndarray, feather: float = 0.05) -> np.ndarray:
    """A soft mask of where a picture has changed.

    Args:
        before: [S, S, 3] uint8.
        after: Likewise.
        feather: Width of the fade along the border of the square as a share of its side.

    Returns:
        [S, S] float32 in [0, 1], zero along the border, and all over where nothing changed that
        one could see.
    """
    lab = [
        cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
        for image in (before, after)
    ]
    distance = np.sqrt(np.square(lab[0] - lab[1]).sum(axis=2))
    distance = cv2.GaussianBlur(distance, (0, 0), max(0.015 * len(before), 0.5))
    # Against the strongest change, but for what only a few pixels have.
    peak = float(np.quantile(distance, 0.99))
    if peak < _VISIBLE:
        return np.zeros(before.shape[:2], np.float32)
    share = np.clip((distance / peak - _WEAK) / (_STRONG - _WEAK), 0.0, 1.0)
    soft = share * share * (3.0 - 2.0 * share)
    return (soft * square_mask(len(before), feather)).astype(np.float32)


def square_mask(size_px: int, feather: float = 0.05) -> np.ndarray:
    """A soft mask of a whole square; arguments and result as ``face_mask`` has them."""
    return _fade(np.full((size_px, size_px), 255, np.uint8), feather)


def _fade(mask: np.ndarray, feather: float) -> np.ndarray:
    width = max(1, round(feather * len(mask))) | 1
    mask[:width], mask[-width:], mask[:, :width], mask[:, -width:] = 0, 0, 0, 0
    # Two box filters of this width fade over 2 * width pixels, centred on the hull's edge.
    for _ in range(2):
        mask = cv2.blur(mask, (width, width), borderType=cv2.BORDER_CONSTANT)
    return mask.astype(np.float32) / 255.0


def paste_back(
    frame: np.ndarray,
    patch: np.ndarray,
    matrix_patch_to_frame: np.ndarray,
    mask: np.ndarray,
    colour_match: bool = True,
) -> np.ndarray:
    """Blends a patch into a frame.

    Args:
        frame: [H, W, 3] uint8.
        patch: [S, S, 3] uint8.
        matrix_patch_to_frame: [2, 3], a similarity.
        mask: [S, S] float32 in [0, 1]: 1 shows the patch, 0 the frame.
        colour_match: Whether the patch's colours are moved so that they agree with the frame's
            where the mask fades.

    Returns:
        A new image [H, W, 3] uint8.
    """
    if patch.shape[:2] != mask.shape or frame.dtype != np.uint8 or patch.dtype != np.uint8:
        raise DataError(
            "paste_back takes a uint8 frame and patch and a mask of the patch's size, got "
            f"{frame.dtype}, {patch.dtype} {list(patch.shape)} and {list(mask.shape)}."
        )
    out = frame.copy()
    window = _window_in_frame(mask, matrix_patch_to_frame, frame.shape)
    if window is None:
        return out
    if colour_match:
        patch = match_colours(patch, frame, matrix_patch_to_frame, mask)
    left, top, right, bottom = window
    weight = _warp(mask, matrix_patch_to_frame, window, cv2.BORDER_CONSTANT)
    moved = _warp(patch, matrix_patch_to_frame, window, cv2.BORDER_REPLICATE)
    region = out[top:bottom, left:right]
    region[...] = cv2.blendLinear(moved, region, weight, 1.0 - weight)
    return out


def _window_in_frame(
    mask: np.ndarray, matrix: np.ndarray, frame_shape: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """The part of the frame that the mask's non-zero part touches."""
    x, y, w, h = cv2.boundingRect((mask > 0).astype(np.uint8))
    if w == 0 or h == 0:
        return None
    corners = np.array([[x, y], [x + w - 1, y], [x, y + h - 1], [x + w - 1, y + h - 1]], float)
    moved = transform_points(matrix, corners)
    reach = 1.0 + math.hypot(matrix[0, 0], matrix[1, 0])
    left, top = np.maximum(np.floor(moved.min(axis=0) - reach), 0).astype(int)
    right = min(frame_shape[1], int(np.ceil(moved[:, 0].max() + reach)) + 1)
    bottom = min(frame_shape[0], int(np.ceil(moved[:, 1].max() + reach)) + 1)
    if left >= right or top >= bottom:
        return None
    return int(left), int(top), right, bottom


def match_colours(
    patch: np.ndarray, frame: np.ndarray, matrix_patch_to_frame: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Gives a patch the frame's mean and spread of colour where the mask fades.

    The statistics are taken in CIE Lab, at 64 pixels, weighted by m (1 - m) of the mask m.

    Args:
        patch: [S, S, 3] uint8.
        frame: [H, W, 3] uint8.
        matrix_patch_to_frame: [2, 3], a similarity.
        mask: [S, S] float32 in [0, 1].

    Returns:
        [S, S, 3] uint8, changed where the mask shows it; the patch itself where nothing differs
        or the mask does not fade.
    """
    small_px, size = 64, patch.shape[0]
    to_patch = invert_matrix(matrix_patch_to_frame)
    small_mask = resize(mask[..., None], small_px, small_px)[..., 0]
    # Repeated border pixels of a patch that reaches over the frame say nothing about its colours.
    covered = _warp(
        np.full(frame.shape[:2], 255, np.uint8), to_patch, (0, 0, size, size), cv2.BORDER_CONSTANT
    )
    inside = resize(covered[..., None], small_px, small_px)[..., 0] > 250
    weight = (small_mask * (1.0 - small_mask) * inside).ravel()[:, None].astype(np.float64)
    total = float(weight.sum())
    if total < 1.0:
        return patch
    weight /= total
    # Both are shrunk alike from the patch's own grid: equal pixels have equal statistics.
    theirs = _lab(resize(extract_crop(frame, to_patch, size), small_px, small_px))
    ours = _lab(resize(patch, small_px, small_px))
    their_mean, our_mean = (weight * theirs).sum(axis=0), (weight * ours).sum(axis=0)
    their_std = np.sqrt((weight * (theirs - their_mean) ** 2).sum(axis=0))
    our_std = np.sqrt((weight * (ours - our_mean) ** 2).sum(axis=0))
    # Bounded, so that a dark edge or a hand before the face cannot turn the skin.
    gain = np.clip((their_std + 2.0) / (our_std + 2.0), 0.75, 1.33)
    codes = np.arange(256)[:, None]
    table = (codes - our_mean) * gain + our_mean + np.clip(their_mean - our_mean, -48, 48)
    if np.abs(table - codes).max() < 1.0:
        return patch
    lut = np.clip(np.rint(table), 0, 255).astype(np.uint8)[None]
    # Colour conversion is the dear part, and the mask hides most of the square.
    x, y, w, h = cv2.boundingRect((mask > 0).astype(np.uint8))
    out = patch.copy()
    lab = cv2.LUT(cv2.cvtColor(patch[y : y + h, x : x + w], cv2.COLOR_RGB2LAB), lut)
    out[y : y + h, x : x + w] = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return out


def _lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float64)
