"""A training run as one call: from a preset and a dataset to a run folder.

A run is described by one JSON document, which a preset ships and every run folder keeps:

    {"kind": "pix2pix", "version": 1,
     "conditioning": {...}, "recipe": {...}, "data": {...}, "train": {...}}

``kind`` is the recipe's stem; it decides what may stand under ``recipe``. A preset or a file may
have "auto" there: the recipe then follows from ``conditioning.size`` and ``data.batch_size``.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.resources
import os
import pathlib
import pkgutil
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from facegan import config as config_lib
from facegan.datasets.examples import ExampleMaker, LandmarkExample, PictureExample
from facegan.datasets.few_shot_examples import FewShotExample
from facegan.datasets.label_examples import LabelMapExample
from facegan.datasets.mask_examples import MaskExample
from facegan.datasets.pipeline import (
    PipelineConfig,
    count_records,
    iterate_batches,
    list_domains,
    make_pipeline,
    read_domains,
    read_records,
    require_shards,
)
from facegan.datasets.storage import read_report
from facegan.errors import CheckpointError, ConfigError, DataError
from facegan.face.conditioning import (
    AnyConditioning,
    ConditioningConfig,
    DomainConditioningConfig,
    FewShotConditioningConfig,
    LabelMapConditioningConfig,
    LatentConditioningConfig,
    MaskConditioningConfig,
    decode_conditioning,
    encode_conditioning,
)
from facegan.face.identity import IDENTITY_SIZE
from facegan.face.labels import CELEBAMASK19, find_schema
from facegan.jobs.provenance import PROVENANCE_FILE, write_provenance
from facegan.progress import ProgressFactory, no_progress
from facegan.training import recipes
from facegan.training.trainer import TrainConfig

VERSION = 1

# What stands for a recipe that follows from the pictures' size and the batch.
_AUTOMATIC = "auto"
_PREVIEW_EXAMPLES = 4
# Of models of domains: a source, and two references of one domain (``make_pipeline``).
_DOMAIN_PATTERN = (0, 1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that decides a training run but the dataset.

    Attributes:
        kind: Stem of the recipe and its model.
        conditioning: What the generator sees.
        recipe: The recipe's own config, ``training/recipes/<kind>.py``'s ``CONFIG``.
        data: Batch size, order, augmentation.
        train: How long and on what.
    """

    kind: str
    conditioning: AnyConditioning
    recipe: Any
    data: PipelineConfig
    train: TrainConfig


def list_presets() -> tuple[str, ...]:
    """Names of the presets that come with the library."""
    folder = importlib.resources.files("facegan") / "presets"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".json")]
    return tuple(sorted(name.removesuffix(".json") for name in names))


