"""Videos as few-shot examples: some frames to learn a face from, and one more to make."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facegan.datasets.transforms import Augmentation, move_pair
from facegan.errors import DataError
from facegan.face.conditioning import FewShotConditioningConfig
from facegan.face.raster import draw_landmarks
from facegan.image import decode_picture


class FewShotExample:
    """Different frames of one video, each with the drawing of its landmarks.

    Reads the fields of a ``voxceleb`` record. Gives ``images`` and ``conditions``,
    [shots, size, size, 3] uint8, ``target`` and ``target_condition``, [size, size, 3] uint8, and
    ``video_index``, a scalar int64. Which frames, and in which order, the augmentation draws;
    without one they are spread evenly over the video and the target is the middle one. All frames
    of an example are moved alike, so that what is learnt from some holds for the other.
    """

    fields: tuple[str, ...] = ("images", "landmarks_xy_px", "video_index")
    outputs: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

    def __init__(self, config: FewShotConditioningConfig):
        self.config = config
        one = (config.size, config.size, 3)
        self.outputs = {
            "images": ((config.shots, *one), np.uint8),
            "conditions": ((config.shots, *one), np.uint8),
            "target": (one, np.uint8),
            "target_condition": (one, np.uint8),
            "video_index": ((), np.int64),
        }

    def __call__(
        self, record: Mapping[str, Any], augmentation: Augmentation
    ) -> dict[str, np.ndarray]:
        """Makes the example of one video.

        Raises:
            DataError: The video has too few frames.
        """
        total, wanted = len(record["images"]), self.config.shots + 1
        if total < wanted:
            raise DataError(
                f"Video {int(record['video_index'])} has {total} frames; {self.config.shots} shots "
                f"need {wanted}. Take fewer shots, or build the dataset with a larger min_frames."
            )
        chosen = augmentation.choose(total, wanted)
        target = 0 if augmentation.choice_key is not None else wanted // 2
        pairs = [self._frame(record, int(index), augmentation) for index in chosen]
        image, condition = pairs.pop(target)
        return {
            "images": np.stack([image for image, _ in pairs]),
            "conditions": np.stack([condition for _, condition in pairs]),
            "target": image,
            "target_condition": condition,
            "video_index": np.asarray(record["video_index"], np.int64),
        }

    def _frame(
        self, record: Mapping[str, Any], index: int, augmentation: Augmentation
    ) -> tuple[np.ndarray, np.ndarray]:
        image = decode_picture(record["images"][index])
        size = self.config.size
        points = record["landmarks_xy_px"][index]
        image, landmarks = move_pair(image, points, augmentation, size)
        return image, draw_landmarks(landmarks, size, self.config.drawing)
