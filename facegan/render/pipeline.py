"""Renders a video with a bundle: the face in it drawn, generated anew, and encoded with its sound.

Two passes. The first decodes the clip and stores the landmarks of every face on disk; then the
crop, the smoothing and the retargeting can be planned over the whole clip. The second draws,
generates in batches, pastes back, steadies and encodes, each stage in a thread of its own. Both
passes pick up where a killed run stopped, and neither holds anything that grows with the clip but
a few bytes a frame.

A model that is shown the regions of a face looks at the pictures in the second pass; the regions
are steadied over a few frames there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np

from facegan import __version__
from facegan import config as config_lib
from facegan.errors import ConfigError, FaceganError, VideoError
from facegan.face.align import CropConfig
from facegan.face.analysis import (
    LandmarkStore,
    analyse_frames,
    next_index,
    select_track,
    smooth_track,
)
from facegan.face.conditioning import require_colour
from facegan.face.identity import IdentityModel
from facegan.face.landmarks import DetectorConfig, FaceDetector, make_detector
from facegan.face.parsing import ParserConfig
from facegan.face.retarget import RetargetConfig
from facegan.face.smoothing import SmoothingConfig
from facegan.face.tracking import Describe, TrackerConfig
from facegan.progress import ProgressFactory, no_progress
from facegan.render.compose import Composer, Job
from facegan.render.condition import ConditionStage, Shown
from facegan.render.engine import (
    ConcurrentEngine,
    Engine,
    EngineConfig,
    encode_settings,
    load_engine,
)
from facegan.render.engine_choice import EngineChoice, choose_engine
from facegan.render.opened import OpenedBundle, open_bundle
from facegan.render.person import read_person
from facegan.render.plan import FacePlan, MissingFace, make_conditioner, make_plan
from facegan.render.provenance import ProvenanceRecord, video_metadata
from facegan.render.server_address import is_server
from facegan.render.stages import Background, StageClock, batches, ordered_map
from facegan.render.style import StyleChoice
from facegan.render.workspace import WorkFolder, identify_file
from facegan.video.deflicker import DeflickerConfig, FrameDeflicker
from facegan.video.frames import ClipInfo, Frame
from facegan.video.label_deflicker import LabelDeflickerConfig
from facegan.video.output import check_output, container_format
from facegan.video.reader import VideoReader, probe_clip
from facegan.video.visible_label import VisibleLabel, require_label_text
from facegan.video.writer import SegmentedWriter


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RenderConfig:
    """How a video is rendered.

    Attributes:
        output: ``"generated"`` writes the generated square, ``"full_frame"`` the clip with the
            generated face pasted into it.
        missing_face: What a frame without a face shows: ``"hold"`` goes on with the last face,
            ``"copy"`` shows the source, ``"blank"`` black; ``"auto"`` holds a generated square and
            copies a full frame, where a held face would hang in the air. The frame is never left
            out.
        face: Which person, when there are several: ``"largest"``, or the place by size (0 is the
            largest).
        truncated: Whether a clip with fewer frames than it declares is refused or rendered as far
            as it goes.
        detector: Which face detector.
        tracker: When faces are searched for.
        smoothing: Of the landmarks over time.
        crop: Which square of the frame the generated picture stands for.
        retarget: How landmarks are brought into the geometry that the generator knows.
        parser: Finds the regions of faces for a model that is shown them, instead of what the
            bundle names.
        labels: Steadies the regions.
        rules: File of rules that change the regions (``facegan.video.label_rules``).
        background: (r, g, b) of the background of what a model makes of regions; None takes what
            the model was trained with.
        style_image: Picture whose style is taken, for a model that takes one.
        portraits: Pictures of the person who is painted, for a model that takes any person.
        style: For a model that turns faces into others of a domain: which, and in whose style.
        deflicker: Steadies the generated pictures.
        engine: Which runtime runs the network. ``"auto"`` measures which is the fastest where the
            clip is long enough for that to pay, and remembers it.
        batch_size: Pictures that are generated at a time.
        paste: What is pasted into a full frame: the face alone, or the whole generated square,
            with what there is of hair and background.
        feather: Width of the pasted face's soft edge as a share of the square.
        colour_match: Whether a pasted face takes the colours of what is around it.
        crf: Quality of the encoded video, 0 (lossless) to 51.
        encoder_preset: Speed of the encoder, as x264 names it.
        segment_frames: Frames that a kill loses at most.
        provenance: Whether the video says in its metadata that it is synthetic, and a JSON file
            beside it what it was made of and with (``facegan.render.provenance``).
        visible_label: Text in the corner of every frame, those that show the source included.
    """

    KIND: ClassVar[str] = "render"

    output: Literal["generated", "full_frame"] = "generated"
    missing_face: Literal["auto", "hold", "copy", "blank"] = "auto"
    face: Literal["largest"] | int = "largest"
    truncated: Literal["refuse", "accept"] = "refuse"
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)
    tracker: TrackerConfig = dataclasses.field(default_factory=TrackerConfig)
    smoothing: SmoothingConfig = dataclasses.field(default_factory=SmoothingConfig)
    crop: CropConfig = dataclasses.field(default_factory=CropConfig)
    retarget: RetargetConfig = dataclasses.field(default_factory=RetargetConfig)
    parser: ParserConfig | None = None
    labels: LabelDeflickerConfig = dataclasses.field(default_factory=LabelDeflickerConfig)
    rules: str | None = None
    background: tuple[int, int, int] | None = None
    style_image: str | None = None
    portraits: tuple[str, ...] = ()
    style: StyleChoice | None = None
    deflicker: DeflickerConfig = dataclasses.field(default_factory=DeflickerConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)
    batch_size: int = 4
    paste: Literal["face", "square"] = "face"
    feather: float = 0.05
    colour_match: bool = True
    crf: int = 18
    encoder_preset: str = "veryfast"
    segment_frames: int = 240
    provenance: bool = False
    visible_label: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 256:
            raise ConfigError(f"batch_size must be from 1 to 256, got {self.batch_size}.")
        if self.segment_frames < 1:
            raise ConfigError(f"segment_frames must be at least 1, got {self.segment_frames}.")
        if not 0.0 <= self.feather <= 0.5:
            raise ConfigError(f"feather must be from 0 to 0.5, got {self.feather}.")
        if self.background is not None:
            require_colour("background", self.background)
        if not isinstance(self.face, str) and self.face < 0:
            raise ConfigError(f"face must be 'largest' or at least 0, got {self.face}.")
        if self.visible_label is not None:
            require_label_text(self.visible_label)

    @property
    def missing_face_policy(self) -> MissingFace:
        """``missing_face`` with ``"auto"`` resolved."""
        if self.missing_face != "auto":
            return self.missing_face
        return "copy" if self.output == "full_frame" else "hold"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RenderSummary:
    """What a render did.

    Attributes:
        output: The video.
        frames: Its number of frames, the source's.
        fps: Its average rate.
        width: Width in px.
        height: Height in px.
        audio: Whether it has sound.
        missing_faces: Frames in which the chosen face was not seen.
        resumed_frames: Frames that an earlier, killed run had written.
        engine: Runtime that ran the network.
        precision: Type the network computed in.
        engine_choice: Why that engine, and how long a batch took on those that were timed.
        seconds: Wall time of this run.
        render_fps: Frames of the second pass a second.
        stage_seconds: Working time of each stage, waiting left out.
        problems: What was wrong with the source clip, a sentence each.
        provenance: The file that says where the video comes from, None without.
    """

    output: str
    frames: int
    fps: float
    width: int
    height: int
    audio: bool
    missing_faces: int
    resumed_frames: int
    engine: str
    precision: str
    engine_choice: EngineChoice
    seconds: float
    render_fps: float | None
    stage_seconds: dict[str, float]
    problems: tuple[str, ...]
    provenance: str | None = None


def render_video(
    bundle_dir: str | os.PathLike[str],
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: RenderConfig | None = None,
    *,
    work_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    engine: Engine | None = None,
    detector: FaceDetector | None = None,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Renders a video from a bundle alone.

    The output has the source's frames, time stamps and sound. Called again after it was killed,
    with the same arguments, it goes on where it stopped.

    Args:
        bundle_dir: The exported model, or the address of a server that runs it, as
            ``grpc://host:8500/anna`` or ``http://host:8501/anna``.
        video: The clip whose face is taken.
        output: The video to write; .mp4, .mov, .m4v or .mkv.
        config: How to render.
        work_dir: Where the landmarks and finished segments are kept until the video is whole; the
            landmarks stay there afterwards. By default a hidden folder beside the output, which is
            removed at the end.
        overwrite: Replace an output that exists.
        engine: A loaded engine of this bundle, instead of loading one as ``config.engine`` says.
        detector: Finds the faces, instead of what ``config.detector`` names.
        progress: Opens the progress of a named stage, e.g. ``facegan.progress.Progress``.

    Returns:
        The fields of ``RenderSummary`` as JSON values.

    Raises:
        BundleError: The bundle is broken or cannot be run, or its server cannot be reached.
        ConfigError: A setting is wrong, or the bundle's conditioning is not known.
        DataError: There is no face in the video.
        VideoError: The video cannot be read, is truncated, or the output cannot be written.
    """
    start_s = time.monotonic()
    config = config or RenderConfig()
    output = pathlib.Path(os.path.abspath(output))
    container_format(output)
    if output == pathlib.Path(os.path.abspath(video)):
        raise ConfigError(f"The output {output} is the source video; give it another name.")
    check_output(output, overwrite)
    info = probe_clip(video)
    record = ProvenanceRecord(video, output, overwrite=overwrite) if config.provenance else None
    bundle, choice = _open(bundle_dir, info, config, engine)
    engine = bundle.engine
    full = config.output == "full_frame"
    side = engine.manifest.image_size
    width, height = (info.width, info.height) if full else (side, side)
    text = config.visible_label
    label = None if text is None else VisibleLabel(text, height, width)
    conditioner = make_conditioner(engine.manifest, config.parser, load_engine)
    person = read_person(
        bundle,
        conditioner,
        style_image=config.style_image,
        portraits=config.portraits,
        style=config.style,
        crop=config.crop,
        detector=config.detector,
    )
    shown = Shown.prepare(
        engine.manifest,
        conditioner,
        person,
        labels=config.labels,
        rules=config.rules,
        background=config.background,
    )

    folder = _open_work_folder(info, output, work_dir, config, engine, detector, shown)
    clock = StageClock()
    try:
        store, problems = _analyse(info, folder, config, detector, clock, progress)
        track = smooth_track(select_track(store, config.face), config.smoothing)
        plan = make_plan(
            track,
            (info.height, info.width),
            engine.manifest,
            crop=config.crop,
            retarget=config.retarget,
            missing_face=config.missing_face_policy,
            geometry=person.geometry,
        )
    except FaceganError:
        folder.discard()
        raise
    except OSError as error:
        folder.discard()
        raise VideoError(
            f"The work folder {folder.path} cannot be written: {error.strerror or error}."
        ) from error
    composite = full or (plan.missing_face == "copy" and plan.num_missing > 0)
    with contextlib.ExitStack() as stack:
        writer = SegmentedWriter(
            output,
            folder.segments_dir,
            width=width,
            height=height,
            frame_rate=info.frame_rate,
            time_base=info.time_base,
            audio_from=video if info.has_audio else None,
            crf=config.crf,
            preset=config.encoder_preset,
            pixel_aspect=info.pixel_aspect if full else Fraction(1),
            overwrite=overwrite,
            segment_frames=config.segment_frames,
            fingerprint=folder.render_id,
            metadata=None if record is None else video_metadata(composite=composite),
        )
        stack.callback(writer.abort)
        resumed = writer.resume_index
        render_s = time.monotonic()
        with progress("Render") as report:
            report(resumed, plan.num_frames, "frame")
            frames = _render(info, plan, shown, engine, config, label, writer, clock, stack)
            for done in frames:
                report(done, plan.num_frames, "frame")
            writer.close()
        render_s = time.monotonic() - render_s
    folder.clean()
    rendered = plan.num_frames - resumed
    summary = RenderSummary(
        output=str(output),
        frames=plan.num_frames,
        fps=float(info.frame_rate),
        width=width,
        height=height,
        audio=info.has_audio,
        missing_faces=plan.num_missing,
        resumed_frames=resumed,
        engine=engine.name,
        precision=engine.precision,
        engine_choice=choice,
        seconds=round(time.monotonic() - start_s, 3),
        render_fps=round(rendered / render_s, 3) if rendered and render_s > 0 else None,
        stage_seconds={name: round(spent, 3) for name, spent in clock.seconds.items()},
        problems=tuple(problems),
        provenance=None if record is None else str(record.path),
    )
    facts = config_lib.encode(summary)
    if record is not None:
        told = ("frames", "missing_faces", "fps", "width", "height", "audio")
        render = {name: facts[name] for name in (*told, "engine", "precision")}
        render["settings"] = config_lib.encode(config)
        record.write(engine.manifest, render, composite=composite)
    return facts


