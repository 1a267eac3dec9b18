#!/usr/bin/env python3
"""Builds a dataset from a person's videos: pictures of the face with its landmarks.

Frames are taken evenly from all videos. What was left out, and why, stands in report.json beside
the records. Found faces are kept, so that a build that was stopped goes on with --resume.

Example:
  tools/build_dataset.py --videos anna1.mp4,anna2.mp4 --data_dir data/anna --size 128 --holdout 0.2
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_enum("dataset", "user_video", ["user_video"], "Which dataset.")
flags.DEFINE_list("videos", None, "Video files of one person.", required=True)
flags.DEFINE_string("data_dir", None, "Folder of the dataset.", required=True)
flags.DEFINE_integer("size", 256, "Height and width of the pictures, a power of two.")
flags.DEFINE_integer("max_frames", 1000, "Most frames taken; 0 takes all.")
flags.DEFINE_float("holdout", 0.0, "Last part of each video kept for testing, as 0.2.")
program.define_face_flags()
flags.DEFINE_multi_string("set", [], "Any setting, as clip.min_sharpness=0; may be given often.")
flags.DEFINE_string("work_dir", None, "Where found faces are kept (default: in data_dir).")
flags.DEFINE_bool("resume", False, "Go on in a folder that is not empty.")
flags.DEFINE_bool("overwrite", False, "Make a dataset again that is there.")


def main() -> dict:
    """Builds and returns what was taken and what was left out."""
    program.check_videos(FLAGS.videos)
    from facegan.config import set_by_name
    from facegan.datasets.user_video.user_video_dataset_builder import UserVideoConfig
    from facegan.jobs import dataset as jobs
    from facegan.preparation.face_clips import FaceClipConfig
    from facegan.progress import Progress

    config = UserVideoConfig(
        size=FLAGS.size,
        max_frames=FLAGS.max_frames or None,
        holdout=FLAGS.holdout,
        clip=FaceClipConfig(select=program.chosen_face(), detector=program.chosen_detector()),
    )
    config = set_by_name(config, FLAGS.set)
    if FLAGS.dry_run:
        return jobs.plan_dataset(
            FLAGS.videos,
            config,
            FLAGS.data_dir,
            allow_occupied=FLAGS.resume or FLAGS.overwrite,
        )
    return jobs.build_dataset(
        FLAGS.videos,
        config,
        FLAGS.data_dir,
        work_dir=FLAGS.work_dir,
        resume=FLAGS.resume,
        overwrite=FLAGS.overwrite,
        progress=Progress,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
