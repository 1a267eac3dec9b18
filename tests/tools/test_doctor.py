def test_doctor_refuses_unknown_keys(refused):
    assert "--params must be given" in refused("doctor", "--set=data.batch_size=3")
    assert "Did you mean 'batch_size'?" in refused(
        "doctor", "--params=pix2pix_tiny", "--set=data.batch_sise=3"
    )
