#!/usr/bin/env python3
"""Scores a model on held-out pictures, or rendered videos on their flicker.

With --bundle and --data_dir: likeness (SSIM, PSNR, identity); for models of label maps also how
well the regions of the generated pictures are those asked for; for face parsers how well their maps
are the dataset's; for models of domains the FID and the LPIPS of each pair of domains, by drawn
styles and by those of references; for models that make faces of noise the FID, the KID, precision,
recall and the perceptual path length; for models of faces from segmentation maps, several of which
may be compared in one table, likeness, the parser's agreement and identity, of faces painted from
their own map and from another's. With --run_dir and --data_dir: how well a talking head is
learnt from 1, 8 and 32 frames of each video that was held out, by embedding alone and by
fine-tuning. With --source and --videos: how much renders of a source flicker, side by side.

Example:
  tools/evaluate.py --bundle bundles/anna/1 --data_dir data/anna --report scores.json
  tools/evaluate.py --bundle bundles/faces --data_dir data/faces --lpips lpips.npz
  tools/evaluate.py --bundle bundles/drawn --data_dir data/faces --inception imagenet --count 10000
  tools/evaluate.py --bundle bundles/joint,bundles/v2 --data_dir data/faces --page masks.html
  tools/evaluate.py --run_dir runs/heads --data_dir data/vox --work_dir eval --shots 1,8,32
  tools/evaluate.py --source ben.mp4 --videos raw.mp4,steady.mp4 --page flicker.html
"""

if not __package__:  # run as a file of a checkout, which need not be installed
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "tools"

from typing import Any

from absl import flags

from . import program

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "bundle", None, "Folder of the exported model; of segmentation maps, of several to compare."
)
flags.DEFINE_string("data_dir", None, "Folder of its dataset.")
flags.DEFINE_string("split", "test", "Which part of the dataset (faces of noise: train).")
flags.DEFINE_string("run_dir", None, "In place of a bundle: run folder of a talking head.")
flags.DEFINE_list("shots", ["1", "8", "32"], "Numbers of frames that it learns from.")
flags.DEFINE_integer("steps", None, "Its updates (default: as its recipe says).", lower_bound=1)
flags.DEFINE_string("inception", None, "Also the FID: imagenet, random, or a weights file.")
flags.DEFINE_string(
    "lpips", None, "Also the LPIPS, or the path length: random, or a converted file."
)
flags.DEFINE_integer("outputs", 10, "Styles that each picture is painted in.", lower_bound=2)
flags.DEFINE_integer(
    "count", None, "Faces of noise that are drawn (default: as many as papers do)."
)
flags.DEFINE_integer("path_samples", None, "Pairs of them that the path length is the mean of.")
flags.DEFINE_float(
    "truncation", None, "What is left of their styles' distance from the mean (0 to 1)."
)
flags.DEFINE_string("work_dir", None, "Where its fine-tuned runs are kept.")
flags.DEFINE_string("source", None, "In their place: the video that the --videos follow.")
flags.DEFINE_list("videos", None, "Renders of it.")
program.define_parser_flag()
program.define_face_flags()
flags.DEFINE_string("page", None, "HTML page with plots to write.")
flags.DEFINE_string("report", None, "JSON file to write the result to, too.")
flags.DEFINE_bool("overwrite", False, "Replace files that are there.")

_OF_NOISE = ("count", "path_samples", "truncation")
_NO_NOISE = "is for models that make faces of noise, and this bundle is none"
_NO_DOMAINS = "is for models of domains, which this bundle is not"


def main() -> dict[str, Any]:
    """Scores and returns the figures."""
    program.refuse_both("bundle", "source")
    program.refuse_both("bundle", "run_dir")
    for flag in ("page", "report"):
        if FLAGS[flag].value:
            program.refuse_existing_file(flag, FLAGS[flag].value)
    if FLAGS.source is not None:
        program.require_flags("videos")
        program.check_videos([FLAGS.source, *FLAGS.videos])
    elif FLAGS.run_dir is not None:
        program.require_flags("data_dir", "work_dir")
    else:
        program.require_flags("bundle", "data_dir")
    if FLAGS.dry_run:
        names = ("bundle", "run_dir", "data_dir", "split", "source", "videos", "page", "report")
        return {name: FLAGS[name].value for name in names}
    from facegan.config import write_json

    if FLAGS.source is not None:
        result = _score_videos()
    else:
        result = _score_model() if FLAGS.run_dir is None else _score_heads()
    if FLAGS.report:
        write_json(FLAGS.report, result)
    return result


