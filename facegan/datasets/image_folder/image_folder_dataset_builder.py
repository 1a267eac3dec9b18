"""Folders of pictures, a folder a domain."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from facegan.datasets.builder import ItemsBuilder, list_configs
from facegan.face.labels import CELEBAMASK19
from facegan.face.landmarks import NUM_LANDMARKS
from facegan.face.parsing import ParserConfig
from facegan.preparation.image_folder import ImageFolderConfig, PictureWork, list_pictures
from facegan.preparation.items import Listing, Work
from facegan.preparation.sources import Source

_SIZES = (64, 128, 256, 512, 1024)


class Builder(ItemsBuilder):
    """TFDS builder of ``image_folder``; see ``ItemsBuilder`` for its arguments."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put pictures there, in a folder for each domain or in none, below train, val and test or "
        "in no such folder."
    )
    BUILDER_CONFIGS = list_configs(
        {
            **{f"{size}px": ImageFolderConfig(size=size) for size in _SIZES},
            **{f"{size}px_aligned": ImageFolderConfig(size=size, align="ffhq") for size in _SIZES},
            # What models of faces from segmentation maps are trained on.
            **{
                f"{size}px_regions": ImageFolderConfig(
                    size=size, align="ffhq", parser=ParserConfig(), identity=True
                )
                for size in _SIZES
            },
        },
        "Pictures",
    )
    DEFAULT_BUILDER_CONFIG_NAME = "256px"

    def describe_features(self) -> dict[str, Any]:
        size = self.settings.size
        features = {
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            # The source says what the domains are called.
            "domain": tfds.features.ClassLabel(),
            "file": tfds.features.Text(),
        }
        if self.settings.has_landmarks:
            features["landmarks_xy_px"] = tfds.features.Tensor(
                shape=(NUM_LANDMARKS, 2), dtype=np.float32
            )
        if self.settings.parser is not None:
            features["label_map"] = tfds.features.LabeledImage(
                labels=list(CELEBAMASK19.labels), shape=(size, size, 1), encoding_format="png"
            )
        if self.settings.identity:
            features["descriptor"] = tfds.features.Tensor(shape=(128,), dtype=np.float32)
        return features

    def list_items(self, source: Source) -> Listing:
        return list_pictures(source, self.settings)

    def make_work(self, source: Source) -> Work:
        return PictureWork(source, self.settings, self._load_engine)
