import json

from facegan.bundle import Manifest, TensorSpec, write_manifest
from facegan.face.conditioning import (
    DomainConditioningConfig,
    LatentConditioningConfig,
    MaskConditioningConfig,
    encode_conditioning,
)
from tests.layout_puppets import build_face_dataset, export_painter, export_parser_puppet


def test_evaluate_wants_a_model_or_videos(refused, junk, clip):
    assert "--bundle and --data_dir must be given" in refused("evaluate")
    assert "--data_dir must be given" in refused("evaluate", "--bundle", junk)
    assert "--videos must be given" in refused("evaluate", "--source", clip)
    assert "exclude each other" in refused("evaluate", "--source", clip, "--bundle", junk)


def test_evaluate_refuses_what_is_wrong(refused, junk, clip):
    base = ("evaluate", "--source", clip, "--videos")
    assert "junk.mp4" in refused(*base, junk / "junk.mp4")
    assert "is there already" in refused(*base, clip, "--page", junk / "occupied" / "file")
    missing = junk / "data"
    assert "does not exist" in refused("evaluate", "--bundle", junk, "--data_dir", missing)


def test_evaluating_heads_wants_a_place_to_work(refused, junk):
    base = ("evaluate", "--run_dir", junk / "occupied", "--data_dir", junk / "occupied")
    assert "--work_dir" in refused(*base)
    assert "numbers as 1,8,32, got x" in refused(*base, "--work_dir=w", "--shots=x")


def test_evaluate_refuses_flags_of_other_models(refused, tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    image = TensorSpec(name="image", shape=(None, 32, 32, 3))
    base = ["evaluate", "--data_dir", tmp_path, "--bundle"]
    for name, config in (
        ("latent", LatentConditioningConfig()),
        ("dogs", DomainConditioningConfig()),
        ("masks", MaskConditioningConfig()),
    ):
        (tmp_path / name).mkdir()
        manifest = Manifest(
            model="puppet",
            facegan_version="0",
            inputs=(image,),
            outputs=(image,),
            image_size=32,
            conditioning=encode_conditioning(config),
        )
        write_manifest(tmp_path / name, manifest)
    drawn = (*base, tmp_path / "latent")
    assert "nothing to measure" in refused(*drawn)
    assert "--outputs is for models of domains" in refused(*drawn, "--outputs=2", "--lpips=random")
    sentence = refused(*base, tmp_path / "dogs", "--count=9", "--lpips=random")
    assert "--count is for models that make faces of noise" in sentence
    masks = (*base, tmp_path / "masks")
    assert "--truncation is for models that" in refused(*masks, "--truncation=1")
    sentence = refused(*base, f"{tmp_path / 'masks'},{tmp_path / 'dogs'}")
    assert "--bundle names 2 models, and only those of faces from segmentation maps" in sentence


def test_bundles_of_segmentation_maps_are_compared(run_tool, tmp_path):
    dataset = build_face_dataset(tmp_path / "faces")
    first, second = (export_painter(tmp_path / name) for name in ("first", "second"))
    parser = export_parser_puppet(tmp_path / "parser")
    page, report = tmp_path / "page.html", tmp_path / "report.json"
    flags = {
        "bundle": f"{first},{second}",
        "data_dir": dataset,
        "split": "test[:2]",
        "lpips": "random",
        "parser": parser,
        "page": page,
        "report": report,
    }
    code, out, err = run_tool("evaluate", *(f"--{name}={value}" for name, value in flags.items()))
    assert code == 0, err
    result = json.loads(out)
    assert result == json.loads(report.read_text())
    scores = result["bundles"]
    assert list(scores) == [str(first), str(second)]
    assert scores[str(first)] == scores[str(second)]
    assert scores[str(first)]["reconstruction"]["lpips"] > 0
    assert (result["pictures"], result["parser"]) == (2, str(parser))
    assert page.read_text().count("<figure>") == 2 * 2 * 5