def _open(
    bundle_dir: str | os.PathLike[str],
    info: ClipInfo,
    config: RenderConfig,
    engine: Engine | None,
) -> tuple[OpenedBundle, EngineChoice]:
    if engine is not None or is_server(bundle_dir):
        bundle = open_bundle(bundle_dir, config.engine, engine=engine)
        return bundle, EngineChoice(engine=bundle.engine.name, reason="given")
    count = info.num_frames
    if count is None and info.duration_s is not None:
        count = round(info.duration_s * float(info.frame_rate))
    # The whole clip counts, also where most of it is done: a render that goes on has to end up
    # with the engine that it began with.
    engine, choice = choose_engine(
        bundle_dir, config.engine, batch_size=config.batch_size, num_frames=count
    )
    return open_bundle(bundle_dir, engine=engine), choice


def _open_work_folder(
    info: ClipInfo,
    output: pathlib.Path,
    work_dir: str | os.PathLike[str] | None,
    config: RenderConfig,
    engine: Engine,
    detector: FaceDetector | None,
    shown: Shown,
) -> WorkFolder:
    settings = encode_settings(config)
    # What is told about pictures does not change them.
    settings.pop("provenance")
    named = settings.pop("detector")
    analysis = {
        "version": __version__,
        "clip": identify_file(info.path),
        "detector": named if detector is None else type(detector).__qualname__,
        "tracker": settings.pop("tracker"),
    }
    render = {
        "settings": settings,
        "bundle": engine.manifest.fingerprint(),
        "engine": [engine.name, engine.precision],
        "files": shown.fingerprints,
    }
    return WorkFolder(output, work_dir, analysis, render)


