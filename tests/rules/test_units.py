"""What a cgroup's path is called."""

from __future__ import annotations

import pytest

from gpa.rules.units import NO_UNIT, Unit, parse

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD = "kubepods-burstable-pod1f2e.slice"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", NO_UNIT),
        ("/init.scope", Unit("init.scope", "", "")),
        ("/system.slice/ssh.service", Unit("ssh.service", "system.slice", "")),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            Unit("getty@tty1.service", "system-getty.slice", ""),
        ),
        (
            r"/system.slice/system-modprobe.slice/dev-disk-by\x2duuid.mount",
            Unit(r"dev-disk-by\x2duuid.mount", "system-modprobe.slice", ""),
        ),
        ("/system.slice/_cpu.service", Unit("cpu.service", "system.slice", "")),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            Unit("session-3.scope", "user-1000.slice", ""),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-web.service",
            Unit("user@1000.service", "user-1000.slice", ""),
        ),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
            Unit("user@1000.service", "user-1000.slice", ID),
        ),
        # A user's manager may be told any name; it does not become the system's unit.
        (
            "/user.slice/user-1000.slice/user@1000.service/ssh.service",
            Unit("user@1000.service", "user-1000.slice", ""),
        ),
        (f"/system.slice/docker-{ID}.scope", Unit(f"docker-{ID}.scope", "system.slice", ID)),
        (f"/docker/{ID}", Unit("", "", ID)),
        (f"/docker/{ID}/docker/{OTHER}", Unit("", "", ID)),
        (f"/kubepods/burstable/pod1f2e/{ID}", Unit("", "", ID)),
        (
            f"/kubepods.slice/kubepods-burstable.slice/{POD}/cri-containerd-{ID}.scope",
            Unit(f"cri-containerd-{ID}.scope", POD, ID),
        ),
        (
            f"/kubepods.slice/{POD}/crio-{ID}.scope/container",
            Unit(f"crio-{ID}.scope", POD, ID),
        ),
        (f"/kubepods.slice/{POD}:cri-containerd:{ID}", Unit("", "kubepods.slice", ID)),
        (
            f"/machine.slice/libpod-{ID}.scope/container",
            Unit(f"libpod-{ID}.scope", "machine.slice", ID),
        ),
        (
            f"/machine.slice/libpod-conmon-{ID}.scope",
            Unit(f"libpod-conmon-{ID}.scope", "machine.slice", ""),
        ),
        (f"/libpod_parent/libpod-{ID}", Unit("", "", ID)),
        ("/lxc.payload.web/system.slice/nginx.service", Unit("", "", "web")),
        ("/lxc/web", Unit("", "", "web")),
        (
            r"/machine.slice/machine-deb\x2d12.scope/payload",
            Unit(r"machine-deb\x2d12.scope", "machine.slice", "deb-12"),
        ),
        (
            "/machine.slice/systemd-nspawn@deb.service/payload/init.scope",
            Unit("systemd-nspawn@deb.service", "machine.slice", "deb"),
        ),
        (
            f"/system.slice/docker-{ID[:63]}.scope",
            Unit(f"docker-{ID[:63]}.scope", "system.slice", ""),
        ),
        ("/vm/users", NO_UNIT),
    ],
)
def test_path_of_a_cgroup(path: str, expected: Unit) -> None:
    assert parse(path) == expected
