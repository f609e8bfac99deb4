import torch

from solo_frossl.data import memory


def test_free_memory_is_positive_and_bounded():
    assert 0 < memory.free_memory() < 1 << 50


def test_a_control_group_limits_it(monkeypatch):
    unlimited = memory.free_memory()
    monkeypatch.setattr(memory, "_control_group_room", lambda: [12345, 1 << 60])
    assert memory.free_memory() == 12345 < unlimited


def test_the_control_groups_files_are_read(monkeypatch, tmp_path):
    group = tmp_path / "outer" / "inner"
    group.mkdir(parents=True)
    for folder, limit in ((group, "max"), (group.parent, "1000")):
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text("700\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 200\n")
    replaced = {"/sys/fs/cgroup": tmp_path, "/proc/self/cgroup": tmp_path / "own"}
    monkeypatch.setattr(memory, "Path", replaced.__getitem__)
    (tmp_path / "own").write_text("0::/outer/inner\n")
    assert memory._control_group_room() == [500]


def test_the_cpu_has_no_device_memory():
    assert memory.free_device_memory(torch.device("cpu")) == 0
