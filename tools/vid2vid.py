#!/usr/bin/env python3
"""Makes the person of one video say what another person says, with that person's voice.

Learns the face in --style from landmark drawings, then draws the landmarks of --content with it:
prepare, train, export and render in one command. A run that was stopped or killed goes on when the
same command is given again.

Example:
  tools/vid2vid.py --style anna.mp4 --content ben.mp4 --output anna_says_ben.mp4 --size 128
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("style", None, "Video of the person who is to be seen.", required=True)
flags.DEFINE_string("content", None, "Video of the person who speaks.", required=True)
flags.DEFINE_string("output", None, "The video to write: .mp4, .mov, .m4v, .mkv.", required=True)
flags.DEFINE_integer("size", 128, "Height and width of what is learnt, a power of two.")
flags.DEFINE_integer("steps", None, "Training steps (default: the preset's).", lower_bound=1)
flags.DEFINE_string("preset", "pix2pix_tiny", "What is trained.")
flags.DEFINE_multi_string("set", [], "One value of it, as train.seed=1; may be given often.")
flags.DEFINE_float("holdout", 0.0, "Last part of the style video kept for measuring, as 0.2.")
flags.DEFINE_integer("max_frames", 1000, "Most frames learnt from; 0 takes all.", lower_bound=0)
program.define_face_flags()
flags.DEFINE_bool("retarget", True, "Bring landmarks into the learnt person's proportions.")
flags.DEFINE_string("work_dir", None, "Where all work is kept (default: <output>_work beside it).")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Does the whole job and returns what was written."""
    program.refuse_existing_file("output", FLAGS.output)
    program.check_videos([FLAGS.style, FLAGS.content])
    from facegan.jobs import vid2vid as jobs
    from facegan.progress import Progress

    config = jobs.Vid2VidConfig(
        style=FLAGS.style,
        content=FLAGS.content,
        output=FLAGS.output,
        size=FLAGS.size,
        steps=FLAGS.steps,
        preset=FLAGS.preset,
        overrides=tuple(FLAGS.set),
        holdout=FLAGS.holdout,
        max_frames=FLAGS.max_frames or None,
        face=program.chosen_face(),
        detector=program.chosen_detector(),
        retarget=FLAGS.retarget,
        work_dir=FLAGS.work_dir,
    )
    if FLAGS.dry_run:
        return jobs.plan_vid2vid(config, overwrite=FLAGS.overwrite)
    return jobs.vid2vid(config, overwrite=FLAGS.overwrite, progress=Progress)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
