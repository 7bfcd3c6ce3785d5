import pytest

from gpa.rules.places import Place

ID = "5eed" * 16


@pytest.mark.parametrize(
    ("path", "selector", "value", "meets"),
    [
        ("/system.slice/backup.service", "cgroup", "/system.slice/backup.service", True),
        ("/system.slice/backup.service/inner", "cgroup", "/system.slice/backup.service", True),
        ("/system.slice/backup.service2", "cgroup", "/system.slice/backup.service", False),
        ("/system.slice", "cgroup", "/system.slice/backup.service", False),
        ("/system.slice/backup.service/a.service", "systemdUnit", "backup.service", True),
        ("/system.slice/backup.service/a.service", "systemdUnit", "a.service", False),
        (f"/system.slice/docker-{ID}.scope", "containerId", ID, True),
        (f"/system.slice/docker-{ID}.scope", "containerId", ID[:12], False),
        ("", "cgroup", "/a", False),
        ("/", "containerId", ID, False),
        ("/a", "userName", "/a", False),
    ],
)
def test_a_place_meets_a_selector(path: str, selector: str, value: str, meets: bool) -> None:
    assert Place.of(path).meets(selector, value) is meets
