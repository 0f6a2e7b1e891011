from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import agreement, distribution, registries
from benchmarks.quality.agreement import Scored, auc
from benchmarks.quality.labels import ChangedError, Label, Labelled, fetch_labelled, load_labels
from benchmarks.quality.registries import FetchError, Package, fetch, read
from codelupe import SourceFile
from codelupe_scorers.quality import Quality

WHEEL = Package("pypi", "small", "1.0")


def scored(value: float | None, *, good: bool, sha256: str = "00", language: str = "Go") -> Scored:
    label = Label("npm", "p", "1", "a.go", sha256, language, "good" if good else "poor", "so")
    file = SourceFile(path="a.go", content="", language=language, licence=None)
    dimensions: dict[str, dict[str, Any]] = {"only": {"value": value, "weight": 2, "version": 1, "reasons": []}}
    return Scored(Labelled(label, file), Quality(value=value, dimensions=dimensions))


def put_wheel(cache: Path, contents: dict[str, str]) -> Path:
    """A wheel where :func:`fetch` keeps it."""
    path = cache / "pypi" / "small@1.0" / "small-1.0-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(name, content)
    return path


def test_there_are_enough_labels_of_both_kinds_in_at_least_five_languages() -> None:
    labels = load_labels()
    assert len(labels) >= 150
    share = sum(label.is_good for label in labels) / len(labels)
    assert 0.4 <= share <= 0.6
    of_each = Counter((label.language, label.label) for label in labels)
    assert len({language for language, _ in of_each}) >= 5
    assert min(of_each.values()) >= 8


def test_each_label_names_one_file_its_hash_and_a_reason() -> None:
    labels = load_labels()
    assert len({(label.package, label.path) for label in labels}) == len(labels)
    assert len({label.sha256 for label in labels}) == len(labels)
    assert all(len(label.sha256) == 64 and label.reason and label.version for label in labels)


def test_both_halves_have_labels_of_both_kinds() -> None:
    halves = Counter((label.half, label.label) for label in load_labels())
    assert len(halves) == 4
    assert min(halves.values()) >= 35


def test_the_listed_packages_are_listed_once() -> None:
    packages = distribution.load_packages()
    assert len(packages) == len(set(packages)) >= 100
    assert {package.registry for package in packages} == {"pypi", "npm", "debian"}


def test_the_area_under_the_curve_is_the_chance_that_the_good_file_has_more() -> None:
    files = [scored(90, good=True), scored(60, good=True), scored(70, good=False), scored(10, good=False)]
    assert auc(files, lambda one: one.value) == 0.75
    assert auc([*files, scored(None, good=False)], lambda one: one.value) == 0.75
    assert auc(files[:2], lambda one: one.value) is None


def test_the_report_ends_with_the_figure_and_names_both_halves() -> None:
    files = [
        *(scored(90, good=True), scored(10, good=False), scored(75, good=False)),
        *(scored(80, good=True, sha256="01", language="Rust"), scored(85, good=False, sha256="01", language="Rust")),
    ]
    found = agreement.figures(files)
    assert found["halves"] == {"tuning": 1.0, "test": 0.0}
    assert found["kept"] == {"good": 1.0, "poor": pytest.approx(2 / 3)}
    assert found["dimensions"]["only"]["without"] is None
    lines = agreement.table(found)
    assert lines[-1] == "ROC AUC 0.83"
    assert "| **all** | 0.83 | 1.00 | 0.00 | |" in lines
    assert "| Rust | 2 | 1 | 0.00 |" in lines


def test_the_distribution_counts_each_ten_points_and_the_share_at_the_threshold() -> None:
    found = distribution.figures([("Go", 100.0), ("Go", 69.9), ("Rust", 70.0), ("Rust", 0.0)])
    assert found["Go"] == {"files": 2, "bins": [0] * 6 + [1, 0, 0, 1], "share_at_threshold": 0.5}
    assert found["all"]["files"] == 4
    assert found["all"]["share_at_threshold"] == 0.5
    assert distribution.table(found)[-1].startswith("| all | 4 | 25% | 0% |")


