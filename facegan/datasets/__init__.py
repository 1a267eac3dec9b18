"""Datasets on disk and in memory; importing the package makes its builders known to TFDS.

Example:
    >>> import tensorflow_datasets as tfds
    >>> import facegan.datasets
    >>> tfds.builder_cls("celebamask_hq").name
    'celebamask_hq'
"""

from facegan.datasets.celebamask_hq import celebamask_hq_dataset_builder
from facegan.datasets.image_folder import image_folder_dataset_builder
from facegan.datasets.user_video import user_video_dataset_builder
from facegan.datasets.voxceleb import voxceleb_dataset_builder

# The builders by the names under which TFDS and tools/build_dataset.py know them.
BUILDERS = {
    module.Builder.name: module.Builder
    for module in (
        user_video_dataset_builder,
        celebamask_hq_dataset_builder,
        voxceleb_dataset_builder,
        image_folder_dataset_builder,
    )
}