def _analyse(
    info: ClipInfo,
    folder: WorkFolder,
    config: RenderConfig,
    detector: FaceDetector | None,
    clock: StageClock,
    progress: ProgressFactory,
) -> tuple[LandmarkStore, list[str]]:
    """First pass: the landmarks of every face, stored on disk."""
    start = next_index(folder.landmarks_dir, folder.analysis_id)
    describe = None
    if detector is None:
        detector, describe = make_detector(config.detector), _describe(config.detector)
    with VideoReader(info.path, start_index=start) as reader, progress("Find faces") as report:
        decoded = clock.timed("find_decode", reader)
        with Background(decoded, depth=4, name="decode") as frames:
            with clock.measure("find"):
                store = analyse_frames(
                    clock.timed("find_wait", frames),
                    folder.landmarks_dir,
                    detector,
                    config.tracker,
                    fingerprint=folder.analysis_id,
                    describe=describe,
                    total=info.num_frames,
                    progress=report,
                )
        clock.seconds["find"] -= clock.seconds.pop("find_wait", 0.0)
        problems = reader.problems
    if config.truncated == "refuse":
        _refuse_truncated(info, store)
    return store, problems


def _describe(config: DetectorConfig) -> Describe | None:
    """What recognises a person who comes back; dlib's descriptor where its models are."""
    if config.name != "dlib":
        return None
    return IdentityModel().describe


