import json
from pathlib import Path

import pytest

from codelupe import CodelupeError
from codelupe_trainer.plan.bases import known_models, shape_of
from codelupe_trainer.plan.model_shape import ModelShape, UnknownShape
from codelupe_trainer.profiles import read_profiles
from codelupe_trainer.settings import TrainerSettings

LLAMA = {
    "model_type": "llama",
    "vocab_size": 1000,
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # As the models' pages on the hub count them.
        ("qwen2.5-coder-0.5b", 494_032_768),
        ("qwen2.5-coder-1.5b", 1_543_714_304),
        ("qwen2.5-coder-3b", 3_085_938_688),
        ("qwen2.5-coder-7b", 7_615_616_512),
        ("qwen2.5-coder-14b", 14_770_033_664),
        ("qwen2.5-coder-32b", 32_763_876_352),
        ("smollm2-135m", 134_515_008),
    ],
)
def test_known_models_have_the_parameters_that_their_pages_tell(name: str, parameters: int) -> None:
    assert known_models()[name].shape.parameters == parameters


def test_an_adapter_of_rank_256_has_seven_percent_of_the_base() -> None:
    model = known_models()["qwen2.5-coder-14b"].shape
    assert model.adapter_parameters(256) == 1_101_004_800
    assert round(100 * model.adapter_parameters(256) / model.parameters, 2) == 7.45
    assert model.adapter_parameters(64) * 4 == model.adapter_parameters(256)


def test_every_profile_has_a_known_base() -> None:
    for name in read_profiles():
        assert shape_of(TrainerSettings(profile=name).base).parameters > 0


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        LLAMA | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        LLAMA | {"model_type": "mistral", "num_key_value_heads": 2, "head_dim": 32},
        LLAMA | {"model_type": "qwen2", "num_key_value_heads": 1},
        LLAMA | {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 32, "attention_bias": True},
    ],
)
def test_parameters_are_those_of_transformers_own_model(config: dict[str, object]) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    model = ModelShape.from_config(config)
    with torch.device("meta"):
        settings = CONFIG_MAPPING[model.architecture](**model.to_config())
        real = AutoModelForCausalLM.from_config(settings)  # type: ignore[no-untyped-call]
    assert model.parameters == sum(each.numel() for each in real.parameters())


def test_a_configuration_comes_back() -> None:
    model = known_models()["qwen2.5-coder-7b"].shape
    assert ModelShape.from_config(model.to_config() | {"model_type": "qwen2"}) == model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; plans know qwen2, qwen3, llama, mistral"),
        ({"model_type": None}, "model_type is None"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"hidden_size": "64"}, "hidden_size is '64', not a whole number above 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0"),
        ({"num_attention_heads": 5}, "head_dim is missing"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide"),
        ({"model_type": "mistral"}, "num_key_value_heads is missing"),
        ({"model_type": "qwen3", "num_key_value_heads": 2}, "head_dim is missing"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
    ],
)
def test_the_field_at_fault_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownShape, match=message):
        ModelShape.from_config(LLAMA | change)


def test_a_folder_with_a_configuration_is_a_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert shape_of(str(tmp_path)) == ModelShape.from_config(LLAMA)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3", '{"model_type": "llama"}', b"\xff\xfe"])
def test_a_folder_without_a_usable_configuration_is_named(tmp_path: Path, content: str | bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CodelupeError, match=r"config\.json is no configuration to plan by"):
        shape_of(str(tmp_path))


@pytest.mark.parametrize("base", ["someone/unknown", "package:elsewhere", "a b/c\0d", "../x", "one"])
def test_an_unknown_base_says_which_are_known(base: str) -> None:
    with pytest.raises(CodelupeError, match="is not known") as caught:
        shape_of(base)
    assert "Qwen/Qwen2.5-Coder-14B-Instruct" in str(caught.value.hint)


def test_a_base_in_the_hub_s_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tuned"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc", encoding="utf-8")
    (snapshot / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert shape_of("someone/tuned") == ModelShape.from_config(LLAMA)
