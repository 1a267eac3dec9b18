"""What every dataset made of many files shares: list, work, write, report.

    source --list_files--> Listing --> parts --work--> part files --> TFDS records + report

A builder says what its items are, what is done with one, and what a record holds. Going through a
million of them on one process or a cluster, going on after a stop, and reporting what was left out
is done here.
"""

import abc
import collections
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from facegan.config import Config, encode, write_json
from facegan.datasets.storage import (
    REPORT_NAME,
    manual_folder,
    prepare_dataset,
    read_report,
)
from facegan.errors import DataError
from facegan.face.conditioning import LoadEngine
from facegan.preparation.items import (
    LeftOut,
    Listing,
    Record,
    Work,
    count_reasons,
    tell_commonest,
)
from facegan.preparation.parts import Part, PartFolder, Summary, cut_parts
from facegan.preparation.sources import Source, open_source
from facegan.preparation.workers import WorkersConfig, import_beam_pipeline, run_parts
from facegan.progress import ProgressFactory, no_progress

LEFT_OUT_NAME = "left_out.jsonl"

_LEAST_PARTS = 64


@dataclasses.dataclass(eq=False, kw_only=True)
class ItemsBuilderConfig(tfds.core.BuilderConfig):
    """A dataset's settings under a name for TFDS."""

    settings: Any = None


