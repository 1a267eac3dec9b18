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
