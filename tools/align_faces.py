#!/usr/bin/env python3
"""Cuts faces out of pictures with the alignment of FFHQ and CelebA-HQ.

Takes a picture, or a folder or zip file of pictures with its sub-folders, which the output keeps.
What was left out, and why, stands in report.json; align.json has the matrix of each portrait, with
which it can be put back into its picture.

Example:
  tools/align_faces.py --input photos --output portraits --size 256
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

import dataclasses

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("input", None, "A picture, or a folder or zip file of them.", required=True)
flags.DEFINE_string("output", None, "Folder of the portraits.", required=True)
flags.DEFINE_integer("size", 256, "Height and width of the portraits, a power of two.")
flags.DEFINE_float("min_scale", 0.5, "Least side of a face's square, as a share of --size.")
flags.DEFINE_bool("all_faces", False, "Every face of a picture instead of the largest.")
program.define_detector_flags()
flags.DEFINE_integer("processes", 1, "Processes that work; more than one need the extra beam.")
flags.DEFINE_bool("resume", False, "Go on in a folder of portraits: what is done is left.")
flags.DEFINE_bool("overwrite", False, "Make portraits again that are there.")


def main() -> dict:
    """Aligns and returns what was written and what was left out."""
    program.refuse_both("resume", "overwrite")
    from facegan.jobs import align as jobs
    from facegan.preparation.workers import WorkersConfig
    from facegan.progress import Progress

    detector = program.chosen_detector()
    if FLAGS.all_faces:
        detector = dataclasses.replace(detector, max_faces=100)
    config = jobs.AlignConfig(
        size=FLAGS.size,
        min_scale=FLAGS.min_scale,
        all_faces=FLAGS.all_faces,
        detector=detector,
    )
    how = {"resume": FLAGS.resume, "overwrite": FLAGS.overwrite}
    if FLAGS.dry_run:
        return jobs.plan_align(FLAGS.input, FLAGS.output, config, **how)
    return jobs.align_faces(
        FLAGS.input,
        FLAGS.output,
        config,
        workers=WorkersConfig(processes=FLAGS.processes),
        progress=Progress,
        **how,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