def test_what_the_file_rules_refuse_and_what_came_before_is_not_counted(tmp_path: Path) -> None:
    code = "def total(items):\n    return sum(item.value for item in items)\n"
    contents = {"small/a.py": code, "small/copy.py": code, "small/b.py": "# auto-generated\n" + code, "c.txt": "text"}
    assert [file.content for file in distribution.kept_files([put_wheel(tmp_path, contents)])] == [code]


def test_wheels_and_tarballs_are_read_without_unpacking_them(tmp_path: Path) -> None:
    assert dict(read(put_wheel(tmp_path, {"small/a.py": "a = 1\n"}))) == {"small/a.py": b"a = 1\n"}
    path = tmp_path / "small-1.0.tgz"
    with tarfile.open(path, "w:gz") as tarball:
        member = tarfile.TarInfo("package/a.js")
        member.size = 6
        tarball.addfile(member, io.BytesIO(b"a = 1\n"))
        tarball.addfile(tarfile.TarInfo("package/link"))
    assert dict(read(path))["package/a.js"] == b"a = 1\n"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="Debian's packages are built by dpkg-deb")
def test_debian_packages_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "root" / "DEBIAN").mkdir(parents=True)
    (tmp_path / "root" / "DEBIAN" / "control").write_text(
        "Package: small\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: small\n"
    )
    (tmp_path / "root" / "a.go").write_text("package a\n")
    subprocess.run(["dpkg-deb", "--build", tmp_path / "root", tmp_path / "small.deb"], check=True, capture_output=True)
    assert dict(read(tmp_path / "small.deb")) == {"./a.go": b"package a\n"}


def test_labelled_files_come_with_their_contents_and_a_changed_one_is_named(tmp_path: Path) -> None:
    put_wheel(tmp_path, {"small/a.py": "a = 1\n"})
    digest = hashlib.sha256(b"a = 1\n").hexdigest()
    label = Label("pypi", "small", "1.0", "small/a.py", digest, "Python", "poor", "a toy")
    advanced: list[int] = []
    [labelled] = fetch_labelled([label], tmp_path, lambda: advanced.append(1))
    assert (labelled.file.content, labelled.file.language, advanced) == ("a = 1\n", "Python", [1])

    changed = Label("pypi", "small", "1.0", "small/a.py", "0" * 64, "Python", "poor", "a toy")
    with pytest.raises(ChangedError, match=r"small/a\.py is not the file that was labelled"):
        fetch_labelled([changed], tmp_path, lambda: None)


def test_what_a_registry_does_not_give_is_one_clear_error_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FetchError, match=r"small 1.0 \(pypi\) cannot be fetched: .*No matching distribution"):
        fetch(WHEEL, tmp_path)
    assert list((tmp_path / "pypi").iterdir()) == []


def test_what_a_client_fetches_is_kept_and_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = {"npm": lambda *_: ["sh", "-c", "echo content > left-pad.tgz"]}
    monkeypatch.setattr(registries, "_CLIENTS", clients)
    package = Package("npm", "left-pad", "1.3.0")
    archive = fetch(package, tmp_path)
    assert (archive.name, archive.read_text()) == ("left-pad.tgz", "content\n")
    clients.clear()
    assert fetch(package, tmp_path) == archive
    assert list((tmp_path / "npm").iterdir()) == [archive.parent]


def test_a_client_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match=r"left-pad 1.3.0 \(npm\) needs npm, which is not on this machine"):
        fetch(Package("npm", "left-pad", "1.3.0"), tmp_path)


def test_the_command_says_what_is_missing_and_that_it_can_go_on(tmp_path: Path) -> None:
    git = shutil.which("git")
    assert git is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(git)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality", "--cache", str(tmp_path / "cache")],
        env={"PATH": str(tmp_path / "bin"), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "start again to go on" in done.stderr
    assert "Traceback" not in done.stderr