def load_config(
    preset: str | None = None,
    config_path: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Reads a run's config from a preset or a file, with single values changed.

    Args:
        preset: Name of a preset.
        config_path: A JSON file in its place.
        overrides: Texts such as ``"train.steps=500"``.

    Raises:
        ConfigError: Not exactly one of preset and file is given, or something in them is wrong.
    """
    if (preset is None) == (config_path is None):
        raise ConfigError("Name either a preset or a config file, and not both.")
    if preset is not None:
        if preset not in list_presets():
            raise config_lib.unknown_name("preset", preset, list_presets(), what="value")
        source = importlib.resources.files("facegan") / "presets" / f"{preset}.json"
        with importlib.resources.as_file(source) as path:
            document = config_lib.read_json(path)
    else:
        document = config_lib.read_json(config_path)  # type: ignore[arg-type]
    # What lacks a part is refused below.
    whole = isinstance(document, Mapping) and {"conditioning", "data"} <= document.keys()
    if whole and document.get("recipe") == _AUTOMATIC:
        decisive = [text for text in overrides if text.startswith(("conditioning.", "data."))]
        document = _settle_recipe(config_lib.assign(document, decisive))
    config = decode_run(document)
    return override(config, overrides) if overrides else config


def _settle_recipe(document: dict[str, Any]) -> dict[str, Any]:
    """A run's document whose recipe follows from the pictures' size and the batch."""
    module = _recipe_module(document.get("kind"))
    if not hasattr(module, "automatic"):
        raise ConfigError(
            f"Recipes of {document['kind']!r} have no automatic settings; spell them out."
        )
    conditioning = decode_conditioning(document["conditioning"])
    data = config_lib.decode(PipelineConfig, document["data"], "data")
    recipe = module.automatic(conditioning.size, data.batch_size)
    return {**document, "recipe": config_lib.encode(recipe)}


def encode_run(config: RunConfig) -> dict[str, Any]:
    """The JSON document of a run's config, every value spelled out."""
    return {
        "kind": config.kind,
        "version": VERSION,
        "conditioning": encode_conditioning(config.conditioning),
        "recipe": config_lib.encode(config.recipe),
        "data": config_lib.encode(config.data),
        "train": config_lib.encode(config.train),
    }


def decode_run(document: Any) -> RunConfig:
    """Reads a run's config from its JSON document, strictly.

    Raises:
        ConfigError: A key is unknown or missing, or a value is refused.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(f"A run config must be a JSON object, got {type(document).__name__}.")
    keys = ("kind", "version", "conditioning", "recipe", "data", "train")
    for key in document:
        if key not in keys:
            raise config_lib.unknown_name(key, key, keys, what="key")
    for key in keys:
        if key not in document:
            raise ConfigError(f"The key {key!r} of the run config is missing.")
    if document["version"] != VERSION:
        raise ConfigError(
            f"The run config has version {document['version']!r}; this facegan reads {VERSION}."
        )
    module = _recipe_module(document["kind"])
    return RunConfig(
        kind=document["kind"],
        conditioning=decode_conditioning(document["conditioning"]),
        recipe=config_lib.decode(module.CONFIG, document["recipe"], "recipe"),
        data=config_lib.decode(PipelineConfig, document["data"], "data"),
        train=config_lib.decode(TrainConfig, document["train"], "train"),
    )


def override(config: RunConfig, assignments: Sequence[str]) -> RunConfig:
    """A copy of a run's config with values changed by dotted name."""
    return decode_run(config_lib.assign(encode_run(config), assignments))


def with_size(config: RunConfig, size: int) -> RunConfig:
    """A copy of a run's config for pictures of another size: every ``size`` in it agrees."""
    conditioning = dataclasses.replace(config.conditioning, size=size)
    config = dataclasses.replace(config, conditioning=conditioning)
    return with_everywhere(config, {"image_size": size})


def with_everywhere(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A copy of a run's config whose recipe has values wherever in it the names stand."""
    document = encode_run(config)
    _set_everywhere(document["recipe"], values)
    return decode_run(document)


def _set_everywhere(node: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, item in node.items():
        if key in values:
            node[key] = values[key]
        elif isinstance(item, dict):
            _set_everywhere(item, values)


def make_recipe(config: RunConfig) -> Any:
    """The recipe object of a run."""
    return _recipe_module(config.kind).Recipe(config.recipe)


def find_dataset(data_dir: str | os.PathLike[str]) -> pathlib.Path:
    """The one prepared dataset at or below a folder.

    Raises:
        DataError: There is none, or there are several.
    """
    root = pathlib.Path(data_dir)
    if not root.is_dir():
        raise DataError(f"The dataset folder {root} does not exist.")
    found = sorted(path.parent for path in root.rglob("dataset_info.json"))
    found = [path for path in found if ".incomplete" not in str(path)]
    if len(found) != 1:
        what = "no prepared dataset" if not found else f"{len(found)} datasets"
        raise DataError(
            f"{root} holds {what}; name the folder of one"
            + (f", such as {found[0]}." if found else ", built with tools/build_dataset.py.")
        )
    return found[0]


def describe_run(config: RunConfig) -> dict[str, Any]:
    """What ``train_run`` would train, without training: the settled config and net sizes."""
    from facegan.training.trainer import count_parameters, require_whole_groups, settle

    _require_fitting_nets(config)
    recipe = make_recipe(config)
    # Over how many devices is not known before they are taken.
    require_whole_groups(config.data.batch_size, recipe.group, num_devices=1)
    config = dataclasses.replace(config, train=settle(config.train))
    nets = recipe.build_nets("float32")
    return {"config": encode_run(config), "parameters": count_parameters(nets)}


def train_run(
    config: RunConfig | None,
    *,
    data_dir: str | os.PathLike[str],
    run_dir: str | os.PathLike[str],
    resume: bool = False,
    overwrite: bool = False,
    init_from: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Trains a recipe on a prepared dataset into a run folder, or goes on with one.

    Args:
        config: What to train; None takes the run folder's own config (with ``resume``).
        data_dir: Folder of the prepared dataset.
        run_dir: The run folder: ``config.json``, ``conditioning.json``, ``checkpoints/``,
            ``log.jsonl``, ``tensorboard/``, ``samples/``.
        resume: Go on from the newest checkpoint of a run folder that exists.
        overwrite: Empty a run folder that exists.
        init_from: Another run folder whose weights this one starts from.
        preset: Name of the preset that ``config`` comes from, for the folder's provenance.
        progress: Shows the progress.

    Returns:
        ``run_dir``, ``steps``, ``examples``, ``parameters`` and the last logged ``terms``.

    Raises:
        FaceganError: See ``Trainer.fit``; or the folder, config or dataset does not fit.
    """
    # First of all: with several workers, TensorFlow wants its cluster before any other work.
    from facegan.training import devices
    from facegan.training.checkpoint import load_weights

    strategy = devices.make_strategy(config.train.replicas if config else None)
    if devices.worker_index() == 0:
        require_free(pathlib.Path(run_dir), resume, overwrite)
    dataset_dir = find_dataset(data_dir)
    if config is not None:
        config = _fit_to_dataset(config, dataset_dir)
    if init_from is not None:
        kind, wanted = read_run(init_from).kind, (config or read_run(run_dir)).kind
        if kind != wanted:
            raise CheckpointError(
                f"{init_from} is a {kind!r} run and cannot start a {wanted!r} run."
            )
    # A run that goes on must find the domains that it knows.
    conditioning = (config or _fit_to_dataset(read_run(run_dir), dataset_dir)).conditioning
    try:
        held_out = open_records(conditioning, dataset_dir, "test")
    except DataError:
        held_out = open_records(conditioning, dataset_dir, "train")

    def begin(session: Any) -> None:
        if init_from is not None:
            load_weights(pathlib.Path(init_from) / "checkpoints", session.state)

    return train_records(
        config,
        open_records(conditioning, dataset_dir, "train"),
        held_out,
        strategy=strategy,
        source=dataset_dir,
        geometry=read_geometry(dataset_dir),
        run_dir=run_dir,
        resume=resume,
        overwrite=overwrite,
        begin=begin,
        preset=preset,
        started_from=init_from,
        progress=progress,
    )


def train_records(
    config: RunConfig | None,
    records: Any,
    held_out: Any,
    *,
    strategy: Any,
    source: str | os.PathLike[str],
    geometry: dict[str, Any] | None,
    run_dir: str | os.PathLike[str],
    resume: bool = False,
    overwrite: bool = False,
    begin: Callable[[Any], None],
    preset: str | None = None,
    started_from: str | os.PathLike[str] | None = None,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Trains on records that are at hand; see ``train_run``.

    Args:
        config: As ``train_run`` has it.
        records: A ``tf.data.Dataset`` of records, or one for each domain: ``open_records``.
        held_out: Likewise, for the previews.
        strategy: The distribution strategy.
        source: Where the records are, for messages.
        geometry: Of the face that is learnt (``face.retarget``), None for many faces.
        run_dir: The run folder.
        resume: Go on from its newest checkpoint.
        overwrite: Empty it.
        begin: Called with the ``Trainer`` of a run that starts at step 0, to set first weights.
        preset: As ``train_run`` has it.
        started_from: The run folder whose weights ``begin`` sets, if any.
        progress: Shows the progress.
    """
    from facegan.training import devices, trainer

    chief = devices.worker_index() == 0
    run_dir = pathlib.Path(run_dir)
    if config is not None:
        _require_fitting_batch(config, strategy)
    config = _open_run_dir(run_dir, config, resume, overwrite, write=chief)
    domains = records if isinstance(records, list) else [records]
    examples = sum(map(count_records, domains))
    if chief:
        write_conditioning(run_dir, config.conditioning, geometry)
        if not (resume and (run_dir / PROVENANCE_FILE).is_file()):
            write_provenance(run_dir, preset=preset, started_from=started_from)
    make_example = make_example_maker(config.conditioning)
    session = trainer.Trainer(
        make_recipe(config),
        config.train,
        strategy=strategy,
        run_dir=run_dir,
        steps_per_epoch=max(examples // config.data.batch_size, 1),
    )
    if not (resume and session.restore()):
        begin(session)
    terms: Mapping[str, float] = {}
    if session.step < config.train.steps:
        batches = make_pipeline(
            records,
            make_example,
            config.data,
            seed=config.train.seed,
            start_step=session.step,
            shard_index=devices.worker_index(),
            num_shards=devices.worker_count(),
            pattern=_DOMAIN_PATTERN if isinstance(records, list) else (0,),
        )
        preview = _preview_batch(held_out, make_example, config.data)
        with progress("Train") as callback:
            terms = session.fit(
                iterate_batches(batches, source), preview_batch=preview, progress=callback
            )
    return {
        "run_dir": str(run_dir),
        "steps": session.step,
        "examples": examples,
        "parameters": trainer.count_parameters(session.state.nets),
        "terms": dict(terms),
    }


def open_records(
    conditioning: AnyConditioning, dataset_dir: str | os.PathLike[str], split: str
) -> Any:
    """The records of a split as a conditioning wants them: one dataset, or one for each domain.

    Raises:
        DataError: There is no such split, or its records have no domain.
    """
    if not isinstance(conditioning, DomainConditioningConfig):
        return read_records(dataset_dir, split)
    names, domains = read_domains(dataset_dir, split)
    if not domains:
        raise DataError(f"The split {split!r} of {dataset_dir} is empty.")
    return domains


def _fit_to_dataset(config: RunConfig, dataset_dir: pathlib.Path) -> RunConfig:
    """Fills in what a config leaves to the dataset."""
    _require_fitting_nets(config)
    if isinstance(config.conditioning, DomainConditioningConfig):
        return _fit_to_domains(config, config.conditioning, dataset_dir)
    if isinstance(config.conditioning, LatentConditioningConfig | MaskConditioningConfig):
        _require_same_cut(config.conditioning, dataset_dir)
    if getattr(config.recipe, "num_videos", 0) is not None:
        return config
    recipe = dataclasses.replace(config.recipe, num_videos=count_videos(dataset_dir))
    return dataclasses.replace(config, recipe=recipe)


def _fit_to_domains(
    config: RunConfig, conditioning: DomainConditioningConfig, dataset_dir: pathlib.Path
) -> RunConfig:
    names, learnt = list_domains(dataset_dir), read_domains(dataset_dir, "train")[0]
    missing = [name for name in names if name not in learnt]
    if missing:
        raise DataError(f"The domain {missing[0]!r} of {dataset_dir} has no picture to learn from.")
    if conditioning.domains not in ((), names):
        raise ConfigError(
            f"conditioning.domains are {', '.join(conditioning.domains)}, but those of "
            f"{dataset_dir} are {', '.join(names)}. Leave them out, to take the dataset's."
        )
    _require_same_cut(conditioning, dataset_dir)
    landmarks = config.recipe.needs_landmarks
    settled = dataclasses.replace(conditioning, domains=names, landmarks=landmarks)
    config = with_everywhere(config, {"num_domains": len(names)})
    return dataclasses.replace(config, conditioning=settled)


def _require_fitting_nets(config: RunConfig) -> None:
    """Raises ConfigError if nets want something else than the conditioning shows them."""
    size = config.conditioning.size
    found = _find_sizes(config_lib.encode(config.recipe), "recipe")
    wrong = {name: value for name, value in found.items() if value != size}
    if wrong:
        name, value = next(iter(wrong.items()))
        settings = " ".join(f"--set {name}={size}" for name in wrong)
        raise ConfigError(
            f"{name} is {value}, but conditioning.size is {size}. Add {settings}, or change "
            "conditioning.size."
        )
    if isinstance(config.conditioning, MaskConditioningConfig):
        _require_same_groups(config, config.conditioning)


def _require_fitting_batch(config: RunConfig, strategy: Any) -> None:
    """Raises ConfigError if the batch cannot be cut over workers and devices."""
    from facegan.training import devices
    from facegan.training.trainer import require_whole_groups

    workers, size = devices.worker_count(), config.data.batch_size
    require_shards(size, workers)
    local = strategy.num_replicas_in_sync // workers
    require_whole_groups(size // workers, make_recipe(config).group, local)


def _find_sizes(node: Mapping[str, Any], name: str) -> dict[str, int]:
    """Every ``image_size`` of a recipe's document, by dotted name."""
    found: dict[str, int] = {}
    for key, item in node.items():
        if key == "image_size":
            found[f"{name}.{key}"] = item
        elif isinstance(item, Mapping):
            found |= _find_sizes(item, f"{name}.{key}")
    return found


def _require_same_groups(config: RunConfig, shown: MaskConditioningConfig) -> None:
    wanted = {
        "num_groups": shown.num_groups,
        "identity_size": IDENTITY_SIZE if shown.identity else 0,
    }
    for name, value in wanted.items():
        if (given := getattr(config.recipe.generator, name)) != value:
            raise ConfigError(
                f"recipe.generator.{name} is {given}, but the conditioning shows the generator "
                f"{value}. Add --set recipe.generator.{name}={value}, or change the conditioning."
            )


def _require_same_cut(
    conditioning: DomainConditioningConfig | LatentConditioningConfig | MaskConditioningConfig,
    dataset_dir: pathlib.Path,
) -> None:
    if conditioning.align == "none" and _stored_aligned(dataset_dir):
        raise ConfigError(
            f'The faces of {dataset_dir} are aligned, but conditioning.align is "none", so that '
            "other pictures would be cut in another way. Add --set conditioning.align=ffhq."
        )


def _stored_aligned(dataset_dir: pathlib.Path) -> bool:
    try:
        settings = read_report(dataset_dir).get("config", {})
    except ConfigError:  # a dataset that somebody else's builder made
        return False
    return settings.get("align", "none") != "none"


def count_videos(dataset_dir: str | os.PathLike[str]) -> int:
    """How many videos the training split of a dataset of videos tells apart.

    Raises:
        DataError: Its records are no videos.
    """
    try:
        return int(read_report(dataset_dir)["videos"]["train"])
    except (ConfigError, KeyError, TypeError):  # a dataset that somebody else's builder made
        pass
    records = read_records(dataset_dir, "train")
    if "video_index" not in records.element_spec:
        raise DataError(
            f"The records of {dataset_dir} do not say which video they are of; build a dataset "
            "with tools/build_dataset.py --dataset voxceleb."
        )
    numbers = records.map(lambda record: record["video_index"]).as_numpy_iterator()
    return 1 + max(int(number) for number in numbers)


def make_example_maker(conditioning: AnyConditioning) -> ExampleMaker:
    """What turns a dataset's records into the examples of a conditioning."""
    if isinstance(conditioning, ConditioningConfig):
        return LandmarkExample(conditioning)
    if isinstance(conditioning, FewShotConditioningConfig):
        return FewShotExample(conditioning)
    if isinstance(conditioning, DomainConditioningConfig):
        landmarks = conditioning.landmarks
        return PictureExample(conditioning.size, domain=True, landmarks=landmarks)
    if isinstance(conditioning, LatentConditioningConfig):
        return PictureExample(conditioning.size)
    if isinstance(conditioning, MaskConditioningConfig):
        return MaskExample(conditioning)
    background = None
    if isinstance(conditioning, LabelMapConditioningConfig):
        background = conditioning.background
    # Every dataset that holds label maps holds them in CelebAMask-HQ's labels.
    schema = find_schema(conditioning.schema)
    return LabelMapExample(conditioning.size, schema, CELEBAMASK19, background)


def read_run(run_dir: str | os.PathLike[str]) -> RunConfig:
    """The config of an existing run folder.

    Raises:
        CheckpointError: The folder is no run folder.
    """
    path = pathlib.Path(run_dir) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{run_dir} is no run folder: it has no config.json.")
    return decode_run(config_lib.read_json(path))


def read_geometry(dataset_dir: pathlib.Path) -> dict[str, Any] | None:
    """The face geometry that a dataset of one person carries, None for other datasets."""
    path = dataset_dir / "geometry.json"
    return config_lib.read_json(path) if path.is_file() else None


def write_conditioning(
    run_dir: pathlib.Path, conditioning: AnyConditioning, geometry: dict[str, Any] | None
) -> None:
    """Keeps in the run folder what a bundle has to know about its inputs."""
    config_lib.write_json(
        run_dir / "conditioning.json",
        {"conditioning": encode_conditioning(conditioning), "geometry": geometry},
    )


def _recipe_module(kind: Any) -> Any:
    stems = [module.name for module in pkgutil.iter_modules(recipes.__path__)]
    if kind not in stems:
        raise config_lib.unknown_name("kind", kind, stems, what="value")
    return importlib.import_module(f"{recipes.__name__}.{kind}")


def require_free(run_dir: pathlib.Path, resume: bool, overwrite: bool) -> None:
    """Raises ConfigError if a run folder is not empty and may not be gone on with or emptied."""
    occupied = run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir()))
    if occupied and not (resume or overwrite):
        raise ConfigError(
            f"The run folder {run_dir} is not empty. Add --resume to go on with it, --overwrite "
            "to empty it, or name another."
        )


def begin_run(config: RunConfig, run_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Makes a run folder of untrained nets, if it is not there: a checkpoint of step 0."""
    from facegan.training.checkpoint import list_checkpoints
    from facegan.training.trainer import Trainer

    run_dir = pathlib.Path(run_dir)
    if not list_checkpoints(run_dir / "checkpoints"):
        config = _open_run_dir(run_dir, config, True, False, write=True)
        write_conditioning(run_dir, config.conditioning, None)
        Trainer(make_recipe(config), config.train, run_dir=run_dir).save()
    return run_dir


def _open_run_dir(
    run_dir: pathlib.Path, config: RunConfig | None, resume: bool, overwrite: bool, *, write: bool
) -> RunConfig:
    """Checks the folder against what is asked for; returns the settled config."""
    from facegan.training.trainer import settle

    if config is not None:
        config = dataclasses.replace(config, train=settle(config.train))
    # Other workers of a cluster find the folder as the first one has left it.
    if write:
        require_free(run_dir, resume, overwrite)
    if resume and (run_dir / "config.json").is_file():
        stored = read_run(run_dir)
        if config is not None and encode_run(stored) != encode_run(config):
            changed = ", ".join(_differences(encode_run(stored), encode_run(config)))
            raise ConfigError(
                f"{run_dir} was started with another config (differing: {changed}). Resume "
                "without --preset, --config and --set, or start anew with --overwrite."
            )
        return stored
    if config is None:
        raise ConfigError(f"{run_dir} holds no run to resume; name a --preset or --config.")
    if write:
        try:
            if overwrite and run_dir.exists():
                shutil.rmtree(run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"Cannot use the run folder {run_dir}: {error.strerror or error}."
            ) from error
        config_lib.write_json(run_dir / "config.json", encode_run(config))
    return config


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(key for key in new if key not in old)]
        return [
            found
            for name in names
            for found in _differences(
                old.get(name), new.get(name), f"{where}.{name}" if where else name
            )
        ]
    return [] if old == new else [where]


def _preview_batch(
    records: Any, make_example: ExampleMaker, data: PipelineConfig
) -> dict[str, Any]:
    """A few examples, spread over the records, and over the domains where there are some."""
    domains = records if isinstance(records, list) else [records]
    each = max(_PREVIEW_EXAMPLES // len(domains), 1)
    few = [domain.shard(max(count_records(domain) // each, 1), 0).take(each) for domain in domains]
    data = dataclasses.replace(data, batch_size=each * len(domains))
    batches = make_pipeline(few, make_example, data, training=False)
    return next(iter(batches.as_numpy_iterator()))
