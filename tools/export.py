#!/usr/bin/env python3
"""Exports a trained run as a bundle: a SavedModel that TF Serving serves and facegan renders with.

The bundle is compared with the model on random input and on two portraits before it gets its name.
With --serving_dir a copy goes into a folder that the server's container serves: models.config,
batching parameters, requests to warm it up, and a README.md with the commands.

Example:
  tools/export.py --run_dir runs/anna --output bundles/anna --onnx
  tools/export.py --run_dir runs/anna --output bundles/anna --serving_dir serving
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
flags.DEFINE_bool("overwrite", False, "Replace a bundle, or a served version, that is there.")
flags.DEFINE_string(
    "serving_dir", None, "Folder of TensorFlow Serving that gets a copy (extra: serving)."
)
flags.DEFINE_string(
    "serving_name",
    None,
    "What clients call the model; by default the name of the bundle's folder, or of the one above "
    "where that is a number.",
)
flags.DEFINE_integer(
    "serving_version", None, "Number of the version; by default the next one.", lower_bound=1
)


def main() -> dict:
    """Exports and returns what was written."""
    program.refuse_occupied("output", FLAGS.output)
    if FLAGS.serving_dir is None:
        program.refuse_given("serving_name", "serving_version", why="goes with --serving_dir")
    from facegan.jobs import export as jobs

    serving = None
    if FLAGS.serving_dir is not None:
        serving = jobs.ServingFolder(
            path=FLAGS.serving_dir, name=FLAGS.serving_name, version=FLAGS.serving_version
        )
    if FLAGS.dry_run:
        plan = jobs.plan_export(FLAGS.run_dir, FLAGS.step)
        asked = {"output": FLAGS.output, "onnx": FLAGS.onnx, "precision": FLAGS.precision}
        if serving is not None:
            asked["serving"] = jobs.plan_serving(FLAGS.output, serving, overwrite=FLAGS.overwrite)
        return {**plan, **asked}
    return jobs.export_run(
        FLAGS.run_dir,
        FLAGS.output,
        onnx=FLAGS.onnx,
        overwrite=FLAGS.overwrite,
        step=FLAGS.step,
        precision=FLAGS.precision,
        serving=serving,
    )


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