def _refuse_truncated(info: ClipInfo, store: LandmarkStore) -> None:
    found, declared = store.num_frames, info.num_frames
    if declared is not None and found < declared:
        what = f"declares {declared} frames but {found} could be decoded"
    elif declared is None and info.duration_s is not None and found:
        end_s = float(store.records[-1]["time_s"]) + 1.0 / float(info.frame_rate)
        if end_s >= info.duration_s - max(0.25, 2.5 / float(info.frame_rate)):
            return
        what = f"declares {info.duration_s:.2f} s of video but ends at {end_s:.2f} s"
    else:
        return
    raise VideoError(
        f"{info.path} is truncated or damaged: it {what}. Get a whole copy, or allow it with "
        "truncated=accept to render what there is."
    )


def _render(
    info: ClipInfo,
    plan: FacePlan,
    shown: Shown,
    engine: Engine,
    config: RenderConfig,
    label: VisibleLabel | None,
    writer: SegmentedWriter,
    clock: StageClock,
    stack: contextlib.ExitStack,
) -> Iterator[int]:
    """Second pass, from ``writer.resume_index`` on; yields the number of frames written."""
    if writer.resume_index >= plan.num_frames:
        return
    # The filters remember these; they see them again so that a resumed render goes on smoothly.
    memory = FrameDeflicker(config.deflicker).memory_frames + shown.memory_frames
    first = max(0, writer.resume_index - memory)
    copies = plan.missing_face == "copy" and plan.num_missing > 0
    jobs: Iterable[Job] = _planned_jobs(plan, first)
    if config.output == "full_frame" or copies or shown.conditioner.needs_image:
        reader = stack.enter_context(
            VideoReader(info.path, start_index=first, start_pts=plan.pts(first))
        )
        decoded = clock.timed("decode", reader)
        frames = stack.enter_context(Background(decoded, depth=config.batch_size, name="decode"))
        jobs = _decoded_jobs(info, plan, frames, first)

    in_flight, interrupt = 1, None
    if isinstance(engine, ConcurrentEngine):
        in_flight, interrupt = engine.batches_in_flight, engine.interrupt
    stage = ConditionStage(plan, shown, lambda index: _read_frame(info, plan, index))
    with clock.measure("condition"):
        stage.fit()

    def condition(jobs: Iterable[Job]) -> Iterator[Job]:
        for job in jobs:
            with clock.measure("condition"):
                stage.condition(job)
            yield job

    def generate(groups: Iterable[list[Job]]) -> Iterator[Job]:
        def run(group: list[Job]) -> list[Job]:
            with clock.measure("generate"):
                _generate(engine, group, shown.constants)
            return group

        for group in ordered_map(run, groups, in_flight=in_flight):
            yield from group

    def compose(jobs: Iterable[Job]) -> Iterator[Job]:
        composer = Composer(
            plan,
            full_frame=config.output == "full_frame",
            deflicker=config.deflicker,
            feather=config.feather,
            colour_match=config.colour_match,
            paste=config.paste,
            background=shown.background,
        )
        for job in jobs:
            with clock.measure("compose"):
                picture = composer(job)
                # After the steadying, so that the label itself stays as it is.
                job.picture = picture if label is None else label(picture)
            yield job

    conditions: Iterable[Job] = condition(jobs)
    if shown.labels is not None:
        # Parsing and steadying run at the same time.
        parsed = stack.enter_context(Background(conditions, depth=2, name="condition"))
        waited = clock.timed("steady_wait", parsed)
        conditions = clock.timed("steady", stage.steady(waited))
    grouped = batches(conditions, config.batch_size)
    conditioned = stack.enter_context(Background(grouped, depth=1, name="group"))
    generated = stack.enter_context(
        Background(
            generate(conditioned), depth=config.batch_size, name="generate", interrupt=interrupt
        )
    )
    composed = stack.enter_context(Background(compose(generated), depth=2, name="compose"))
    for job in composed:
        if job.index >= writer.resume_index and job.picture is not None:
            with clock.measure("encode"):
                writer.write(job.picture, job.pts)
            yield job.index + 1
    if "steady" in clock.seconds:
        clock.seconds["steady"] -= clock.seconds.pop("steady_wait", 0.0)


