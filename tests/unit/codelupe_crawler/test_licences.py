from __future__ import annotations

from importlib.metadata import PackageMetadata, metadata

import pytest
from packaging.licenses import canonicalize_license_expression

from codelupe_crawler.licences import _CLASSIFIERS, _WORDINGS, licence_of


class Stated(dict[str, list[str]]):
    """Metadata as ``importlib.metadata`` gives it."""

    def get_all(self, name: str, failobj: object = None) -> object:
        return super().get(name, failobj)

    def __getitem__(self, name: str) -> object:  # type: ignore[override]
        values = super().get(name)
        return values[0] if values else None


OSI = "License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": ["mit or apache-2.0"]}, "MIT OR Apache-2.0"),
        ({"License-Expression": ["MIT"], "License": ["BSD-3-Clause"]}, "MIT"),
        ({"License": ["BSD-3-Clause"], "Classifier": [OSI + "BSD License"]}, "BSD-3-Clause"),
        ({"License": ["BSD 2-Clause License"]}, "BSD-2-Clause"),
        ({"License": ["Apache License, Version 2.0"]}, "Apache-2.0"),
        ({"License": ["The MIT License"]}, "MIT"),
        ({"Classifier": ["Typing :: Typed", "License :: OSI Approved", OSI + "ISC License (ISCL)"]}, "ISC"),
        ({"License": ["Apache"], "Classifier": [OSI + "Apache Software License"]}, "Apache-2.0"),
        ({"License": ["BSD"], "Classifier": [OSI + "BSD License"]}, None),
        ({"Classifier": [OSI + "MIT License", OSI + "Apache Software License"]}, None),
        ({"Classifier": [OSI + "MIT License", OSI + "BSD License"]}, None),
        ({"License": ["Copyright (c) 2020\n\nPermission is hereby granted"]}, None),
        ({"License-Expression": ["Do what you like"]}, None),
        ({}, None),
    ],
)
def test_a_licence_is_stated_only_where_it_is_certain(fields: dict[str, list[str]], expected: str | None) -> None:
    stated: PackageMetadata = Stated(fields)  # type: ignore[assignment]
    assert licence_of(stated) == expected


def test_every_mapped_licence_is_a_known_spdx_identifier() -> None:
    for identifier in [*_CLASSIFIERS.values(), *_WORDINGS.values()]:
        assert canonicalize_license_expression(identifier) == identifier


def test_real_packages() -> None:
    assert licence_of(metadata("packaging")) == "Apache-2.0 OR BSD-2-Clause"
    assert licence_of(metadata("rich")) == "MIT"
