"""CelebAMask-HQ: 30,000 faces with a map of nineteen labels each."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from facegan.datasets.builder import ItemsBuilder, list_configs
from facegan.face.labels import CELEBAMASK19
from facegan.face.landmarks import NUM_LANDMARKS
from facegan.preparation.celebamask_hq import (
    NUM_ATTRIBUTES,
    CelebAMaskHQConfig,
    MaskedPictureWork,
    list_pictures,
)
from facegan.preparation.items import Listing, Work
from facegan.preparation.sources import Source


class Builder(ItemsBuilder):
    """TFDS builder of ``celebamask_hq``; see ``ItemsBuilder`` for its arguments."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get CelebAMask-HQ from its authors (https://github.com/switchablenorms/CelebAMask-HQ; for "
        "non-commercial research) and put CelebAMask-HQ.zip or its unpacked folder there."
    )
    BUILDER_CONFIGS = list_configs(
        {
            **{f"{size}px": CelebAMaskHQConfig(size=size) for size in (256, 512, 1024)},
            **{
                f"{size}px_faces": CelebAMaskHQConfig(size=size, faces=True)
                for size in (256, 512, 1024)
            },
            **{
                f"{size}px_one_face": CelebAMaskHQConfig(size=size, faces=True, one_face=True)
                for size in (256, 512, 1024)
            },
        },
        "CelebAMask-HQ",
    )
    DEFAULT_BUILDER_CONFIG_NAME = "256px"

    def describe_features(self) -> dict[str, Any]:
        size = self.settings.size
        features = {
            # At 1024 px the authors' own JPEG bytes are kept, so the format is left open.
            "image": tfds.features.Image(
                shape=(size, size, 3), encoding_format=None if size == 1024 else "png"
            ),
            "label_map": tfds.features.LabeledImage(
                labels=list(CELEBAMASK19.labels), shape=(size, size, 1), encoding_format="png"
            ),
            "index": np.int64,
            "celeba_index": np.int64,
            "attributes": tfds.features.Tensor(shape=(NUM_ATTRIBUTES,), dtype=np.bool_),
            "pose": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        }
        if self.settings.faces:
            features |= {
                "has_face": np.bool_,
                "landmarks_xy_px": tfds.features.Tensor(shape=(NUM_LANDMARKS, 2), dtype=np.float32),
                "descriptor": tfds.features.Tensor(shape=(128,), dtype=np.float32),
            }
        return features

    def list_items(self, source: Source) -> Listing:
        return list_pictures(source)

    def make_work(self, source: Source) -> Work:
        return MaskedPictureWork(source, self.settings)
