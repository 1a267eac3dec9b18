#!/usr/bin/env python3
"""Exports a trained run as a bundle: a SavedModel that TF Serving serves and facegan renders with.

The bundle is compared with the model on random input before it gets its name.

Example:
  tools/export.py --run_dir runs/anna --output bundles/anna --onnx
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Folder of the run.", required=True)
flags.DEFINE_string("output", None, "Folder of the bundle to write.", required=True)
flags.DEFINE_integer("step", None, "Take this checkpoint instead of the newest.", lower_bound=0)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "bfloat16"], "Type of the weights and of computing."
)
flags.DEFINE_bool("onnx", False, "Also write model.onnx (extra: onnx).")
flags.DEFINE_bool("overwrite", False, "Replace a bundle that is there.")


def main() -> dict:
    """Exports and returns what was written."""
    program.refuse_occupied("output", FLAGS.output)
    from facegan.jobs import export as jobs

    if FLAGS.dry_run:
        plan = jobs.plan_export(FLAGS.run_dir, FLAGS.step)
        asked = {"output": FLAGS.output, "onnx": FLAGS.onnx, "precision": FLAGS.precision}
        return {**plan, **asked}
    return jobs.export_run(
        FLAGS.run_dir,
        FLAGS.output,
        onnx=FLAGS.onnx,
        overwrite=FLAGS.overwrite,
        step=FLAGS.step,
        precision=FLAGS.precision,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
