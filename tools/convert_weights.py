#!/usr/bin/env python3
"""Turns other projects' files of weights into files that facegan reads.

  vgg_face   VGG-Face (Parkhi et al. 2015), the authors' VGG_FACE.caffemodel or a PyTorch state
             dict, for recipe.losses.face_net of the talking heads. The weights are for
             non-commercial use (Creative Commons BY-NC by their authors). Some PyTorch files
             (vgg_face_dag) expect red first: --channel_order rgb.
  lpips      LPIPS v0.1 with AlexNet (Zhang et al. 2018), for the scores of an evaluation:
             torchvision's alexnet-owt-*.pth as --checkpoint, the authors' alex.pth, which weighs
             the channels, as --heads.

Nothing in a file is executed: what is more than weights is refused.

Example:
  tools/convert_weights.py --from vgg_face --checkpoint VGG_FACE.caffemodel --output vgg_face.npz
  tools/convert_weights.py --from lpips --checkpoint alexnet.pth --heads alex.pth --output lpips.npz
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

import importlib
import os

from absl import flags

from facegan.errors import ConfigError

from . import program

FLAGS = flags.FLAGS

# Source -> module and function that converts it, and the flags that it takes beyond the usual.
SOURCES = {
    "vgg_face": ("facegan.convert.vgg_face", "convert_vgg_face", ("channel_order",)),
    "lpips": ("facegan.convert.lpips", "convert_lpips", ("heads",)),
}

flags.DEFINE_enum("from", None, sorted(SOURCES), "Whose weights.", required=True)
flags.DEFINE_string("checkpoint", None, "The file.", required=True)
flags.DEFINE_string("output", None, "What to write.", required=True)
flags.DEFINE_enum(
    "channel_order", "bgr", ["bgr", "rgb"], "Order of colours that the weights expect."
)
flags.DEFINE_string("heads", None, "For lpips: the file of the channels' weights.")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Converts and returns what was written."""
    program.refuse_existing_file("output", FLAGS.output)
    if not os.path.isfile(FLAGS.checkpoint):
        raise ConfigError(f"--checkpoint {FLAGS.checkpoint} is not there, or is no file.")
    source = FLAGS["from"].value
    module, function, taken = SOURCES[source]
    _refuse_flags_of_others(source)
    if source == "lpips":
        _require_heads()
    options = {name: FLAGS[name].value for name in taken}
    if FLAGS.dry_run:
        asked = {"from": source, "checkpoint": FLAGS.checkpoint, "output": FLAGS.output}
        return {**asked, **options}
    convert = getattr(importlib.import_module(module), function)
    return convert(FLAGS.checkpoint, FLAGS.output, overwrite=FLAGS.overwrite, **options)


def _refuse_flags_of_others(source: str) -> None:
    for other, (_, _, taken) in SOURCES.items():
        for name in taken:
            if FLAGS[name].present and name not in SOURCES[source][2]:
                raise ConfigError(f"--{name} is for --from {other}; {source} does not take it.")


def _require_heads() -> None:
    if FLAGS.heads is None:
        raise ConfigError(
            "--heads must be given with --from lpips: the file of the channels' weights, alex.pth "
            "of LPIPS v0.1."
        )
    if not os.path.isfile(FLAGS.heads):
        raise ConfigError(f"--heads {FLAGS.heads} is not there, or is no file.")


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
