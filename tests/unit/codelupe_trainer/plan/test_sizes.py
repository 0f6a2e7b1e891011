import pytest

from codelupe_trainer.plan.sizes import parse_size

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32GB", 32 * GIB),
        ("32GiB", 32 * GIB),
        ("32 gb", 32 * GIB),
        (" 32g ", 32 * GIB),
        ("31.3 GiB", round(31.3 * GIB)),
        ("24576MiB", 24 * GIB),
        ("0.5TB", 512 * GIB),
        (str(32 * GIB), 32 * GIB),
        (f"{32 * GIB}B", 32 * GIB),
    ],
)
def test_amounts_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "GB",
        "32XB",
        "32GBs",
        "-3GB",
        "+3GB",
        "1e9GB",
        "nan",
        "inf",
        "3,5GB",
        "3_2GB",
        "\N{FULLWIDTH DIGIT THREE}GB",
        "0",
        "32",
        "9999999TB",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 32GB, 31\.3GiB or a number of bytes") as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)
