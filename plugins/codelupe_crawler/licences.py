"""The licence that a Python package states, as an SPDX expression."""

from __future__ import annotations

from importlib.metadata import PackageMetadata

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "zlib/libpng License": "Zlib",
    "Zope Public License": "ZPL-2.1",
}
"""Trove classifiers that mean one licence (see PEP 639, appendix "Mapping License Classifiers to SPDX Identifiers").

"BSD License" is not here since it may be any of several. "Apache Software License" is, although versions 1.0 and 1.1
exist: they were superseded in 2004, before there were wheels.
"""

_WORDINGS = {
    "2-clause bsd": "BSD-2-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache version 2.0": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "isc": "ISC",
    "mit": "MIT",
    "mozilla public 2.0": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
}
"""What people write into the field License, in small letters, without "the", "license" and punctuation."""


def licence_of(metadata: PackageMetadata) -> str | None:
    """The SPDX expression of a package's metadata, or None where it is missing or ambiguous.

    License-Expression decides; else the older field License where it is clear; else classifiers that agree.
    """
    stated = spdx_expression(metadata["License-Expression"]) or _read_field(metadata["License"])
    if stated is not None:
        return stated
    classifiers = [text for text in metadata.get_all("Classifier", []) if text.startswith("License :: ")]
    named = {_CLASSIFIERS.get(text.rpartition(" :: ")[2]) for text in classifiers if text.count(" :: ") > 1}
    return named.pop() if len(named) == 1 else None


def _read_field(text: str | None) -> str | None:
    if text is None or "\n" in text:
        return None
    words = text.lower().replace(",", " ").split()
    wording = " ".join(word for word in words if word not in {"the", "license", "licence"})
    return spdx_expression(text) or _WORDINGS.get(wording)


def spdx_expression(expression: str | None) -> str | None:
    """The licence as SPDX writes it; None if it is none that SPDX knows."""
    try:
        return canonicalize_license_expression(expression) if expression else None
    except InvalidLicenseExpression:
        return None
