"""The conditioning stage of a render: faces of a clip -> what the generator is shown.

A model that is shown a drawing needs the landmarks alone. One that is shown regions needs the
pictures too; they are parsed frame by frame and steadied over time before the generator sees them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from facegan.bundle import Manifest
from facegan.errors import ConfigError
from facegan.face.conditioning import FIT_FACES, Conditioner, LabelMapConditioningConfig
from facegan.face.labels import find_schema
from facegan.face.landmark_warp import bend_to_landmarks
from facegan.image import resize
from facegan.render.compose import Job
from facegan.render.opened import open_bundle
from facegan.render.person import Person
from facegan.render.plan import FacePlan
from facegan.render.workspace import identify_file
from facegan.video.label_deflicker import LabelDeflicker, LabelDeflickerConfig
from facegan.video.label_rules import LabelRules, load_rules

LABEL_MAP = "label_map"

ReadFrame = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What a network is shown, and what follows from it.

    Attributes:
        conditioner: Makes the inputs of a face.
        rules: Of label maps.
        labels: Steadies label maps; None for a model without them.
        background: (r, g, b) of the background of what is made of label maps; None leaves it.
        constants: Inputs that are the same in every frame, without the batch axis.
        fingerprints: Of the files that all this follows from.
    """

    conditioner: Conditioner
    rules: LabelRules | None
    labels: LabelDeflickerConfig | None
    background: tuple[int, int, int] | None
    constants: Mapping[str, np.ndarray]
    fingerprints: tuple[str, ...]

    @classmethod
    def prepare(
        cls,
        manifest: Manifest,
        conditioner: Conditioner,
        person: Person,
        *,
        labels: LabelDeflickerConfig,
        rules: str | None = None,
        background: tuple[int, int, int] | None = None,
    ) -> Shown:
        """Reads what a render's settings name; see ``RenderConfig``.

        Raises:
            ConfigError: Something is named that this model has no use for, or is missing.
        """
        regions = conditioner.config
        files = person.fingerprints
        parser = getattr(regions, "parser", None)
        if parser is not None and parser.bundle is not None:
            files = (*files, open_bundle(parser.bundle).manifest.fingerprint())
        if not isinstance(regions, LabelMapConditioningConfig):
            for name, value in (("rules", rules), ("background", background)):
                if value is not None:
                    raise ConfigError(
                        f"{name} is for models that are shown the regions of a face, which "
                        f"{manifest.model!r} is not; leave it out."
                    )
            return cls(conditioner, None, None, None, person.constants, files)
        loaded = None
        if rules is not None:
            loaded = load_rules(rules, find_schema(regions.schema).labels)
            files = (*files, identify_file(rules))
        background = background or regions.background
        return cls(conditioner, loaded, labels, background, person.constants, files)

    @property
    def memory_frames(self) -> int:
        """Frames before a resume point that have to be looked at again."""
        return 0 if self.labels is None else LabelDeflicker(self.labels).reach_frames


class ConditionStage:
    """Fills in the ``inputs`` of jobs.

    Args:
        plan: What each frame shows.
        shown: What the network is shown.
        read_frame: Reads the picture of any frame of the clip, [H, W, 3] uint8.
    """

    def __init__(self, plan: FacePlan, shown: Shown, read_frame: ReadFrame) -> None:
        self._plan, self._read_frame = plan, read_frame
        self._conditioner, self._rules = shown.conditioner, shown.rules
        self._deflicker = None if shown.labels is None else LabelDeflicker(shown.labels)
        self._held: tuple[int, Job] | None = None

    def fit(self) -> None:
        """Shows the conditioner some faces of the clip, the same ones whenever it is rendered."""
        if not self._conditioner.needs_image:
            return
        crops, landmarks = [], []
        for index in self._plan.spread_faces(FIT_FACES):
            crop, points = self._look(int(index), self._read_frame(int(index)))
            crops.append(crop)
            landmarks.append(points)
        self._conditioner.fit(crops, landmarks)

    def condition(self, job: Job) -> Job:
        """Fills in one job; its label map is not steadied yet."""
        job.face = self._plan.face(job.index)
        if job.face is None:
            return job
        if not self._conditioner.needs_image:
            job.inputs = self._conditioner(job.face.landmarks_xy_px)
            return job
        source = self._plan.source(job.index)
        if self._held is None or self._held[0] != source:
            self._held = (source, self._parse(source, job))
        held = self._held[1]
        job.inputs, job.guide, job.label_map = held.inputs, held.guide, held.label_map
        return job

    def steady(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Steadies the label maps of jobs over time; gives the same jobs, some frames later."""
        if self._deflicker is None:
            yield from jobs
            return
        stream = ((job, job.label_map, job.guide) for job in jobs)
        for job, label_map in self._deflicker.filter(stream):
            if label_map is not None and job.inputs is not None:
                job.label_map = label_map
                job.inputs = {**job.inputs, LABEL_MAP: label_map}
            yield job

    def _parse(self, source: int, job: Job) -> Job:
        frame = job.image if source == job.index and job.image is not None else None
        if frame is None:
            frame = self._read_frame(source)
        crop, landmarks = self._look(source, frame)
        inputs = self._conditioner(landmarks, crop)
        label_map = inputs.get(LABEL_MAP)
        if label_map is not None and self._rules is not None:
            label_map = self._rules.apply(label_map, source)
            inputs = {**inputs, LABEL_MAP: label_map}
        guide = resize(crop, self._plan.size_px, self._plan.size_px)
        return Job(source, 0, inputs=inputs, guide=guide, label_map=label_map)

    def _look(self, index: int, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = self._conditioner.crop_size
        crop = self._plan.crop.extract(frame, index, size)
        landmarks = self._plan.crop_landmarks(index, size)
        shown = self._plan.face(index) if self._plan.retargets else None
        if shown is None:
            return crop, landmarks
        # A model of one person's regions knows that person's proportions.
        goal = shown.landmarks_xy_px * np.float32(size / self._plan.size_px)
        return bend_to_landmarks(crop, landmarks, goal), goal
