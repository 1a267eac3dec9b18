def test_finetune_refuses_what_is_wrong(refused, junk, tmp_path):
    base = ("finetune", "--run_dir", junk / "occupied", "--output", tmp_path / "run")
    assert "either pictures of the person or a video" in refused(*base)
    assert "is no run folder" in refused(*base, "--images=a.jpg")
    assert not (tmp_path / "run").exists()
