from pathlib import Path

import pytest

from jiffy.fs.mount import mount_tmpfs, unmount
from jiffy.fs.spread import spread_folders
from tests.disks import open_disk


@pytest.mark.root
def test_on_ext4_folders_are_laid_apart(disk_folder: Path) -> None:
    """Folders of one parent get inodes of the same group; of a folder that spreads them, of others."""
    with open_disk(disk_folder / "yard", 600 * 10**6) as disk:
        together, apart = disk.folder / "together", disk.folder / "apart"
        for parent in (together, apart):
            parent.mkdir()
        assert spread_folders(apart)
        assert spread_folders(apart), "again"
        assert _distance(apart) > 2 * _distance(together)


@pytest.mark.root
def test_where_the_file_system_has_no_such_choice_folders_are_made_as_ever(tmp_path: Path) -> None:
    mount_tmpfs(tmp_path)
    try:
        assert not spread_folders(tmp_path)
        (tmp_path / "folder").mkdir()
    finally:
        unmount(tmp_path)


def _distance(parent: Path) -> int:
    """How far apart the inodes of folders in it are."""
    numbers = []
    for number in range(16):
        folder = parent / str(number)
        folder.mkdir()
        numbers.append(folder.stat().st_ino)
    return max(numbers) - min(numbers)