def _score_model() -> dict[str, Any]:
    from facegan.bundle import read_manifest
    from facegan.errors import ConfigError
    from facegan.face.conditioning import (
        DomainConditioningConfig,
        LatentConditioningConfig,
        MaskConditioningConfig,
    )
    from facegan.jobs.evaluate import evaluate_holdout, write_scores_page
    from facegan.jobs.run import find_dataset

    dataset = find_dataset(FLAGS.data_dir)
    kinds = [(read_manifest(bundle).conditioning or {}).get("kind") for bundle in FLAGS.bundle]
    if set(kinds) == {MaskConditioningConfig.KIND}:
        return _score_masks(dataset)
    if len(kinds) != 1:
        raise ConfigError(
            f"--bundle names {len(kinds)} models, and only those of faces from segmentation maps "
            "are compared with each other; name one."
        )
    (bundle,), (kind,) = FLAGS.bundle, kinds
    if kind == LatentConditioningConfig.KIND:
        return _score_pictures(bundle, dataset)
    program.refuse_given(*_OF_NOISE, why=_NO_NOISE)
    if kind == DomainConditioningConfig.KIND:
        return _score_domains(bundle, dataset)
    program.refuse_given("lpips", "inception", why="is for other models than this one")
    program.refuse_given("outputs", why=_NO_DOMAINS)
    parser = program.chosen_parser() if FLAGS.parser else None
    scores = evaluate_holdout(bundle, dataset, FLAGS.split, parser)
    if FLAGS.page:
        write_scores_page(FLAGS.page, bundle, scores)
    return scores


def _score_masks(dataset: Any) -> dict[str, Any]:
    from facegan.jobs.evaluate_masks import (
        MaskEvaluationConfig,
        evaluate_masks,
        paint_samples,
        write_masks_page,
    )
    from facegan.progress import Progress

    program.refuse_given(*_OF_NOISE, why=_NO_NOISE)
    program.refuse_given("outputs", why=_NO_DOMAINS)
    config = MaskEvaluationConfig(
        split=FLAGS.split,
        inception=FLAGS.inception,
        lpips=FLAGS.lpips,
        parser=program.chosen_parser(),
        detector=program.chosen_detector(),
    )
    scores = evaluate_masks(FLAGS.bundle, dataset, config, progress=Progress)
    if FLAGS.page:
        samples = paint_samples(FLAGS.bundle, dataset, FLAGS.split)
        write_masks_page(FLAGS.page, scores, samples)
    return scores


def _score_domains(bundle: str, dataset: Any) -> dict[str, Any]:
    from facegan.jobs.evaluate_domains import (
        DomainEvaluationConfig,
        evaluate_domains,
        write_domains_page,
    )
    from facegan.progress import Progress

    config = DomainEvaluationConfig(
        outputs=FLAGS.outputs, split=FLAGS.split, inception=FLAGS.inception, lpips=FLAGS.lpips
    )
    scores = evaluate_domains(bundle, dataset, config, progress=Progress)
    if FLAGS.page:
        write_domains_page(FLAGS.page, bundle, scores)
    return scores


def _score_pictures(bundle: str, dataset: Any) -> dict[str, Any]:
    from facegan.jobs.evaluate_pictures import (
        PictureEvaluationConfig,
        evaluate_pictures,
        write_pictures_page,
    )
    from facegan.progress import Progress

    program.refuse_given("outputs", why=_NO_DOMAINS)
    names = ("split", "inception", "lpips", "count", "path_samples", "truncation")
    config = PictureEvaluationConfig(
        **{name: FLAGS[name].value for name in names if FLAGS[name].present}
    )
    scores = evaluate_pictures(bundle, dataset, config, progress=Progress)
    if FLAGS.page:
        write_pictures_page(FLAGS.page, bundle, scores)
    return scores


def _score_heads() -> dict[str, Any]:
    from facegan.errors import ConfigError
    from facegan.jobs.evaluate_heads import HeadEvaluationConfig, evaluate_heads
    from facegan.jobs.run import find_dataset
    from facegan.progress import Progress

    if not all(text.isdigit() for text in FLAGS.shots):
        raise ConfigError(f"--shots must be numbers as 1,8,32, got {','.join(FLAGS.shots)}.")
    config = HeadEvaluationConfig(
        shots=tuple(map(int, FLAGS.shots)),
        steps=FLAGS.steps,
        split=FLAGS.split,
        inception=FLAGS.inception,
    )
    dataset = find_dataset(FLAGS.data_dir)
    return evaluate_heads(FLAGS.run_dir, dataset, FLAGS.work_dir, config, progress=Progress)


def _score_videos() -> dict[str, Any]:
    from facegan.jobs.flicker import FlickerSource, report_flicker
    from facegan.progress import Progress
    from facegan.render.engine import load_engine

    source = FlickerSource(
        video=FLAGS.source,
        face=program.chosen_face(),
        detector=program.chosen_detector(),
        parser=program.chosen_parser(),
    )
    outputs = {video: video for video in FLAGS.videos}
    return report_flicker(source, outputs, FLAGS.page, load_engine=load_engine, progress=Progress)


def run() -> None:
    """Entry point of the console script."""
    program.run_program(main)


if __name__ == "__main__":
    run()
