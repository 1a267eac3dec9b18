#!/usr/bin/env python3
"""Teaches a meta-learned talking head one person, from a few pictures or a video.

Starts from a run of a talking_head preset (tools/train.py) and writes a run folder of the person's
own, which tools/export.py exports and tools/render_video.py renders with any video.

Example:
  tools/finetune.py --run_dir runs/heads --images anna1.jpg,anna2.jpg --output runs/anna
  tools/finetune.py --run_dir runs/heads --video anna.mp4 --shots 32 --output runs/anna
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Run folder of the meta-learned model.", required=True)
flags.DEFINE_list("images", [], "Pictures of the person, separated by commas.")
flags.DEFINE_string("video", None, "A video of the person in their place.")
flags.DEFINE_integer("shots", 8, "Frames taken of the video.", lower_bound=1)
flags.DEFINE_string("output", None, "Run folder of the person.", required=True)
flags.DEFINE_integer("steps", None, "Updates (default: as the run's recipe says).", lower_bound=1)
flags.DEFINE_integer("batch_size", 2, "Pictures in an update.", lower_bound=1)
flags.DEFINE_multi_string("set", [], "One value of the run, as train.seed=1; may be given often.")
flags.DEFINE_bool("resume", False, "Go on with an output that is there.")
flags.DEFINE_bool("overwrite", False, "Empty an output that is there.")
program.define_detector_flags()


def main() -> dict:
    """Fine-tunes and returns what was written."""
    from facegan.jobs import finetune as jobs
    from facegan.progress import Progress

    config = jobs.FinetuneConfig(
        run_dir=FLAGS.run_dir,
        images=tuple(FLAGS.images),
        video=FLAGS.video,
        shots=FLAGS.shots,
        steps=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        overrides=tuple(FLAGS.set),
        detector=program.chosen_detector(),
    )
    if FLAGS.dry_run:
        return jobs.plan_finetune(config, FLAGS.output)
    return jobs.finetune(
        config,
        FLAGS.output,
        resume=FLAGS.resume,
        overwrite=FLAGS.overwrite,
        progress=Progress,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
