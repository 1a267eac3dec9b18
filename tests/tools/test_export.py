def test_export_refuses(refused, junk):
    assert "--output must be given" in refused("export", "--run_dir=r")
    assert "Add --overwrite" in refused("export", "--run_dir=r", "--output", junk / "occupied")
    assert "no run folder" in refused("export", "--run_dir=r", "--output", junk / "new")
    for flag in ("--serving_name=anna", "--serving_version=2"):
        sentence = refused("export", "--run_dir=r", "--output", junk / "new", flag)
        assert "goes with --serving_dir; leave it out" in sentence
    assert not (junk / "new").exists()
