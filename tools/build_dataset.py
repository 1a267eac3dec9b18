#!/usr/bin/env python3
"""Builds a dataset, and checks one before it is trained on.

  user_video     a person's own videos (--videos), or a folder with a folder a person
  celebamask_hq  CelebAMask-HQ as its authors ship it, unpacked or zipped
  voxceleb       VoxCeleb1's pictures or VoxCeleb2's videos
  image_folder   pictures, in a folder a domain or in one

What was left out, and why, stands in report.json and left_out.jsonl beside the records. With
--face all, everybody in a person's videos is taken. Half-done work is kept, so that a build that
was stopped goes on with --resume. --check looks through a finished dataset and writes check.html
and check.json into its folder; alone with --data_dir it checks what is there.

Faces from segmentation maps are learnt from celebamask_hq with --set faces=true
--set one_face=true, or from portraits, by image_folder with --parser landmarks
--set identity=true --set align=ffhq.

Example:
  tools/build_dataset.py --videos anna1.mp4,anna2.mp4 --data_dir data/anna --size 128 --holdout 0.2
  tools/build_dataset.py --dataset celebamask_hq --manual_dir CelebAMask-HQ.zip --data_dir data/hq
  tools/build_dataset.py --check --data_dir data/hq
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

import sys
from typing import Any

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "dataset",
    "user_video",
    ["user_video", "celebamask_hq", "voxceleb", "image_folder"],
    "Which dataset.",
)
flags.DEFINE_string("manual_dir", None, "Folder or zip file of the raw files.")
flags.DEFINE_list("videos", None, "In its place: video files of one person, for user_video.")
flags.DEFINE_string("data_dir", None, "Folder of the dataset.", required=True)
flags.DEFINE_integer("size", 256, "Height and width of the pictures, a power of two.")
flags.DEFINE_integer("max_frames", None, "user_video: most frames (default 1000); 0 takes all.")
flags.DEFINE_float("holdout", None, "user_video: last part of each video kept for testing, as 0.2.")
program.define_face_flags()
flags.DEFINE_string(
    "parser",
    None,
    "user_video, image_folder: find regions too, by 'landmarks' or by a face parser's bundle.",
)
flags.DEFINE_multi_string("set", [], "Any setting, as clip.min_sharpness=0; may be given often.")
flags.DEFINE_integer("processes", None, "Processes that work (default: all cores, with Beam).")
flags.DEFINE_list(
    "beam_options",
    [],
    "Flags of an Apache Beam pipeline in place of --processes, as --runner=FlinkRunner,"
    "--flink_master=host:8081.",
)
flags.DEFINE_float("time_limit_s", 600.0, "A file that takes longer is left out.")
flags.DEFINE_string("work_dir", None, "Where half-done work is kept (default: in data_dir).")
flags.DEFINE_bool("keep_work", False, "Keep that work when the dataset is complete.")
flags.DEFINE_bool("check", False, "Check the dataset and write a page about it.")
flags.DEFINE_bool("resume", False, "Go on in a folder that is not empty.")
flags.DEFINE_bool("overwrite", False, "Make a dataset again that is there.")

_USER_VIDEO_FLAGS = ("videos", "max_frames", "holdout", "face")


def main() -> dict[str, Any]:
    """Builds or checks; returns what was taken, what was left out and what was found."""
    program.refuse_both("videos", "manual_dir")
    source = FLAGS.videos or FLAGS.manual_dir
    if source is None:
        if not FLAGS.check:
            program.require_flags("videos" if FLAGS.dataset == "user_video" else "manual_dir")
        return _check(FLAGS.data_dir)
    _refuse_foreign_flags()
    if FLAGS.videos:
        program.check_videos(FLAGS.videos)
    from facegan.jobs import dataset as jobs
    from facegan.progress import Progress

    config = _settings()
    if FLAGS.dry_run:
        return jobs.plan_dataset(
            source, config, FLAGS.data_dir, allow_occupied=FLAGS.resume or FLAGS.overwrite
        )
    result = jobs.build_dataset(
        source,
        config,
        FLAGS.data_dir,
        work_dir=FLAGS.work_dir,
        workers=_workers(),
        keep_work=FLAGS.keep_work,
        resume=FLAGS.resume,
        overwrite=FLAGS.overwrite,
        progress=Progress,
    )
    return {**result, **_check(result["dataset_dir"])} if FLAGS.check else result


def _refuse_foreign_flags() -> None:
    from facegan.errors import ConfigError

    if FLAGS.dataset == "user_video":
        return
    for name in _USER_VIDEO_FLAGS:
        if FLAGS[name].present:
            raise ConfigError(f"--{name} belongs to the dataset user_video, not {FLAGS.dataset}.")
    if FLAGS["parser"].present and FLAGS.dataset != "image_folder":
        raise ConfigError(
            f"--parser belongs to the datasets user_video and image_folder, not {FLAGS.dataset}."
        )


def _settings() -> Any:
    from facegan.config import set_by_name
    from facegan.jobs.dataset import SETTINGS

    chosen: dict[str, Any] = {}
    if FLAGS.parser is not None:
        from facegan.face.parsing import ParserConfig

        bundle = None if FLAGS.parser == "landmarks" else FLAGS.parser
        chosen["parser"] = ParserConfig(bundle=bundle)
    if FLAGS.dataset != "user_video":
        detector = program.chosen_detector()
        config = SETTINGS[FLAGS.dataset](size=FLAGS.size, detector=detector, **chosen)
        return set_by_name(config, FLAGS.set)
    from facegan.preparation.face_clips import FaceClipConfig

    if FLAGS.max_frames is not None:
        chosen["max_frames"] = FLAGS.max_frames or None
    if FLAGS.holdout is not None:
        chosen["holdout"] = FLAGS.holdout
    select = "all" if FLAGS.face == "all" else program.chosen_face()
    clip = FaceClipConfig(select=select, detector=program.chosen_detector())
    config = SETTINGS["user_video"](size=FLAGS.size, clip=clip, **chosen)
    return set_by_name(config, FLAGS.set)


def _workers() -> Any:
    from facegan.preparation.workers import WorkersConfig, default_processes

    processes = FLAGS.processes
    if processes is None:
        # One person's videos are few, and their faces are found frame after frame.
        processes = 0 if FLAGS.videos else default_processes()
    return WorkersConfig(
        processes=processes,
        beam_options=tuple(FLAGS.beam_options),
        time_limit_s=FLAGS.time_limit_s,
    )


def _check(folder: str) -> dict[str, Any]:
    from facegan.jobs.check import check_and_report
    from facegan.progress import Progress

    found = check_and_report(folder, progress=Progress)
    sys.stderr.write(f"{found.pop('table')}\n")
    found["check_report"] = found.pop("report")
    return found


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
