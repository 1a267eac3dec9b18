"""VoxCeleb 1 and 2: frames of talking people, a record a video."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from facegan.datasets.builder import ItemsBuilder, list_configs
from facegan.face.landmarks import NUM_LANDMARKS
from facegan.preparation.items import Listing, Work
from facegan.preparation.sources import Source
from facegan.preparation.voxceleb import VideoWork, VoxCelebConfig, list_videos

_SIZES = (128, 256, 512)


class Builder(ItemsBuilder):
    """TFDS builder of ``voxceleb``; see ``ItemsBuilder`` for its arguments."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get VoxCeleb from https://www.robots.ox.ac.uk/~vgg/data/voxceleb/ and put its folders "
        "there: VoxCeleb2's <id>/<video>/<clip>.mp4 or VoxCeleb1's <id>/1.6/<video>/<frame>.jpg."
    )
    BUILDER_CONFIGS = list_configs(
        {
            **{f"{size}px": VoxCelebConfig(size=size) for size in _SIZES},
            **{f"{size}px_clips": VoxCelebConfig(size=size, record="clip") for size in _SIZES},
        },
        "VoxCeleb",
    )
    DEFAULT_BUILDER_CONFIG_NAME = "256px"

    # An item is a whole video, seconds of work.
    ITEMS_PER_PART = 8

    def describe_features(self) -> dict[str, Any]:
        size = self.settings.size
        return {
            "images": tfds.features.Sequence(
                tfds.features.Image(shape=(size, size, 3), encoding_format="jpeg")
            ),
            "landmarks_xy_px": tfds.features.Tensor(
                shape=(None, NUM_LANDMARKS, 2), dtype=np.float32
            ),
            "clip_of_frame": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "frame_index": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            "identity": tfds.features.Text(),
            "video": tfds.features.Text(),
            "video_index": np.int64,
        }

    def list_items(self, source: Source) -> Listing:
        return list_videos(source, self.settings)

    def make_work(self, source: Source) -> Work:
        return VideoWork(source, self.settings)
