import threading

from facegan.layers.fast_paths import allow_fast_paths, fast_paths_allowed


def test_plain_forms_are_the_default_and_blocks_nest():
    assert not fast_paths_allowed()
    with allow_fast_paths():
        assert fast_paths_allowed()
        with allow_fast_paths(False):
            assert not fast_paths_allowed()
        assert fast_paths_allowed()
    assert not fast_paths_allowed()


def test_another_thread_is_not_allowed_what_this_one_is():
    seen = []
    with allow_fast_paths():
        thread = threading.Thread(target=lambda: seen.append(fast_paths_allowed()))
        thread.start()
        thread.join()
    assert seen == [False]
