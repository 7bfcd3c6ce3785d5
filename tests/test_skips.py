"""The rules of conftest.py: in CI a skip that nobody allowed is a failure."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("GPA_REQUIRE_KERNEL", raising=False)
    pytester.makeconftest((HERE / "conftest.py").read_text())
    pytester.makefile(
        ".toml",
        skips="""
        [[skip]]
        test = "test_it.py::test_listed"
        because = "no MPTCP"
        why = "example"
        """,
    )
    pytester.makepyfile(
        test_it="""
        import pytest
        def test_listed():
            pytest.skip("no MPTCP in this kernel")
        def test_unlisted():
            pytest.skip("not today")
        @pytest.mark.xfail
        def test_expected_failure():
            assert False
        """
    )
    return pytester


def test_a_skip_is_a_skip_outside_ci(project: pytest.Pytester) -> None:
    project.runpytest().assert_outcomes(skipped=2, xfailed=1)


def test_an_unlisted_skip_fails_in_ci(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = project.runpytest()
    result.assert_outcomes(skipped=1, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*not listed in tests/skips.toml: *not today*"])


def test_a_skipped_module_fails_in_ci(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    project.makepyfile(test_it="import pytest\npytest.importorskip('no_such_module_anywhere')\n")
    project.runpytest().assert_outcomes(errors=1)


def test_a_kernel_test_that_cannot_run_is_skipped_or_must_run(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makeini("[pytest]\nmarkers =\n    kernel: real kernel\n")
    project.makepyfile(
        test_it="import pytest\n@pytest.mark.kernel\ndef test_kernel():\n    assert False\n"
    )
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    project.runpytest().assert_outcomes(skipped=1)
    monkeypatch.setenv("GPA_REQUIRE_KERNEL", "1")
    project.runpytest().assert_outcomes(failed=1)