def _planned_jobs(plan: FacePlan, first: int) -> Iterator[Job]:
    """Frames by their plan alone: a generated picture needs none of the source's pixels."""
    for index in range(first, plan.num_frames):
        yield Job(index, plan.pts(index))


def _decoded_jobs(
    info: ClipInfo, plan: FacePlan, frames: Iterable[Frame], first: int
) -> Iterator[Job]:
    index = first
    for frame in frames:
        if index >= plan.num_frames or frame.index != index or frame.pts != plan.pts(index):
            break
        yield Job(index, frame.pts, frame.image)
        index += 1
    if index != plan.num_frames:
        raise VideoError(
            f"{info.path} has changed since its faces were found (at frame {index} of "
            f"{plan.num_frames}); start again with another work folder."
        )


def _read_frame(info: ClipInfo, plan: FacePlan, index: int) -> np.ndarray:
    """One picture of the clip."""
    with VideoReader(info.path, start_index=index, start_pts=plan.pts(index)) as reader:
        for frame in reader:
            return frame.image
    raise VideoError(f"{info.path} has no frame {index} any more; it was changed.")


def _generate(engine: Engine, group: list[Job], constants: Mapping[str, np.ndarray]) -> None:
    """Runs the network for those frames of a batch that show a face."""
    jobs = [job for job in group if job.inputs is not None]
    if not jobs:
        return
    names = [spec.name for spec in engine.manifest.inputs]
    given: list[Mapping[str, np.ndarray]] = [{**constants, **(job.inputs or {})} for job in jobs]
    inputs = {name: np.stack([values[name] for values in given]) for name in names}
    for job, picture in zip(jobs, engine.generate(inputs), strict=True):
        job.generated, job.inputs = picture, None
