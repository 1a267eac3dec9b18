"""How well talking heads are learnt from a few pictures: the paper's protocol.

For each video that was held out, T of its frames teach the person, and other frames are made from
their landmarks and compared with the real ones.

Reference: Zakharov et al., "Few-Shot Adversarial Learning of Realistic Neural Talking Head Models",
ICCV 2019, section 4.1. Difference: CSIM is the cosine of dlib's descriptors, not of ArcFace's.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import resize_landmarks
from facegan.image import decode_picture, resize, to_float, to_uint8
from facegan.jobs.finetune import learn_person
from facegan.preparation.shots import Shots
from facegan.progress import ProgressFactory, no_progress

_BATCH_SIZE = 8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeadEvaluationConfig:
    """What is evaluated.

    Attributes:
        shots: Numbers of frames to learn from.
        steps: Updates of fine-tuning; None takes as many as the run's recipe says.
        test_frames: Other frames of each video that are made, at most.
        split: The videos.
        videos: Most videos; None takes all.
        inception: Weights for the FID, as ``make_inception`` has it; None leaves it out.
    """

    KIND: ClassVar[str] = "head_evaluation"

    shots: tuple[int, ...] = (1, 8, 32)
    steps: int | None = None
    test_frames: int = 32
    split: str = "test"
    videos: int | None = 50
    inception: str | None = None

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1:
            raise ConfigError(f"shots must be numbers from 1 up, got {list(self.shots)}.")
        if self.test_frames < 1:
            raise ConfigError(f"test_frames must be at least 1, got {self.test_frames}.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Video:
    """Frames of a video at the stored size, [N, S, S, 3] uint8, and their landmarks [N, 68, 2]."""

    name: str
    images: np.ndarray
    landmarks_xy_px: np.ndarray


def evaluate_heads(
    run_dir: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    config: HeadEvaluationConfig | None = None,
    *,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Scores a meta-learned run on videos that it never saw.

    Args:
        run_dir: The run folder of ``talking_head``.
        dataset_dir: A dataset with a record for each video.
        work_dir: Keeps the fine-tuned runs; evaluation goes on there after a stop.
        config: What is evaluated.
        progress: Opens the progress of a named stage.

    Returns:
        ``videos``, and ``shots``: for each number of them, as text, ``feed_forward`` (the embedding
        alone) and ``fine_tuned``: ``ssim``, ``psnr_db``, ``l1``, ``identity_distance``, ``csim``,
        ``pairs``, and ``fid`` where it is asked for. The test frames are the same for all numbers
        of shots.

    Raises:
        DataError: The split has no video with enough frames.
    """
    from facegan.jobs.run import read_run

    config = config or HeadEvaluationConfig()
    meta = read_run(run_dir)
    videos = list(_read_videos(dataset_dir, config))
    most = max(config.shots)
    results: dict[str, Any] = {}
    for count in config.shots:
        pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
            "feed_forward": [],
            "fine_tuned": [],
        }
        for number, video in enumerate(videos):
            learnt, judged = _divide(len(video.images), count, most, config.test_frames)
            shots = Shots(video.images[learnt], video.landmarks_xy_px[learnt], ())
            folder = pathlib.Path(work_dir) / f"{count}_shots" / f"{number:04}"
            learn_person(run_dir, shots, folder, steps=config.steps, progress=progress)
            size = meta.conditioning.size
            real = np.stack([resize(image, size, size) for image in video.images[judged]])
            drawings = _draw(meta, video, judged)
            for name, pictures in (
                ("feed_forward", _feed_forward(run_dir, meta, shots, drawings)),
                ("fine_tuned", _fine_tuned(folder, drawings)),
            ):
                pairs[name] += list(zip(real, pictures, strict=True))
        results[str(count)] = {name: _score(found, config) for name, found in pairs.items()}
    return {"videos": len(videos), "shots": results}


def _read_videos(
    dataset_dir: str | os.PathLike[str], config: HeadEvaluationConfig
) -> Iterator[_Video]:
    from facegan.datasets.pipeline import read_records

    needed, found = max(config.shots) + 1, 0
    for record in read_records(dataset_dir, config.split).as_numpy_iterator():
        if len(record["images"]) < needed or found == config.videos:
            continue
        found += 1
        images = np.stack([decode_picture(data) for data in record["images"]])
        yield _Video(record["video"].decode(), images, record["landmarks_xy_px"])
    if not found:
        raise DataError(
            f"No video of the split {config.split!r} of {dataset_dir} has {needed} frames, which "
            f"{needed - 1} shots and one to judge need. Take fewer shots, or build the dataset "
            "with more frames_per_clip."
        )


def _divide(total: int, count: int, most: int, test_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames to learn from, and frames to judge, which are the same for every ``count``.

    Both are spread over the video; the few are spread over the many that are learnt from at most.
    """
    known = np.unique(np.linspace(0, total - 1, most).round().astype(int))
    others = np.setdiff1d(np.arange(total), known)
    at = np.unique(np.linspace(0, len(others) - 1, min(test_frames, len(others))).round())
    few = known[((np.arange(count) + 0.5) * len(known) / count).astype(int)]
    return few, others[at.astype(int)]


def _draw(meta: Any, video: _Video, frames: np.ndarray) -> np.ndarray:
    from facegan.face.conditioning import LandmarkConditioner

    draw, size = LandmarkConditioner(meta.conditioning), meta.conditioning.size
    stored = video.images.shape[1:3]
    points = [resize_landmarks(xy, stored, (size, size)) for xy in video.landmarks_xy_px[frames]]
    return np.stack([draw(xy)["condition"] for xy in points])


def _feed_forward(
    run_dir: str | os.PathLike[str], meta: Any, shots: Shots, drawings: np.ndarray
) -> np.ndarray:
    from facegan.jobs.export import load_nets
    from facegan.jobs.finetune import embed_shots

    nets = load_nets(run_dir)
    embedding = np.asarray(embed_shots(nets["embedder"], meta, shots))

    def paint(batch: np.ndarray) -> Any:
        given = np.repeat(embedding[None], len(batch), axis=0)
        return nets["generator"]({"condition": batch, "embedding": given})

    return _paint(paint, drawings)


def _fine_tuned(folder: pathlib.Path, drawings: np.ndarray) -> np.ndarray:
    from facegan.jobs.export import load_nets

    generator = load_nets(folder)["generator"]
    return _paint(lambda batch: generator({"condition": batch}), drawings)


def _paint(paint: Any, drawings: np.ndarray) -> np.ndarray:
    parts = [
        np.asarray(paint(to_float(drawings[start : start + _BATCH_SIZE])))
        for start in range(0, len(drawings), _BATCH_SIZE)
    ]
    return to_uint8(np.concatenate(parts))


def _score(pairs: list[tuple[np.ndarray, np.ndarray]], config: HeadEvaluationConfig) -> Any:
    from facegan.evaluation.identity import describe_pictures, paired_similarity
    from facegan.evaluation.pairs import evaluate_pairs
    from facegan.face.identity import IdentityModel

    real, fake = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    model = IdentityModel()
    scores: dict[str, Any] = evaluate_pairs(real, fake, identity_model=model)
    csim = paired_similarity(describe_pictures(model, real), describe_pictures(model, fake))
    scores["csim"] = csim
    if config.inception is not None:
        from facegan.evaluation.fid import fid, make_inception

        scores |= fid(real, fake, make_inception(config.inception))
    return scores
