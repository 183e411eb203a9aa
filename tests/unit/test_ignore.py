from __future__ import annotations

from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import SnapshotError
from jupyterlab_ai_batch.snapshot.ignore import build_scope
from jupyterlab_ai_batch.snapshot.walk import Tree, WalkOptions, walk_tree


def make(top: Path, *paths: str) -> None:
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(path)


def walk(top: Path, *exclude: str, **options) -> Tree:
    return walk_tree(str(top), WalkOptions(scope=build_scope(exclude), **options))


def files(tree: Tree) -> list[str]:
    return sorted(path for path in tree.entries if path and not Path(tree.top, path).is_dir())


SECRETS = """.ssh/id_rsa .gnupg/x .aws/credentials .azure/x .kube/config .config/gcloud/x .config/gh/hosts.yml
.config/rclone/rclone.conf .config/containers/auth.json .docker/config.json .netrc .git-credentials .pypirc .npmrc
.pgpass .my.cnf .vault-token .env .env.local server.pem tls.key id_ed25519 id_rsa.pub pass.kdbx .huggingface/token
.cache/x .kaggle/kaggle.json .databrickscfg .globus/x .local/share/keyrings/x .local/share/jupyter/runtime/k.json
.password-store/x .mozilla/x .jupyter/x.json .ipython/profile_default/history.sqlite
.ipython/profile_default/security/x .bash_history .python_history .Xauthority krb5cc_1000 x509up_u1000""".split()  # noqa: SIM905 - easier to compare with the list in the documentation


@pytest.mark.parametrize("path", SECRETS)
def test_secrets_are_left_out_by_default(tmp_path, path):
    """Every entry of the default list, at the top and deeper."""
    make(tmp_path, path, f"deep/{path}", "kept")
    assert files(walk(tmp_path)) == ["kept"]


@pytest.mark.parametrize(
    "path",
    ["data/id_map.csv", ".docker/other", "venv/lib/site-packages/certifi/cacert.pem", ".env.example", "a.pem.txt"],
)
def test_ordinary_files_are_no_secrets(tmp_path, path):
    """Names that only resemble secrets stay."""
    make(tmp_path, path)
    assert files(walk(tmp_path)) == [path]


@pytest.mark.parametrize(
    "path", [".git/config", "a/__pycache__/m.pyc", ".ipynb_checkpoints/n.ipynb", "node_modules/x/i.js", ".Trash-1000/f"]
)
def test_what_jobs_do_not_need_is_left_out(tmp_path, path):
    """Version control, caches, checkpoints and the trash."""
    make(tmp_path, path, "kept")
    tree = walk(tmp_path)
    assert files(tree) == ["kept"]
    assert len(tree.excluded) == 1


def test_the_results_of_earlier_batches_are_kept(tmp_path):
    """An executed notebook is a file like any other."""
    make(tmp_path, "n.batch-1a2b3c4d.ipynb")
    assert files(walk(tmp_path)) == ["n.batch-1a2b3c4d.ipynb"]


def test_other_environments_are_left_out_and_can_be_taken_back(tmp_path):
    """A directory with pyvenv.cfg or conda-meta is an environment, whatever its name."""
    make(tmp_path, "tools/pyvenv.cfg", "tools/x", "conda/conda-meta/history", "kept")
    assert files(walk(tmp_path)) == ["kept"]
    assert files(walk(tmp_path, "!tools/")) == ["kept", "tools/pyvenv.cfg", "tools/x"]


def test_batchignore_and_request_override_each_other_in_order(tmp_path):
    """Defaults, then .batchignore, then deeper ones, then the request: the last match wins."""
    make(tmp_path, "a.log", "b.log", "sub/a.log", "sub/b.log", "server.key")
    (tmp_path / ".batchignore").write_text("*.log\n!server.key\n# comment\n\n")
    (tmp_path / "sub/.batchignore").write_text("!b.log\n/only-here\n")
    assert files(walk(tmp_path)) == [".batchignore", "server.key", "sub/.batchignore", "sub/b.log"]
    assert "a.log" in files(walk(tmp_path, "!/a.log"))
    assert "sub/b.log" not in files(walk(tmp_path, "b.log"))


