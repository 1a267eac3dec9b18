"""How well the regions of generated pictures are those that they were made of.

The source system's protocol: the pictures are parsed anew, by the parser that the model's own
regions came from, and compared pixel by pixel.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from facegan.datasets.pipeline import count_records, read_records
from facegan.evaluation.segmentation import ConfusionMatrix
from facegan.face.conditioning import FIT_FACES, LabelMapConditioner, LabelMapConditioningConfig
from facegan.face.label_maps import paint_background
from facegan.face.labels import find_schema
from facegan.face.landmarks import DetectorConfig, make_detector, resize_landmarks
from facegan.image import decode_picture, resize
from facegan.render.engine import load_engine


class Reparser:
    """Finds the regions of pictures without landmarks, by finding the landmarks first.

    Args:
        config: Conditioning of the model.
        dataset_dir: Its dataset; some of its pictures show the parser the person's colours.
    """

    def __init__(
        self, config: LabelMapConditioningConfig, dataset_dir: str | os.PathLike[str]
    ) -> None:
        self._conditioner = LabelMapConditioner(config, load_engine)
        self._needs_face = config.parser.bundle is None
        self._background = config.background
        self._detector = make_detector(DetectorConfig()) if self._needs_face else None
        self.unseen = 0
        if self._needs_face:
            self._fit(dataset_dir)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """The regions of a picture [S, S, 3] uint8: [size, size] uint8.

        A picture without a face that can be found is background all over, and counted in
        ``unseen``.
        """
        size = self._conditioner.crop_size
        picture = resize(picture, size, size)
        landmarks = np.zeros((68, 2), np.float32)
        if self._detector is not None:
            faces = self._detector.detect(picture)
            if not faces:
                self.unseen += 1
                side = self._conditioner.config.size
                return np.zeros((side, side), np.uint8)
            landmarks = max(faces, key=lambda face: face.score).landmarks_xy_px
        return self._conditioner(landmarks, picture)["label_map"]

    def _fit(self, dataset_dir: str | os.PathLike[str]) -> None:
        records = read_records(dataset_dir, "train")
        if "landmarks_xy_px" not in records.element_spec:
            return  # each picture then teaches its own colours
        records = records.shard(max(count_records(records) // FIT_FACES, 1), 0).take(FIT_FACES)
        size = self._conditioner.crop_size
        images, landmarks = [], []
        for record in records.as_numpy_iterator():
            image = decode_picture(record["image"])
            if self._background is not None:
                label_map = decode_picture(record["label_map"])[..., 0].copy()
                image = paint_background(image, label_map, self._background)
            # As sharp as the pictures that will be judged: sharpness tells regions apart.
            side = self._conditioner.config.size
            images.append(resize(resize(image, side, side), size, size))
            landmarks.append(
                resize_landmarks(record["landmarks_xy_px"], image.shape[:2], (size, size))
            )
        self._conditioner.fit(images, landmarks)


def score_regions(
    config: LabelMapConditioningConfig,
    dataset_dir: str | os.PathLike[str],
    truth: Sequence[np.ndarray],
    pictures: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Compares the regions of pictures with those they should have.

    Args:
        config: Conditioning of the model.
        dataset_dir: Its dataset.
        truth: [S, S] uint8, the regions each picture was made of.
        pictures: [S, S, 3] uint8.

    Returns:
        Pixel accuracy, mean accuracy, mIoU, frequency-weighted IoU and IoU by label, over one
        confusion matrix of all pictures; ``unseen``: pictures in which no face was found.
    """
    schema = find_schema(config.schema)
    reparse = Reparser(config, dataset_dir)
    matrix = ConfusionMatrix(schema.num_labels)
    for label_map, picture in zip(truth, pictures, strict=True):
        matrix.update(label_map, reparse(picture))
    return {**matrix.scores(schema), "unseen": reparse.unseen}
