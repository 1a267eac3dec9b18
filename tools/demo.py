#!/usr/bin/env python3
"""Shows what facegan does, on two embedded portraits: Hopper says what Collins says.

Both public-domain portraits become talking clips; a pix2pix model learns Hopper's face from
landmark drawings; then Collins' landmarks and voice drive it. Under 15 minutes on two CPU cores. A
demo that was stopped goes on when it is started again.

Example:
  tools/demo.py --output_dir demo
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", "demo", "Folder for everything.")
flags.DEFINE_integer("size", 128, "Height and width of the generated video, a power of two.")
flags.DEFINE_integer("steps", None, "Training steps (default: the preset's).")
flags.DEFINE_bool("overwrite", False, "Start anew.")


def main() -> dict:
    """Runs the demo and returns what it wrote."""
    from facegan.jobs import demo as jobs
    from facegan.progress import Progress

    config = jobs.DemoConfig(size=FLAGS.size, steps=FLAGS.steps)
    if FLAGS.dry_run:
        return jobs.plan_demo(FLAGS.output_dir, config)
    return jobs.demo(FLAGS.output_dir, config, overwrite=FLAGS.overwrite, progress=Progress)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