def test_anchored_patterns_of_a_deeper_file_start_there(tmp_path):
    """A leading slash means the directory of the .batchignore."""
    make(tmp_path, "x", "sub/x", "sub/deep/x")
    (tmp_path / "sub/.batchignore").write_text("/x\n")
    assert files(walk(tmp_path)) == ["sub/.batchignore", "sub/deep/x", "x"]


def test_paths_below_excluded_directories_can_be_taken_back(tmp_path):
    """A pattern that spells out the path reaches in; its parents come along, its siblings do not."""
    make(tmp_path, ".cache/models/m.bin", ".cache/other/x", "data/keep/k", "data/drop")
    tree = walk(tmp_path, "data/", "!data/keep/", "!.cache/models/")
    assert files(tree) == [".cache/models/m.bin", "data/keep/k"]
    assert {".cache", ".cache/models", "data", "data/keep"} <= set(tree.entries)


def test_nothing_brings_back_what_is_never_captured(tmp_path):
    """The store itself stays out, whatever the patterns say."""
    make(tmp_path, "store/x", "kept")
    assert files(walk(tmp_path, "!store/", "!store/x", never={str(tmp_path / "store")})) == ["kept"]


def test_the_notebook_is_never_ignored(tmp_path):
    """Also below an ignored directory; its neighbours stay out."""
    make(tmp_path, ".cache/work/n.ipynb", ".cache/work/other", "kept")
    assert files(walk(tmp_path, "*.ipynb", always=".cache/work/n.ipynb")) == [".cache/work/n.ipynb", "kept"]


def test_the_rule_is_named(tmp_path):
    """An exclusion says which pattern it was; secrets are listed apart."""
    make(tmp_path, ".git/config", "big.csv", "tls.key")
    tree = walk(tmp_path, "*.csv")
    assert {entry.path: entry.rule for entry in tree.excluded} == {
        ".git": ".git/",
        "big.csv": "*.csv",
        "tls.key": "*.key",
    }
    assert tree.secrets == ["tls.key"]


def test_a_bad_pattern_is_an_error_that_names_its_origin(tmp_path):
    """A line that is no pattern is refused."""
    (tmp_path / ".batchignore").write_text("!\n")
    with pytest.raises(SnapshotError) as caught:
        walk(tmp_path)
    assert ".batchignore" in caught.value.message


def test_the_origin_of_a_rule_is_named(tmp_path):
    """Which ignore file, the submission, or the defaults."""
    make(tmp_path, ".git/config", "a.csv", "sub/b.log", "c.tmp", "d.bak")
    (tmp_path / ".batchignore").write_text("# comment\n\n*.csv\n#!include:.gitignore\n")
    (tmp_path / ".gitignore").write_text("*.bak\n")
    (tmp_path / "sub/.batchignore").write_text("*.log\n")
    tree = walk(tmp_path, "*.tmp")
    assert {entry.path: (entry.rule, entry.origin) for entry in tree.excluded} == {
        ".git": (".git/", "default"),
        "a.csv": ("*.csv", ".batchignore"),
        "sub/b.log": ("*.log", "sub/.batchignore"),
        "c.tmp": ("*.tmp", "this submission"),
        "d.bak": ("*.bak", ".gitignore"),
    }


def test_included_lines_stand_where_the_include_stands(tmp_path):
    """Later lines override them; what an included file includes is a comment."""
    make(tmp_path, "a.log", "b.log", "sub/x", "other/x")
    (tmp_path / ".batchignore").write_text("*.log\n#!include:.gitignore\n!/b.log\n")
    (tmp_path / ".gitignore").write_text("!a.log\n/sub/\n#!include:.missing\n")
    assert files(walk(tmp_path)) == [".batchignore", ".gitignore", "a.log", "b.log", "other/x"]


@pytest.mark.parametrize("name", [".missing", "../.gitignore", "/etc/passwd", "", ".."])
def test_an_include_names_a_file_beside_it(tmp_path, name):
    """Anything else is an error: left-out rules would ship what the user meant to keep."""
    (tmp_path / ".batchignore").write_text(f"#!include:{name}\n")
    with pytest.raises(SnapshotError):
        walk(tmp_path)


def test_a_walk_ends_early_when_over_its_limit(tmp_path):
    """A home with more than the limit is not walked to its end."""
    for number in range(50):
        make(tmp_path, *(f"d{number}/f{i}" for i in range(20)))
    tree = walk(tmp_path, limit_entries=100)
    assert tree.over
    assert len(tree.entries) < 200