class ItemsBuilder(tfds.core.GeneratorBasedBuilder):
    """Base of the builders; a subclass is a normal TFDS builder.

    A subclass has ``VERSION``, ``BUILDER_CONFIGS`` of ``ItemsBuilderConfig`` and the three methods
    ``describe_features``, ``list_items`` and ``make_work``.

    Args:
        data_dir: Root of TFDS' datasets.
        config: One of ``BUILDER_CONFIGS`` by name, or an ``ItemsBuilderConfig``.
        version: As TFDS has it.
        source: Folder or zip file of the raw files; without it TFDS' manual folder is taken.
        work_dir: Where parts are made; by default beside the dataset. Every machine of a build must
            see it.
        workers: Who does the work.
        keep_work: Keep the parts of a build that is complete; they double what it needs on disk.
        progress: Told how far the stages are.
        load_engine: Loads the bundle of a face parser, for datasets whose settings may name one.
    """

    ITEMS_PER_PART: ClassVar[int] = 32

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        config: str | ItemsBuilderConfig | None = None,
        version: Any = None,
        source: str | os.PathLike[str] | None = None,
        work_dir: str | os.PathLike[str] | None = None,
        workers: WorkersConfig | None = None,
        keep_work: bool = False,
        progress: ProgressFactory = no_progress,
        load_engine: LoadEngine | None = None,
    ):
        self._source = None if source is None else os.fspath(source)
        self._work_dir = None if work_dir is None else os.fspath(work_dir)
        self._workers = workers or WorkersConfig()
        self._keep_work, self._progress = keep_work, progress
        self._load_engine = load_engine
        self._beam: dict[str, Any] | None = None
        self._finished: tuple[PartFolder, list[Part]] | None = None
        super().__init__(data_dir=data_dir, config=config, version=version)
        # TFDS makes a builder again from these when it is unpickled.
        self._original_state.update(
            source=self._source,
            work_dir=self._work_dir,
            workers=self._workers,
            keep_work=keep_work,
            progress=progress,
            load_engine=load_engine,
        )

    @property
    def settings(self) -> Any:
        """What becomes of the files: the config dataclass of this dataset."""
        return self.builder_config.settings

    @abc.abstractmethod
    def describe_features(self) -> dict[str, Any]:
        """The record's fields as TFDS features."""

    @abc.abstractmethod
    def list_items(self, source: Source) -> Listing:
        """Finds the items.

        Raises:
            DataError: The source is not laid out as this dataset is.
        """

    @abc.abstractmethod
    def make_work(self, source: Source) -> Work:
        """What is done with an item."""

    def check_source(self) -> None:
        """Raises DataError if the dataset that is there was made of other files than the source's.

        Only for a builder that was given its source.
        """
        assert self._source is not None
        source = open_source(self._source)
        work = self.make_work(source)
        parts = self._cut(self.list_items(source), work)
        if read_report(self.data_dir).get("source_digest") != _digest(parts):
            raise DataError(
                f"{self.data_dir} was made of other files than {source.describe()} holds now. Add "
                "--overwrite to make it again, or name another data folder."
            )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(self.describe_features()), supervised_keys=None
        )

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        if self._workers.beam_options and download_config.beam_options is None:
            options = import_beam_pipeline().pipeline_options(self._workers.beam_options)
            download_config = dataclasses.replace(download_config, beam_options=options)
        # `tfds build` passes Beam's runner and options in the same way.
        chosen = {"runner": download_config.beam_runner, "options": download_config.beam_options}
        self._beam = chosen if any(chosen.values()) else None
        super()._download_and_prepare(dl_manager, download_config)
        if self._finished is not None and not self._keep_work:
            folder, parts = self._finished
            folder.remove(part.name for part in parts)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterable[tuple[str, Record]] | Any]:
        source = open_source(self._source or manual_folder(dl_manager))
        listing = self.list_items(source)
        work = self.make_work(source)
        if not any(listing.splits.values()):
            raise _nothing(f"{source.describe()} holds nothing", listing.left_out)
        for feature, names in listing.labels.items():
            self.info.features[feature].names = list(names)
        parts = self._cut(listing, work)
        folder = PartFolder(
            self._work_dir or os.path.join(self._data_dir_root, f".{self.name}_work")
        )
        run_parts(parts, folder, work, self._workers, self._progress, beam=self._beam)
        summaries = {part.name: folder.read_summary(part.name) for part in parts}
        self._report(listing, parts, summaries)
        self._finished = folder, parts
        # TFDS refuses a split without records; one whose files are all left out is not there.
        filled: dict[str, list[Part]] = {}
        for part in parts:
            if summaries[part.name].num_records:
                filled.setdefault(part.split, []).append(part)
        return {
            split: self._generate_examples(split, folder, mine, summaries)
            for split, mine in filled.items()
        }

    def _cut(self, listing: Listing, work: Work) -> list[Part]:
        # Small datasets are cut finer, so that every process gets a share. The size depends on
        # nothing but the files: a build may go on with another number of processes.
        total = sum(map(len, listing.splits.values()))
        size = max(1, min(self.ITEMS_PER_PART, total // _LEAST_PARTS))
        return cut_parts(listing.splits, work.fingerprint(), size)

    def _generate_examples(
        self,
        split: str,
        folder: PartFolder,
        parts: Sequence[Part],
        summaries: Mapping[str, Summary],
    ) -> Any:
        names = [part.name for part in parts]
        if self._beam is not None:
            # TFDS adds what writes the records to the same pipeline.
            return import_beam_pipeline().read_parts(names, folder)
        return self._read_parts(split, folder, names, summaries)

    def _read_parts(
        self,
        split: str,
        folder: PartFolder,
        names: Sequence[str],
        summaries: Mapping[str, Summary],
    ) -> Iterator[tuple[str, Record]]:
        total = sum(summaries[name].num_records for name in names)
        done = 0
        with self._progress(f"Write {split}") as callback:
            for name in names:
                for pair in folder.read_records(name):
                    yield pair
                    done += 1
                    callback(done, total, "record")

    def _report(
        self, listing: Listing, parts: Sequence[Part], summaries: Mapping[str, Summary]
    ) -> None:
        """Writes beside the records what was taken, and every file that was left out."""
        left_out = list(listing.left_out)
        counts: collections.Counter[str] = collections.Counter()
        splits: collections.Counter[str] = collections.Counter()
        for part in parts:
            summary = summaries[part.name]
            left_out.extend(summary.left_out)
            counts.update(summary.counts)
            splits[part.split] += summary.num_records
        if not any(splits.values()):
            raise _nothing("None of the files can be used", left_out)
        left_out.sort(key=lambda entry: (entry.file, entry.reason))
        # TFDS points data_path to the temporary folder now, so these appear with the records.
        folder = pathlib.Path(self.data_path)
        write_json(
            folder / REPORT_NAME,
            {
                "kind": f"{self.name}_report",
                "version": 1,
                "config": encode(self.settings),
                "source_digest": _digest(parts),
                "splits": dict(splits),
                "items": sum(len(part.items) for part in parts),
                "left_out": {
                    reason: {"count": count} for reason, count in count_reasons(left_out).items()
                },
                "counts": dict(sorted(counts.items())),
                **listing.facts,
            },
        )
        lines = (json.dumps(dataclasses.asdict(entry), ensure_ascii=False) for entry in left_out)
        (folder / LEFT_OUT_NAME).write_text("".join(f"{line}\n" for line in lines), "utf-8")


def prepare_items(builder: ItemsBuilder, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes a builder's dataset, or finds the one that was made of the same files before.

    Args:
        builder: The builder, with its source.
        overwrite: Make the dataset again where it is there.

    Returns:
        ``dataset_dir``, ``splits`` (records by split), ``left_out`` (files by reason) and
        ``report`` (the path of the report).

    Raises:
        DataError: Nothing can be used, the disk cannot be written, or the dataset is there and was
            made of other files.
    """
    if pathlib.Path(builder.data_dir).is_dir() and not overwrite:
        builder.check_source()
    folder = prepare_dataset(builder, overwrite=overwrite)
    report = read_report(folder)
    return {
        "dataset_dir": str(folder),
        "splits": report["splits"],
        "left_out": {reason: entry["count"] for reason, entry in report["left_out"].items()},
        "report": str(folder / REPORT_NAME),
    }


def find_config(cls: type[ItemsBuilder], settings: Config) -> ItemsBuilderConfig:
    """The builder config with these settings: one of the class's own, or one named by a digest."""
    for config in cls.BUILDER_CONFIGS:
        if config.settings == settings:
            return config
    document = json.dumps(encode(settings), sort_keys=True)
    digest = hashlib.sha256(document.encode()).hexdigest()[:12]
    size = getattr(settings, "size", None)
    name = f"{size}px_{digest}" if size else digest
    return ItemsBuilderConfig(name=name, description="Chosen settings.", settings=settings)


def list_configs(settings: Mapping[str, Config], what: str) -> list[ItemsBuilderConfig]:
    """Builder configs by name, for ``BUILDER_CONFIGS``."""
    return [
        ItemsBuilderConfig(name=name, description=f"{what}: {name}.", settings=config)
        for name, config in settings.items()
    ]


def _digest(parts: Sequence[Part]) -> str:
    """Names all files of a source together with what is done with them."""
    return hashlib.sha256("".join(part.name for part in parts).encode()).hexdigest()


def _nothing(what: str, left_out: Sequence[LeftOut]) -> DataError:
    if not left_out:
        return DataError(f"{what} that this dataset is made of. Check the folder and its layout.")
    return DataError(f"{what} that this dataset is made of: {tell_commonest(left_out)}")
