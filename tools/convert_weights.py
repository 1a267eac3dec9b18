#!/usr/bin/env python3
r"""Turns public checkpoints into run folders, bundles and files of weights that facegan reads.

Nets of a run (--output is a run folder: export it, render with it, train on):
  stargan_v2   StarGAN v2, *_nets_ema.ckpt; --discriminator *_nets.ckpt to train on.
  spade        SPADE, latest_net_G.pth; --discriminator latest_net_D.pth; --encoder
               latest_net_E.pth where the generator starts from a style.
  pix2pix      pix2pix's U-Net, latest_net_G.pth; --discriminator latest_net_D.pth.
  bisenet      BiSeNet for faces, 79999_iter.pth.
  parser_unet  CelebAMask-HQ's U-Net parser, model.pth.
  stylegan2    StyleGAN2-ADA, *.pkl of its PyTorch version.
Fixed networks (--output is an .npz file):
  fan          FAN for 98 landmarks, wing.ckpt, for recipe.fan of StarGAN v2.
  vgg19        VGG19, vgg19-dcbb9e9d.pth or the authors' .caffemodel, for recipe.perceptual_net.
  vgg_face     VGG-Face (Parkhi et al. 2015), VGG_FACE.caffemodel or a PyTorch state dict, for
               recipe.losses.face_net of the talking heads. Some PyTorch files (vgg_face_dag)
               expect red first: --channel_order rgb.
  lpips        LPIPS v0.1 with AlexNet (Zhang et al. 2018), for the scores of an evaluation:
               torchvision's alexnet-owt-*.pth as --checkpoint, the authors' alex.pth, which weighs
               the channels, as --heads.

Nothing in a file is executed: what is more than weights is refused. Every array of a file has to
find its place, and every weight its array. Many of these weights are for non-commercial use, which
the result's "licence" tells.

Example:
  tools/convert_weights.py --from stargan_v2 --checkpoint 100000_nets_ema.ckpt \
      --output runs/celeba --bundle bundles/celeba
  tools/convert_weights.py --from vgg_face --checkpoint VGG_FACE.caffemodel --output vgg_face.npz
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

# Files of weights: source -> module and function that converts it, and the flags that it takes.
_FILES = {
    "fan": ("facegan.convert.fan", "convert_fan", ()),
    "vgg19": ("facegan.convert.vgg19", "convert_vgg19", ("preprocessing",)),
    "vgg_face": ("facegan.convert.vgg_face", "convert_vgg_face", ("channel_order",)),
    "lpips": ("facegan.convert.lpips", "convert_lpips", ("heads",)),
}
# Runs: source -> further files. ``facegan.jobs.convert_checkpoint`` knows how to read them.
_RUNS = {
    "stargan_v2": ("discriminator",),
    "spade": ("discriminator", "encoder"),
    "pix2pix": ("discriminator",),
    "bisenet": (),
    "parser_unet": (),
    "stylegan2": (),
}
_OF_RUNS = ("preset", "set", "bundle")
_OPTIONAL = (
    "channel_order",
    "preprocessing",
    "heads",
    "discriminator",
    "encoder",
    "preset",
    "set",
    "bundle",
)

flags.DEFINE_enum("from", None, sorted((*_FILES, *_RUNS)), "Whose weights.", required=True)
flags.DEFINE_string("checkpoint", None, "The file.", required=True)
flags.DEFINE_string("output", None, "What to write: a run folder, or an .npz file.", required=True)
flags.DEFINE_string("discriminator", None, "The discriminator's file, where it is another.")
flags.DEFINE_string("encoder", None, "For spade: the style encoder's file.")
flags.DEFINE_string("preset", None, "The preset of the run, where it is not the usual one.")
flags.DEFINE_multi_string(
    "set", [], "A value of the run that no file tells, as recipe.generator.upsampling=more."
)
flags.DEFINE_string("bundle", None, "Also export the run as a bundle into this folder.")
flags.DEFINE_enum(
    "channel_order", "bgr", ["bgr", "rgb"], "Order of colours that the weights expect."
)
flags.DEFINE_enum(
    "preprocessing",
    None,
    ["caffe", "torchvision"],
    "How pictures are prepared for the weights of vgg19, where the file does not tell.",
)
flags.DEFINE_string("heads", None, "For lpips: the file of the channels' weights.")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def main() -> dict:
    """Converts and returns what was written."""
    source = str(FLAGS["from"].value)
    _refuse_flags_of_others(source)
    for name in ("checkpoint", "discriminator", "encoder", "heads"):
        path = FLAGS[name].value
        if path is not None and not os.path.isfile(path):
            raise ConfigError(f"--{name} {path} is not there, or is no file.")
    return _convert_run(source) if source in _RUNS else _convert_file(source)


def _convert_file(source: str) -> dict:
    program.refuse_existing_file("output", FLAGS.output)
    module, function, taken = _FILES[source]
    if source == "lpips" and FLAGS.heads is None:
        raise ConfigError(
            "--heads must be given with --from lpips: the file of the channels' weights, alex.pth "
            "of LPIPS v0.1."
        )
    options = {name: FLAGS[name].value for name in taken}
    if FLAGS.dry_run:
        asked = {"from": source, "checkpoint": FLAGS.checkpoint, "output": FLAGS.output}
        return {**asked, **options}
    convert = getattr(importlib.import_module(module), function)
    done = convert(FLAGS.checkpoint, FLAGS.output, overwrite=FLAGS.overwrite, **options)
    from facegan.jobs.convert_checkpoint import tell_files

    files = [path for path in (FLAGS.checkpoint, FLAGS.heads) if path is not None]
    return {**done, **tell_files(source, files)}


def _convert_run(source: str) -> dict:
    program.refuse_occupied("output", FLAGS.output)
    if FLAGS.bundle is not None:
        program.refuse_occupied("bundle", FLAGS.bundle)
    from facegan.jobs import convert_checkpoint as jobs

    files = {name: FLAGS[name].value for name in _RUNS[source] if FLAGS[name].value is not None}
    asked = {"preset": FLAGS.preset, "overrides": FLAGS.set, **files}
    if FLAGS.dry_run:
        plan = jobs.plan_conversion(source, FLAGS.checkpoint, **asked)
        return {**plan, "output": FLAGS.output, "bundle": FLAGS.bundle}
    done = jobs.convert_checkpoint(
        source, FLAGS.checkpoint, FLAGS.output, overwrite=FLAGS.overwrite, **asked
    )
    if FLAGS.bundle is not None:
        from facegan.jobs.export import export_run

        exported = export_run(FLAGS.output, FLAGS.bundle, overwrite=FLAGS.overwrite)
        done = {**done, "bundle": exported}
    return done


def _refuse_flags_of_others(source: str) -> None:
    own = (*_RUNS[source], *_OF_RUNS) if source in _RUNS else _FILES[source][2]
    for name in _OPTIONAL:
        if FLAGS[name].present and name not in own:
            raise ConfigError(
                f"--{name} is for --from {' or '.join(_takers(name))}; {source} does not take it."
            )


def _takers(name: str) -> list[str]:
    if name in _OF_RUNS:
        return sorted(_RUNS)
    both = {**_RUNS, **{source: taken for source, (_, _, taken) in _FILES.items()}}
    return sorted(source for source, taken in both.items() if name in taken)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
