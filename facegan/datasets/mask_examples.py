"""Records with a label map and an identity -> examples of faces from segmentation maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facegan.datasets.label_examples import LabelMapExample
from facegan.datasets.transforms import Augmentation
from facegan.errors import DataError
from facegan.face.conditioning import IDENTITY, MaskConditioningConfig
from facegan.face.identity import IDENTITY_SIZE
from facegan.face.labels import CELEBAMASK19, LabelSchema, find_schema
from facegan.face.mask_groups import mean_colours, split_groups

# What the numbers that say who somebody is are called in datasets' records.
DESCRIPTOR = "descriptor"


class MaskExample:
    """A face picture, where its groups of parts lie, their colours in it, and who it is.

    Reads the fields ``image`` and ``label_map`` as ``LabelMapExample`` does, and ``descriptor``
    ([128] float32) where the config has an identity. Gives ``image``, [size, size, 3] uint8;
    ``label_map``, [size, size] uint8 ids of the config's schema; ``colours``, [G, 3] float32 in
    [-1, 1], of the picture as it was moved; and ``identity``, [128] float32.

    Args:
        config: What the model is shown.
        source_schema: The records' schema.
    """

    fields: tuple[str, ...]
    outputs: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

    def __init__(
        self, config: MaskConditioningConfig, source_schema: LabelSchema = CELEBAMASK19
    ) -> None:
        self._parts = LabelMapExample(config.size, find_schema(config.schema), source_schema)
        self._num_groups = config.num_groups
        self.fields = self._parts.fields
        self.outputs = {**self._parts.outputs, "colours": ((config.num_groups, 3), np.float32)}
        if config.identity:
            self.fields = (*self.fields, DESCRIPTOR)
            self.outputs = {**self.outputs, IDENTITY: ((IDENTITY_SIZE,), np.float32)}

    def __call__(
        self, record: Mapping[str, Any], augmentation: Augmentation
    ) -> dict[str, np.ndarray]:
        """Makes the example of one record."""
        made = self._parts(record, augmentation)
        masks = split_groups(made["label_map"], self._num_groups)
        made["colours"] = mean_colours(made["image"], masks)
        if IDENTITY in self.outputs:
            descriptor = np.asarray(record[DESCRIPTOR], np.float32)
            if not np.isfinite(descriptor).all():
                raise DataError(
                    "A record does not say who it shows, because no face was found in its picture. "
                    "Build the dataset with --set faces=true --set one_face=true, which leaves "
                    "such pictures out, or train with --set conditioning.identity=false and "
                    "--set recipe.generator.identity_size=0."
                )
            made[IDENTITY] = descriptor
        return made
