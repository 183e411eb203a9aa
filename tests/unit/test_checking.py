"""What doctor says of the session itself, and how it is printed."""

import pytest

from jupyterlab_ai_batch.checking import check_session, refused_settings
from jupyterlab_ai_batch.errors import InvalidSubmissionError
from jupyterlab_ai_batch.models import PreflightCheck
from jupyterlab_ai_batch.presenting import format_checks

IN_POD = {"KUBERNETES_SERVICE_HOST": "192.0.2.1"}
NAMES = {"POD_NAME": "jupyter-alice", "POD_NAMESPACE": "user-alice"}
MEANT = {"repository": "registry.example/users/alice"}


@pytest.mark.parametrize(
    ("settings", "environ", "expected"),
    [
        ({}, {}, []),
        ({}, IN_POD, []),
        (MEANT, {}, []),
        ({**MEANT, "backend": "local"}, IN_POD, []),
        (MEANT, {**IN_POD, **NAMES}, [True]),
        (MEANT, IN_POD, [False]),
        ({"backend": "kueue"}, {}, [False]),
    ],
)
def test_a_server_that_should_know_its_pod(settings, environ, expected):
    """Only where an admin meant jobs to go to the cluster."""
    assert expected == [check.ok for check in check_session(settings, environ=environ)]


def test_only_what_is_missing_is_printed():
    """A variable that is there stays as it is."""
    (check,) = check_session(MEANT, environ={**IN_POD, "POD_NAME": "jupyter-alice"})
    assert "POD_NAMESPACE" in check.summary
    assert "metadata.namespace" in check.fix
    assert "metadata.name'" not in check.fix.replace('"', "'")


def test_settings_that_cannot_be_used():
    """The one that is wrong is named."""
    check = refused_settings(InvalidSubmissionError("No.", hint="Ask.", details={"setting": "repository"}))
    assert (False, "No.", "Ask.") == (check.ok, check.summary, check.resolution)
    assert "c.BatchExtensionApp.repository = " in check.fix


def test_fixes_are_blocks():
    """Indented below the check, line by line; nothing of a check that holds."""
    checks = [
        PreflightCheck(name="a", ok=False, summary="No.", resolution="Ask.", fix="kind: Role\nrules:\n- x\n"),
        PreflightCheck(name="b", ok=True, summary="Yes.", fix="not shown"),
    ]
    expected = "NO  a: No.\n      Ask.\n        kind: Role\n        rules:\n        - x\nok  b: Yes."
    assert expected == format_checks(checks)
