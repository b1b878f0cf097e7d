"""Links that others have planted, and files that never end, where root works."""

import os
import pwd

import orthanc_planted as planted
import pytest

ME = pwd.getpwuid(os.geteuid())


@pytest.fixture
def folders(tmp_path):
    """A folder with links in it, and one elsewhere, to which they lead."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "ab").mkdir(parents=True)
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("of root")
    (inside / "ab/file").symlink_to(outside / "file")
    (inside / "ab/gone").symlink_to(tmp_path / "none")
    (inside / "cd").symlink_to(outside)
    return inside, outside


def test_a_link_goes_and_what_it_leads_to_stays(folders):
    inside, outside = folders
    planted.remove(str(inside / "cd"))
    planted.remove(str(inside / "none"))
    assert not os.path.lexists(inside / "cd")
    planted.unlink(str(inside))
    assert os.listdir(inside / "ab") == []
    planted.remove(str(inside))
    assert not inside.exists()
    assert (outside / "file").read_text() == "of root"


def test_what_links_lead_to_is_given_to_nobody(folders, monkeypatch):
    inside, outside = folders
    followed = []
    chown = os.chown
    monkeypatch.setattr(
        os, "chown", lambda *w, **g: followed.append(g["follow_symlinks"]) or chown(*w, **g)
    )
    planted.give(str(inside), ME, 0o700)  # A link to nothing would be an error.
    assert followed
    assert not any(followed)
    assert (inside / "ab").stat().st_mode & 0o777 == 0o700
    assert outside.stat().st_mode & 0o777 == 0o755
    planted.give(str(inside / "cd"), ME, 0o700)
    assert outside.stat().st_mode & 0o777 == 0o755


def test_a_file_is_copied_and_no_link_is_followed(folders):
    inside, outside = folders
    (inside / "ab/source").write_text("image")
    (inside / "ab/target.new").symlink_to(outside / "file")
    with planted.below(str(inside), ["ab"]) as source, planted.below(
        str(inside), ["ef", "01"], os.stat(inside)
    ) as target:
        planted.copy((source, "source"), (source, "target"), os.stat(inside))
        planted.copy((source, "source"), (target, "target"), os.stat(inside))
        with pytest.raises(OSError, match="symbolic links"):
            planted.copy((source, "file"), (target, "other"), os.stat(inside))
    assert (outside / "file").read_text() == "of root"
    for folder in ("ab", "ef/01"):
        assert (inside / folder / "target").read_text() == "image"
        assert not (inside / folder / "target").is_symlink()
    with pytest.raises(OSError), planted.below(str(inside), ["cd"]):
        pass
    with pytest.raises(FileNotFoundError), planted.below(str(inside), ["23"]):
        pass
