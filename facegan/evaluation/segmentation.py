"""How well label maps agree, over one confusion matrix of all pictures.

Reference: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section
5 (pixel accuracy, mean accuracy, mean IoU, frequency-weighted IoU). Classes that the truth does not
have are left out of the means.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from facegan.errors import ConfigError, DataError
from facegan.face.labels import LabelSchema


class ConfusionMatrix:
    """Counts how often each label of the truth was found as each other.

    Args:
        num_labels: Labels of both maps.
        ignore: Id in the truth that is not judged, such as 255.

    Attributes:
        counts: [num_labels, num_labels] int64, rows by the truth, columns by what was found.
    """

    def __init__(self, num_labels: int, ignore: int | None = None) -> None:
        if num_labels < 2:
            raise ConfigError(f"num_labels must be at least 2, got {num_labels}.")
        self.num_labels, self.ignore = num_labels, ignore
        self.counts = np.zeros((num_labels, num_labels), np.int64)

    def update(self, truth: np.ndarray, found: np.ndarray) -> None:
        """Adds one pair of maps.

        Args:
            truth: [H, W] ids, any integer type.
            found: The same shape.

        Raises:
            DataError: The shapes differ, or a map has other ids.
        """
        truth, found = np.asarray(truth), np.asarray(found)
        if truth.shape != found.shape or truth.ndim != 2:
            raise DataError(
                f"Two label maps of one size [H, W] are compared, got {list(truth.shape)} and "
                f"{list(found.shape)}."
            )
        judged = np.ones(truth.shape, bool) if self.ignore is None else truth != self.ignore
        pair = truth[judged].astype(np.int64), found[judged].astype(np.int64)
        for name, ids in zip(("truth", "map that was found"), pair, strict=True):
            if ids.size and not 0 <= ids.min() <= ids.max() < self.num_labels:
                raise DataError(
                    f"The {name} has ids from {ids.min()} to {ids.max()}; with {self.num_labels} "
                    f"labels they go from 0 to {self.num_labels - 1}."
                )
        codes = pair[0] * self.num_labels + pair[1]
        self.counts += np.bincount(codes, minlength=self.num_labels**2).reshape(self.counts.shape)

    def scores(self, schema: LabelSchema | None = None) -> dict[str, Any]:
        """The protocol's figures.

        Args:
            schema: Names the labels in ``iou`` and ``accuracy``; without one they go by id.

        Returns:
            ``pixel_accuracy``, ``mean_accuracy``, ``mean_iou``, ``frequency_weighted_iou``, and by
            label of the truth ``iou`` and ``accuracy``; all from 0 to 1.

        Raises:
            DataError: No pixel was compared.
        """
        counts = self.counts.astype(np.float64)
        total = counts.sum()
        if not total:
            raise DataError("No label map was compared, so there is nothing to score.")
        right, truth, found = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        present = np.flatnonzero(truth)
        accuracy = right[present] / truth[present]
        iou = right[present] / (truth + found - right)[present]
        names = [str(i) if schema is None else schema.labels[i] for i in present]
        return {
            "pixel_accuracy": float(right.sum() / total),
            "mean_accuracy": float(accuracy.mean()),
            "mean_iou": float(iou.mean()),
            "frequency_weighted_iou": float(np.sum(truth[present] * iou) / total),
            "iou": dict(zip(names, map(float, iou), strict=True)),
            "accuracy": dict(zip(names, map(float, accuracy), strict=True)),
        }
