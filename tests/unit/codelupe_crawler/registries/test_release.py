from __future__ import annotations

from datetime import UTC, datetime

import pytest

from codelupe_crawler.registries.release import Package, keywords_of, links_of, time_of
from codelupe_crawler.settings import CrawlerSettings


@pytest.mark.parametrize(
    ("text", "external_id"),
    [
        ("pypi:flask", "pypi/flask"),
        ("pypi:Zope.Interface", "pypi/zope-interface"),
        ("npm:left-pad", "npm/left-pad"),
        ("npm:@scope/na.me", "npm/@scope/na.me"),
        ("npm:JSONStream", "npm/JSONStream"),
    ],
)
def test_a_package_is_written_with_its_registry(text: str, external_id: str) -> None:
    assert Package.parse(text).external_id == external_id
    assert Package.parse(str(Package.parse(text))) == Package.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("flask", "cargo:serde", "pypi:", "pypi:../x", "pypi:-r", "pypi:a b", "pypi:flask==1", "pypi:a\n", ":x", ""),
        *("npm:--registry=http://x", "npm:a@1", "npm:@scope", "npm:@a/b/c", "npm:../x", "npm:http://x/y.tgz", "npm:.x"),
        *("npm:" + "a" * 215, "pypi:caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
    ],
)
def test_what_names_no_package_is_refused_before_a_client_sees_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"registry|names no package"):
        CrawlerSettings(packages=(text,))


def test_one_package_under_two_names_is_one() -> None:
    settings = CrawlerSettings(packages=("pypi:Flask", "npm:x", "pypi:flask"))
    assert settings.packages == ("pypi:flask", "npm:x")


@pytest.mark.parametrize(
    ("words", "keywords"),
    [
        ("one,Two Words, one", ("one", "two words")),
        ("one two", ("one", "two")),
        (["One", 2, None, "x" * 51, "  ", "one"], ("one",)),
        ([str(number) for number in range(50)], tuple(str(number) for number in range(20))),
        *((nothing, ()) for nothing in (None, "", 7, {"a": 1})),
    ],
)
def test_keywords_may_be_written_in_any_way(words: object, keywords: tuple[str, ...]) -> None:
    assert keywords_of(words) == keywords


def test_links_are_texts_of_modest_length() -> None:
    assert links_of([" https://x ", None, 7, "", "h" * 501, "https://x"]) == ("https://x",)
    assert links_of("https://x") == ()


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-01-02T03:04:05Z", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2025-01-02T05:04:05+02:00", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2025-01-02T03:04:05", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        *((nothing, None) for nothing in (None, "", "yesterday", 5, "0001-01-01T00:00:00+14:00")),
    ],
)
def test_times_are_in_utc(text: object, time: datetime | None) -> None:
    assert time_of(text) == time
