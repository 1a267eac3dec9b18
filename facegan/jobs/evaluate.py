"""How well a bundle draws what it never saw: the held-out part of its dataset."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from facegan.errors import DataError
from facegan.image import to_uint8

_BATCH_SIZE = 8


def evaluate_holdout(
    bundle: str | os.PathLike[str], dataset_dir: str | os.PathLike[str], split: str = "test"
) -> dict[str, Any]:
    """Scores a bundle on a split of the dataset that its run was trained on.

    Args:
        bundle: The exported model.
        dataset_dir: Folder of the prepared dataset.
        split: The split to judge on.

    Returns:
        See ``facegan.evaluation.pairs.evaluate_pairs``: means over the pairs of real and generated
        pictures.
    """
    from facegan.bundle import read_manifest
    from facegan.datasets.pipeline import PipelineConfig, make_pipeline, read_records
    from facegan.evaluation.pairs import evaluate_pairs
    from facegan.face.conditioning import decode_conditioning
    from facegan.face.identity import IdentityModel
    from facegan.jobs.run import make_example_maker
    from facegan.render.engine import load_engine

    manifest = read_manifest(bundle)
    if manifest.conditioning is None:
        raise DataError(f"{bundle} takes no face, so there is nothing to compare it with.")
    engine = load_engine(bundle)
    batches = make_pipeline(
        read_records(dataset_dir, split),
        make_example_maker(decode_conditioning(manifest.conditioning)),
        PipelineConfig(batch_size=_BATCH_SIZE),
        training=False,
    )
    names = [spec.name for spec in manifest.inputs]
    real: list[np.ndarray] = []
    fake: list[np.ndarray] = []
    for batch in batches.as_numpy_iterator():
        fake.extend(engine.generate({name: to_uint8(batch[name]) for name in names}))
        real.extend(to_uint8(batch["image"]))
    return evaluate_pairs(real, fake, identity_model=IdentityModel())


def identity_to_person(
    video: str | os.PathLike[str], person: str | os.PathLike[str], every: int = 5
) -> dict[str, Any]:
    """How far the face of one video is from a person's: the mean distance of dlib descriptors.

    Args:
        video: The video to judge, such as a rendered one.
        person: A video of the person.
        every: Take each such frame of both.

    Returns:
        ``distance`` between all pairs of frames (below 0.6 dlib takes two pictures for one
        person), ``own_distance`` among the person's own frames, and ``coverage``, the share of
        judged frames in which a face was found.
    """
    from facegan.evaluation.identity import (
        cross_identity_score,
        describe_pictures,
        own_identity_score,
    )
    from facegan.face.identity import IdentityModel

    model = IdentityModel()
    judged = describe_pictures(model, _pictures(video, every))
    own = describe_pictures(model, _pictures(person, every))
    score = cross_identity_score(own, judged)
    return {
        "distance": score.distance,
        "own_distance": own_identity_score(own).distance,
        "coverage": score.coverage,
    }


def _pictures(path: str | os.PathLike[str], every: int) -> Iterator[np.ndarray]:
    from facegan.video.reader import VideoReader

    with VideoReader(pathlib.Path(path)) as reader:
        frames: Iterable[Any] = reader
        for frame in frames:
            if frame.index % every == 0:
                yield frame.image
