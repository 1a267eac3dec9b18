"""Fine-tunes a meta-learned talking head on a few pictures of one person."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from facegan import config as config_lib
from facegan.errors import CheckpointError, ConfigError
from facegan.face.align import CropConfig
from facegan.face.landmarks import DetectorConfig, resize_landmarks
from facegan.image import decode_picture, encode_picture, resize, to_float
from facegan.preparation.shots import Shots, read_shots, read_video_shots
from facegan.progress import ProgressFactory, no_progress

META_KIND, PERSON_KIND = "talking_head", "talking_head_person"
_RECORD = "shots.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """Whom to learn, and for how long.

    Attributes:
        run_dir: Run folder of the meta-learned model.
        images: Pictures of the person.
        video: A video of the person in their place.
        shots: Frames taken of the video.
        steps: Updates; None takes as many as the meta-learned run's recipe says.
        batch_size: Pictures in an update, at most as many as there are.
        overrides: Single values of the run's config, such as ``"train.seed=1"``.
        crop: Which square of a picture is learnt.
        detector: What finds the faces.
    """

    KIND: ClassVar[str] = "finetune"

    run_dir: str
    images: tuple[str, ...] = ()
    video: str | None = None
    shots: int = 8
    steps: int | None = None
    batch_size: int = 2
    overrides: tuple[str, ...] = ()
    crop: CropConfig = dataclasses.field(default_factory=CropConfig)
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        if bool(self.images) == (self.video is not None):
            raise ConfigError("Name either pictures of the person or a video, and not both.")
        for name in ("shots", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}.")


def finetune(
    config: FinetuneConfig,
    run_dir: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Learns one person into a run folder of their own, which is exported as any other.

    Args:
        config: Whom to learn.
        run_dir: The new run folder; ``shots/`` in it keeps the pictures that were used.
        resume: Go on with a folder that exists.
        overwrite: Empty a folder that exists.
        progress: Opens the progress of a named stage.

    Returns:
        As ``train_run``, with ``shots``, the number of pictures.

    Raises:
        FaceganError: A picture shows no face, or a folder or setting cannot be used.
    """
    from facegan.jobs.run import require_free

    meta = _read_meta(config.run_dir)
    run_dir = pathlib.Path(run_dir)
    require_free(run_dir, resume, overwrite)
    if overwrite and run_dir.is_dir():
        shutil.rmtree(run_dir)
    shots = _keep_shots(config, 2 * meta.conditioning.size, run_dir)
    result = learn_person(
        config.run_dir,
        shots,
        run_dir,
        steps=config.steps,
        batch_size=config.batch_size,
        overrides=config.overrides,
        progress=progress,
    )
    return {**result, "shots": len(shots)}


