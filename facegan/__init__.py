"""Turns face videos into other face videos.

Every name below is loaded when it is first used, so that ``import facegan`` costs milliseconds
and TensorFlow is only paid for by what needs it.

Example:
    >>> import facegan
    >>> facegan.__version__
    '0.1.0'
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it.
_EXPORTS = {
    "BundleError": "facegan.errors",
    "CheckpointError": "facegan.errors",
    "ConfigError": "facegan.errors",
    "DataError": "facegan.errors",
    "FaceganError": "facegan.errors",
    "VideoError": "facegan.errors",
    "ClipInfo": "facegan.video.frames",
    "Frame": "facegan.video.frames",
    "VideoReader": "facegan.video.reader",
    "VideoWriter": "facegan.video.writer",
    "probe_clip": "facegan.video.reader",
    "ConditioningConfig": "facegan.face.conditioning",
    "LabelMapConditioningConfig": "facegan.face.conditioning",
    "LandmarkConditioner": "facegan.face.conditioning",
    "DetectorConfig": "facegan.face.landmarks",
    "Face": "facegan.face.landmarks",
    "FaceGeometry": "facegan.face.retarget",
    "FaceTracker": "facegan.face.tracking",
    "RetargetConfig": "facegan.face.retarget",
    "Retargeter": "facegan.face.retarget",
    "TrackerConfig": "facegan.face.tracking",
    "fit_geometry": "facegan.face.retarget",
    "make_detector": "facegan.face.landmarks",
    "sample_portrait": "facegan.samples",
    "write_sample_clip": "facegan.samples",
    "RenderConfig": "facegan.render.pipeline",
    "load_engine": "facegan.render.engine",
    "render_video": "facegan.render.pipeline",
    "EditImageConfig": "facegan.jobs.edit_image",
    "FinetuneConfig": "facegan.jobs.finetune",
    "GenerateConfig": "facegan.jobs.generate",
    "MaskEditConfig": "facegan.jobs.edit_masks",
    "ReenactConfig": "facegan.jobs.reenact",
    "RunConfig": "facegan.jobs.run",
    "SpadeVideoConfig": "facegan.jobs.spade_video",
    "TranslateConfig": "facegan.jobs.translate",
    "Vid2VidConfig": "facegan.jobs.vid2vid",
    "align_faces": "facegan.jobs.align",
    "build_dataset": "facegan.jobs.dataset",
    "convert_checkpoint": "facegan.jobs.convert_checkpoint",
    "edit_image": "facegan.jobs.edit_image",
    "edit_masks": "facegan.jobs.edit_masks",
    "export_run": "facegan.jobs.export",
    "finetune": "facegan.jobs.finetune",
    "fit_catalogue": "facegan.jobs.catalogue",
    "from_checkpoint": "facegan.jobs.convert_checkpoint",
    "generate": "facegan.jobs.generate",
    "list_presets": "facegan.jobs.run",
    "load_config": "facegan.jobs.run",
    "reenact": "facegan.jobs.reenact",
    "spade_video": "facegan.jobs.spade_video",
    "train_run": "facegan.jobs.run",
    "translate": "facegan.jobs.translate",
    "vid2vid": "facegan.jobs.vid2vid",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'facegan' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
