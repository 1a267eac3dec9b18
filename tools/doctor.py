#!/usr/bin/env python3
"""Looks whether facegan can work here: versions, devices, extras, one tiny training step.

What is wrong stands under "problems", each with the command that mends it. With --params it counts
the parameters of a preset's nets instead, and tells the memory that a training step needs.

Example:
  tools/doctor.py
  tools/doctor.py --params pix2pix_256 --set data.batch_size=4
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("params", None, "A preset, or a config file ending in .json.")
flags.DEFINE_multi_string("set", [], "One value of it, as data.batch_size=4; may be given often.")
flags.DEFINE_bool("step", True, "Run a tiny training step.")


def main() -> dict:
    """Examines and returns the report."""
    from facegan.jobs import doctor as jobs

    if FLAGS.dry_run:
        return {"would": "count parameters" if FLAGS.params else "check the installation"}
    if FLAGS.params is not None:
        is_file = FLAGS.params.endswith(".json")
        return jobs.describe_preset(
            None if is_file else FLAGS.params, FLAGS.params if is_file else None, tuple(FLAGS.set)
        )
    if FLAGS.set:
        program.require_flags("params")
    return jobs.check_installation(train_step=FLAGS.step)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
