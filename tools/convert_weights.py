#!/usr/bin/env python3
"""Turns other projects' files of weights into files that facegan reads.

  vgg_face   VGG-Face (Parkhi et al. 2015), the authors' VGG_FACE.caffemodel or a PyTorch state
             dict, for recipe.losses.face_net of the talking heads; for non-commercial use

Nothing in a file is executed: what is more than weights is refused.

Example:
  tools/convert_weights.py --from vgg_face --checkpoint VGG_FACE.caffemodel --output vgg_face.npz
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

import importlib

from absl import flags

from . import program

FLAGS = flags.FLAGS

# Source -> module and function that converts it.
SOURCES = {"vgg_face": ("facegan.convert.vgg_face", "convert_vgg_face")}

flags.DEFINE_enum("from", None, sorted(SOURCES), "Whose weights.", required=True)
flags.DEFINE_string("checkpoint", None, "The file.", required=True)
flags.DEFINE_string("output", None, "What to write.", required=True)
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Converts and returns what was written."""
    program.refuse_existing_file("output", FLAGS.output)
    source = FLAGS["from"].value
    if FLAGS.dry_run:
        return {"from": source, "checkpoint": FLAGS.checkpoint, "output": FLAGS.output}
    module, function = SOURCES[source]
    convert = getattr(importlib.import_module(module), function)
    return convert(FLAGS.checkpoint, FLAGS.output, overwrite=FLAGS.overwrite)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
