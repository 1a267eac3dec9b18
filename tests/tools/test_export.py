def test_export_refuses(refused, junk):
    assert "--output must be given" in refused("export", "--run_dir=r")
    assert "Add --overwrite" in refused("export", "--run_dir=r", "--output", junk / "occupied")
    assert "no run folder" in refused("export", "--run_dir=r", "--output", junk / "new")
    assert not (junk / "new").exists()
