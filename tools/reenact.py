#!/usr/bin/env python3
"""Lets a person of a few pictures move and speak as another does in a video, with its sound.

With --run_dir a meta-learned talking head (tools/train.py --preset talking_head_256) is fine-tuned
on the portraits; with --bundle its exported bundle paints them without learning; with --preset
everything is learnt from the portraits alone, from untrained weights, which needs more steps and
gives less. A run that was stopped or killed goes on when the same command is given again.

Example:
  tools/reenact.py --portraits a1.jpg,a2.jpg --driving b.mp4 --run_dir runs/heads --output out.mp4
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_list("portraits", None, "Pictures of the person, separated by commas.", required=True)
flags.DEFINE_string("driving", None, "Video that is followed.", required=True)
flags.DEFINE_string("output", None, "The video to write: .mp4, .mov, .m4v, .mkv.", required=True)
flags.DEFINE_string("run_dir", None, "Run folder of a meta-learned model, to fine-tune.")
flags.DEFINE_string("bundle", None, "Its exported bundle, taken as it is.")
flags.DEFINE_string("preset", None, "What is learnt from untrained weights (talking_head_tiny).")
flags.DEFINE_integer("steps", None, "Updates on the portraits; 0 takes a run as it is.")
flags.DEFINE_multi_string("set", [], "One value of the run, as train.seed=1; may be given often.")
program.define_retarget_flag()
program.define_face_flags()
flags.DEFINE_string("work_dir", None, "Where all work is kept (default: <output>_work beside it).")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Does the whole job and returns what was written."""
    program.refuse_existing_file("output", FLAGS.output)
    program.check_videos([FLAGS.driving])
    from facegan.jobs import reenact as jobs
    from facegan.progress import Progress

    preset = FLAGS.preset
    if FLAGS.run_dir is None and FLAGS.bundle is None and preset is None:
        preset = jobs.DEFAULT_PRESET
    config = jobs.ReenactConfig(
        portraits=tuple(FLAGS.portraits),
        driving=FLAGS.driving,
        output=FLAGS.output,
        run_dir=FLAGS.run_dir,
        bundle=FLAGS.bundle,
        preset=preset,
        steps=FLAGS.steps,
        overrides=tuple(FLAGS.set),
        retarget=FLAGS.retarget,
        face=program.chosen_face(),
        detector=program.chosen_detector(),
        work_dir=FLAGS.work_dir,
    )
    if FLAGS.dry_run:
        return jobs.plan_reenact(config, overwrite=FLAGS.overwrite)
    return jobs.reenact(config, overwrite=FLAGS.overwrite, progress=Progress)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
