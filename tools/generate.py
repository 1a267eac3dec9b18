#!/usr/bin/env python3
"""Makes pictures and videos of faces that nobody has, with an exported StyleGAN2.

A face follows from its seed alone. A folder gets a picture of each, called by the seed; --grid puts
all on one sheet; --truncations shows each nearer to and farther from the mean face; --rows and
--columns mix faces: a row's face takes the column's styles in the layers --mix. An --output that is
a video goes from face to face and back to the first; it rests at each, its pace following a cosine.
With --w the faces are those of styles in files, as --save_w and other tools write them, and seeds,
rows and columns count through them from 0 on. A folder that was not finished goes on with --resume.
--server names a TensorFlow Serving that runs the model, instead of --bundle.

Example:
  tools/generate.py --bundle bundles/faces --output samples --count 100 --truncation 0.7
  tools/generate.py --bundle bundles/faces --output sheet.png --grid --seeds 0-24
  tools/generate.py --bundle bundles/faces --output psi.png --seeds 1,2,3 --truncations -0.5,0,0.5,1
  tools/generate.py --bundle bundles/faces --output mix.png --rows 1-4 --columns 5-9 --mix middle
  tools/generate.py --bundle bundles/faces --output walk.mp4 --seeds 1,5,9 --seconds 2 --fps 30
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

import os
from typing import Any

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Folder of the exported model.")
program.define_server_flags()
flags.DEFINE_string("output", None, "The folder or file to write.", required=True)
flags.DEFINE_string("seeds", None, "The faces, as 3,17,20-25 (default: from --seed on).")
flags.DEFINE_integer("seed", 0, "The first face.", lower_bound=0)
flags.DEFINE_integer("count", 1, "How many, from --seed on.", lower_bound=1)
flags.DEFINE_list("w", [], "Files of styles, .npz with an array w, instead of seeds.")
flags.DEFINE_float("truncation", 1.0, "What is left of the distance from the mean face.")
flags.DEFINE_integer("truncated_layers", None, "Only in so many layers, from the coarsest on.")
flags.DEFINE_bool("grid", False, "One sheet of all faces.")
flags.DEFINE_string("truncations", None, "A sheet with a column for each, as -0.5,0,0.5,1.")
flags.DEFINE_string("rows", None, "Faces down the side of a sheet of mixtures, as 1-3.")
flags.DEFINE_string("columns", None, "Faces along its top, as 4,5,6.")
flags.DEFINE_string(
    "mix", "coarse", "Layers that a mixture has of the column: coarse, middle, fine, or as 0-3,7."
)
flags.DEFINE_float("seconds", 2.0, "Of a video, from one face to the next.")
flags.DEFINE_integer("fps", 30, "Frames a second.", lower_bound=1)
flags.DEFINE_enum("space", "w", ["w", "z"], "Straight between styles, or around between latents.")
flags.DEFINE_string("save_w", None, "Also write the faces' styles to this .npz file.")
flags.DEFINE_bool("resume", False, "Go on in a folder, or make more in it.")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")

# Flags of one kind of result, and what it is.
_OWN = {
    "grid": (("grid",), "for a plain sheet"),
    "truncations": (("truncations",), "for a sheet of truncations"),
    "mixing": (("rows", "columns", "mix"), "for a sheet of mixtures"),
    "walk": (("seconds", "fps", "space"), "for a video"),
}


def _chosen_layout() -> Any:
    from facegan.jobs import face_layouts as layouts
    from facegan.jobs.choice_text import parse_decimals
    from facegan.video.output import CONTAINERS

    if FLAGS["rows"].present or FLAGS["columns"].present:
        program.require_flags("rows", "columns")
        layout = layouts.MixingConfig(columns=FLAGS.columns, layers=FLAGS.mix)
    elif FLAGS.truncations is not None:
        values = parse_decimals(FLAGS.truncations, "truncations")
        layout = layouts.TruncationsConfig(truncations=values)
    elif FLAGS.grid:
        layout = layouts.GridConfig()
    elif os.path.splitext(FLAGS.output)[1].lower() in CONTAINERS:
        layout = layouts.WalkConfig(seconds=FLAGS.seconds, fps=FLAGS.fps, space=FLAGS.space)
    else:
        layout = layouts.PicturesConfig()
    for kind, (names, what) in _OWN.items():
        if kind != layout.KIND:
            program.refuse_given(*names, why=f"is {what}")
    return layout


def _chosen_seeds() -> Any:
    if FLAGS.rows is not None:
        program.refuse_given("seeds", "seed", "count", why="names no rows, which --rows does")
        return FLAGS.rows
    if FLAGS.seeds is not None or FLAGS.w:
        why = "is for seeds in a row, and others are named"
        program.refuse_given("seed", "count", why=why)
        return FLAGS.seeds
    return f"{FLAGS.seed}-{FLAGS.seed + FLAGS.count - 1}"


def main() -> dict:
    """Generates and returns what was written."""
    bundle = program.chosen_bundle()
    from facegan.jobs import generate as jobs
    from facegan.progress import Progress

    config = jobs.GenerateConfig(
        seeds=_chosen_seeds(),
        w=tuple(FLAGS.w),
        truncation=FLAGS.truncation,
        truncated_layers=FLAGS.truncated_layers,
        layout=_chosen_layout(),
        engine=program.chosen_engine(),
    )
    ways = {"save_w": FLAGS.save_w, "resume": FLAGS.resume, "overwrite": FLAGS.overwrite}
    if FLAGS.dry_run:
        return jobs.plan_generate(bundle, FLAGS.output, config, **ways)
    return jobs.generate(bundle, FLAGS.output, config, progress=Progress, **ways)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
