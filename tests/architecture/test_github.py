"""The files of `.github` and of pre-commit are valid, and what they run is what this repository has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
import yaml

from tasks.table import TASKS

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCHEMAS = [
    *(("vendor.github-workflows", path) for path in WORKFLOWS),
    *(("custom.github-workflows-require-timeout", path) for path in WORKFLOWS),
    *(("vendor.github-issue-forms", path) for path in FORMS),
    ("vendor.github-issue-config", GITHUB / "ISSUE_TEMPLATE" / "config.yml"),
    ("vendor.dependabot", GITHUB / "dependabot.yml"),
]


def commands(workflow: Path) -> list[str]:
    """Every shell line that a workflow runs."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    steps = [step for job in jobs.values() for step in job.get("steps", ())]
    return [line.strip() for step in steps for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize(("schema", "path"), SCHEMAS, ids=lambda value: getattr(value, "name", str(value)))
def test_it_follows_its_schema(schema: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_wrong_workflow_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "run-on:"), encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(wrong)]
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_workflows_run_tasks_that_exist() -> None:
    lines = [line for workflow in WORKFLOWS for line in commands(workflow)]
    run = {name for line in lines for name in re.findall(r"(?:\bmake|-m tasks) ([a-z-]+)", line)}
    assert {"lint", "test", "demo", "coverage", "test-oldest", "test-newest", "test-comfyui"} <= run <= set(TASKS)


def test_every_python_that_is_promised_is_tested() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert jobs["newest"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_nothing_is_published_that_was_not_tested() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "publish.yml").read_text(encoding="utf-8"))["jobs"]

    def comes_after(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*(comes_after(each) for each in direct))

    assert {"tests", "version"} <= comes_after("registry") & comes_after("pypi")
    assert jobs["tests"]["uses"] == "./.github/workflows/tests.yml"


def test_workflows_may_do_no_more_than_they_need() -> None:
    for workflow in WORKFLOWS:
        described = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        assert described["permissions"] == {"contents": "read"}, workflow.name
        assert "${{ github.event" not in workflow.read_text(encoding="utf-8"), "a stranger's text in a command"


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
@pytest.mark.parametrize("task_fails", [False, True])
def test_the_hook_runs_the_task_lint(tmp_path: Path, task_fails: bool) -> None:
    """In a repository whose task notes that it was run, so that the check itself need not run here."""
    folder = tmp_path / "a repository"
    (folder / "tasks").mkdir(parents=True)
    shutil.copy(ROOT / ".pre-commit-config.yaml", folder)
    note = "import sys\nfrom pathlib import Path\nPath('ran').write_text(' '.join(sys.argv[1:]))"
    (folder / "tasks" / "__init__.py").touch()
    (folder / "tasks" / "__main__.py").write_text(f"{note}\nsys.exit({task_fails})\n")
    for command in (["init", "-q"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(tmp_path), "PRE_COMMIT_HOME": str(tmp_path / "cache"), "PATH": path}
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == int(task_fails), done.stdout + done.stderr
    assert (folder / "ran").read_text() == "lint"
