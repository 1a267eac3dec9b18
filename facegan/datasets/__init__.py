"""Datasets on disk and in memory; importing the package makes its builders known to TFDS.

Example:
    >>> import tensorflow_datasets as tfds
    >>> import facegan.datasets
    >>> tfds.builder_cls("user_video").name
    'user_video'
"""

from facegan.datasets.user_video import user_video_dataset_builder

# Names of the builders, as TFDS and tools/build_dataset.py know them.
BUILDERS = (user_video_dataset_builder.Builder.name,)