def learn_person(
    meta_dir: str | os.PathLike[str],
    shots: Shots,
    run_dir: str | os.PathLike[str],
    *,
    steps: int | None = None,
    batch_size: int = 2,
    overrides: Sequence[str] = (),
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Learns the person of some pictures into a run folder, or goes on with it.

    Args:
        meta_dir: Run folder of the meta-learned model.
        shots: The pictures.
        run_dir: The person's run folder.
        steps: As ``FinetuneConfig`` has it.
        batch_size: Likewise.
        overrides: Likewise.
        progress: Opens the progress of a named stage.

    Returns:
        As ``train_run``.
    """
    import tensorflow as tf

    from facegan.jobs.run import train_records
    from facegan.training import devices

    meta = _read_meta(meta_dir)
    strategy = devices.make_strategy(1)
    records = tf.data.Dataset.from_tensor_slices(
        {
            "image": [encode_picture(image) for image in shots.images],
            "landmarks_xy_px": shots.landmarks_xy_px,
        }
    )
    return train_records(
        person_config(meta, len(shots), steps, batch_size, overrides),
        records,
        records,
        strategy=strategy,
        source=pathlib.Path(run_dir) / "shots",
        geometry=_fit_geometry(shots),
        run_dir=run_dir,
        resume=True,
        begin=lambda session: _begin(session, meta_dir, meta, shots),
        started_from=meta_dir,
        progress=progress,
    )


def plan_finetune(config: FinetuneConfig, run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``finetune`` would do, without a look at the pictures."""
    meta = _read_meta(config.run_dir)
    count = len(config.images) or config.shots
    person = person_config(meta, count, config.steps, config.batch_size, config.overrides)
    return {
        "meta_run": str(config.run_dir),
        "run_dir": str(run_dir),
        "shots": count,
        "steps": person.train.steps,
        "size": meta.conditioning.size,
    }


def person_config(
    meta: Any, count: int, steps: int | None, batch_size: int, overrides: Sequence[str]
) -> Any:
    """The run's config for one person: the meta-learned nets, losses and optimizers.

    Args:
        meta: Config of the meta-learning run.
        count: How many pictures there are.
        steps: Updates; None for those of the meta-learned run's recipe.
        batch_size: Pictures in an update, at most.
        overrides: Single values.
    """
    from facegan.face.conditioning import ConditioningConfig
    from facegan.jobs.run import RunConfig, override
    from facegan.training.recipes.talking_head_person import PersonRecipeConfig
    from facegan.training.schedules import ScheduleConfig

    batch_size = min(batch_size, count)
    recipe = meta.recipe
    steps = steps or max(recipe.finetune_epochs * count // batch_size, recipe.finetune_min_steps)
    even = ScheduleConfig()
    person = RunConfig(
        kind=PERSON_KIND,
        conditioning=ConditioningConfig(
            size=meta.conditioning.size, drawing=meta.conditioning.drawing
        ),
        recipe=PersonRecipeConfig(
            generator=recipe.generator,
            discriminator=recipe.discriminator,
            losses=recipe.losses,
            discriminator_steps=recipe.discriminator_steps,
            update=recipe.update,
            generator_optimizer=dataclasses.replace(recipe.generator_optimizer, schedule=even),
            discriminator_optimizer=dataclasses.replace(
                recipe.discriminator_optimizer, schedule=even
            ),
            ema=recipe.ema,
        ),
        data=dataclasses.replace(meta.data, batch_size=batch_size),
        train=dataclasses.replace(meta.train, steps=steps, keep_epochs=(), replicas=1),
    )
    return override(person, overrides) if overrides else person


def _read_meta(run_dir: str | os.PathLike[str]) -> Any:
    from facegan.jobs.run import read_run

    meta = read_run(run_dir)
    if meta.kind != META_KIND:
        raise CheckpointError(
            f"{run_dir} is a {meta.kind!r} run; fine-tuning starts from a {META_KIND!r} run, as "
            "tools/train.py --preset talking_head_256 makes."
        )
    return meta


def _keep_shots(config: FinetuneConfig, size_px: int, run_dir: pathlib.Path) -> Shots:
    """The pictures to learn from, as the run folder has them or as they are put there."""
    folder, asked = run_dir / "shots", {"version": 1, "size_px": size_px, **_asked(config)}
    if (folder / _RECORD).is_file():
        document = config_lib.read_json(folder / _RECORD)
        changed = [name for name in asked if document.get(name) != asked[name]]
        if changed:
            raise ConfigError(
                f"{run_dir} was begun with other pictures (differing: {', '.join(changed)}). Name "
                "another run folder, or start anew with --overwrite."
            )
        images = [decode_picture((folder / name).read_bytes()) for name in document["files"]]
        landmarks = np.array(document["landmarks_xy_px"], np.float32)
        return Shots(np.stack(images), landmarks, tuple(document["names"]))
    reading: dict[str, Any] = {"crop": config.crop, "detector": config.detector}
    if config.video is not None:
        shots = read_video_shots(config.video, config.shots, size_px, **reading)
    else:
        shots = read_shots(config.images, size_px, **reading)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [f"{number:03}.png" for number in range(len(shots))]
        for name, image in zip(files, shots.images, strict=True):
            (folder / name).write_bytes(encode_picture(image))
    except OSError as error:
        raise ConfigError(f"Cannot write to {folder}: {error.strerror or error}.") from error
    told: dict[str, Any] = {
        **asked,
        "files": files,
        "names": list(shots.names),
        "landmarks_xy_px": shots.landmarks_xy_px.tolist(),
    }
    config_lib.write_json(folder / _RECORD, told)
    return shots


def _asked(config: FinetuneConfig) -> Mapping[str, Any]:
    from facegan.render.workspace import identify_file

    files = config.images or (config.video,)
    return {
        "pictures": [identify_file(path) for path in files if path is not None],
        "shots": None if config.images else config.shots,
        "crop": config_lib.encode(config.crop),
        "detector": config_lib.encode(config.detector),
    }


def _fit_geometry(shots: Shots) -> dict[str, Any]:
    from facegan.face.retarget import fit_geometry

    present = np.ones(len(shots), bool)
    size = shots.images.shape[1]
    return config_lib.encode(fit_geometry(shots.landmarks_xy_px, present, size))


def embed_shots(embedder: Any, meta: Any, shots: Shots) -> Any:
    """The embedding [embedding_size] of a person's pictures.

    Args:
        embedder: The meta-learned net.
        meta: Config of its run.
        shots: The pictures, of any size.
    """
    from facegan.face.conditioning import LandmarkConditioner

    size, stored = meta.conditioning.size, shots.images.shape[1:3]
    draw = LandmarkConditioner(meta.conditioning)
    images = np.stack([resize(image, size, size) for image in shots.images])
    points = [resize_landmarks(xy, stored, (size, size)) for xy in shots.landmarks_xy_px]
    drawings = np.stack([draw(xy)["condition"] for xy in points])
    inputs = {"images": to_float(images)[None], "conditions": to_float(drawings)[None]}
    return embedder(inputs)[0]


def _begin(session: Any, meta_dir: str | os.PathLike[str], meta: Any, shots: Shots) -> None:
    """Gives a fresh run the weights of the meta-learned one, and the person's style."""
    from facegan.jobs.export import load_nets
    from facegan.training.recipes.talking_head_person import start_from

    nets = load_nets(meta_dir)
    embedding = embed_shots(nets["embedder"], meta, shots)
    with session.strategy.scope():
        start_from(session.state.nets, session.state.ema_nets, nets, embedding)
