import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from codelupe import CodelupeError, ConfigurationError
from codelupe_trainer.commands import commands
from codelupe_trainer.plan.tracing import Traced
from codelupe_trainer.profiles import read_profiles


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file without settings, which stands for all that this machine may have."""
    for name in ("CODELUPE_PROFILE", "CODELUPE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODELUPE_STATE_DIR", str(tmp_path))
    path = tmp_path / "codelupe.toml"
    path.write_text("", encoding="utf-8")
    monkeypatch.setenv("CODELUPE_CONFIG", str(path))
    return path


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["train", "plan", *arguments])


def data(*arguments: str) -> dict[str, Any]:
    result = plan("--json", *arguments)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_without_a_profile_the_settings_decide(no_settings: Path) -> None:
    no_settings.write_text('[plugins.trainer]\nprofile = "qwen2.5-coder-7b"\nmicro_batch = 8\n', encoding="utf-8")
    found = data()
    assert found["base"] == "Qwen/Qwen2.5-Coder-7B-Instruct"
    assert found["asked_micro_batch"] == 8


def test_the_default_fits_a_card_of_32_gb_with_a_float32_adapter() -> None:
    found = data()
    assert found["fits"] is True
    assert found["shape"]["adapter_dtype"] == "float32"
    assert found["usable_bytes"] == round(31.3 * 2**30)
    moments = {name: sum(parts.values()) for name, parts in found["moments"].items()}
    assert found["peak_bytes"] == sum(found["memory"].values()) + max(moments.values())
    assert moments[found["peak_at"]] == max(moments.values())


def test_several_cards_share_the_time_and_not_the_memory(no_settings: Path) -> None:
    alone = data()
    no_settings.write_text("[plugins.trainer]\nprocesses = 4\n", encoding="utf-8")
    together = data()
    assert together["hours"] == pytest.approx({card: hours / 4 for card, hours in alone["hours"].items()})
    assert together["peak_bytes"] == alone["peak_bytes"] + together["memory"]["gradients of DDP"]
    assert "of the peak of 4 such cards" in plan().stdout


def test_a_lowered_micro_batch_is_told(no_settings: Path) -> None:
    no_settings.write_text("[plugins.trainer]\nmicro_batch = 4\n", encoding="utf-8")
    result = plan("--vram", "24GB")
    assert result.exit_code == 0
    assert "in place of 4" in result.stdout
    assert "times as many passes a step" in result.stdout


def test_what_does_not_fit_ends_with_1_and_says_what_to_change() -> None:
    result = plan("--vram", "16GB")
    assert result.exit_code == 1
    assert "It does not fit" in result.stdout
    assert "lora.rank = 64" in result.stdout
    assert data("--vram", "16GB")["fits"] is False


@pytest.mark.parametrize("profile", list(read_profiles()))
def test_every_profile_can_be_planned_for(profile: str) -> None:
    result = plan("--profile", profile)
    assert result.exit_code == 0
    assert "It fits" in result.stdout


def test_on_a_cpu_it_is_computed_in_float32_and_takes_the_machine_s_memory() -> None:
    found = data("--profile", "smollm2-135m-cpu", "--cpu")
    assert found["shape"]["compute_dtype"] == "float32"
    assert found["shape"]["head"] == "torch"
    assert found["hours"] == {}
    assert data("--profile", "smollm2-135m-cpu", "--cpu", "--vram", "4GiB")["usable_bytes"] == 4 * 2**30


@pytest.mark.parametrize("amount", ["32XB", "", "-1GB", "0"])
def test_a_wrong_amount_is_refused(amount: str) -> None:
    result = plan("--vram", amount)
    assert result.exit_code == 2
    assert "write 32GB, 31.3GiB or a number of bytes" in " ".join(result.stderr.replace("│", " ").split())


def test_an_unknown_profile_says_which_there_are() -> None:
    result = plan("--profile", "qwen")
    assert result.exit_code == 2
    assert "qwen2.5-coder-14b-r64" in result.stderr


def test_too_few_files_are_refused() -> None:
    assert plan("--files", "1").exit_code == 2


def test_an_unknown_base_is_one_error(no_settings: Path) -> None:
    no_settings.write_text('[plugins.trainer]\nbase = "someone/unknown"\n', encoding="utf-8")
    error = plan().exception
    assert isinstance(error, CodelupeError)
    assert "someone/unknown is not known" in error.message


def test_wrong_settings_are_one_error(no_settings: Path) -> None:
    no_settings.write_text("[plugins.trainer]\nmicro_batch = 0\n", encoding="utf-8")
    assert isinstance(plan().exception, ConfigurationError)


def test_the_trace_is_told_beside_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "codelupe_trainer.plan.command.run_traces", lambda _: [Traced(resident=1, forward=2**30, backward=2**31)]
    )
    assert "The trace counts 2.80 GiB" in plan("--trace").stdout
    assert data("--trace")["traced_peak_bytes"] == pytest.approx(2.8 * 2**30, abs=1)


def test_a_plan_imports_no_torch() -> None:
    check = "import sys, codelupe_trainer.plan.command as it; assert it; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
