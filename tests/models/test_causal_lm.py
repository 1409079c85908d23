"""A model by name or folder: what is missing is named before any training."""

import json
import shutil

import pytest

from fedalign.core.errors import ConfigError
from fedalign.models.causal_lm import CausalLm
from tests import hub_models

TURNS = (("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Who?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hub_models.saved(tmp_path_factory.mktemp("model") / "qwen2")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("format", "prompt"),
    [
        ("chat", "<system>Be kind.\n<user>Hi\n<assistant>Hello\n<user>Who?\n<assistant>"),
        ("dialogue", "Be kind.\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Who?\n\nAssistant:"),
        ("plain", "Be kind.\nHi\nHello\nWho?"),
    ],
)
def test_prompts_are_written_as_asked(folder, format, prompt):
    """Prompt and answer are encoded apart and put together by numbers; the end mark is the tokenizer's."""
    _, writing, _ = CausalLm(folder, prompt_format=format).load()
    asked, answer = writing.prompt(TURNS), writing.answer("Me — née Ü")
    assert writing.text(asked) == prompt and writing.text(answer) == "Me — née Ü"
    assert (asked[0] == 0) == (format != "chat") and writing.end == 1


def test_the_hash_of_a_model_follows_its_weights(folder, copy):
    one, again = CausalLm(folder).load()[2], CausalLm(str(copy)).load()[2]
    hub_models.model("qwen2", seed=1).save_pretrained(copy)
    assert one == again != CausalLm(str(copy)).load()[2]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("config.json", "lacks config.json"),
        ("model.safetensors", r"lacks \*\.safetensors"),
        ("tokenizer.json", "lacks a tokenizer"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(copy, file, says):
    (copy / file).unlink()
    with pytest.raises(ConfigError, match=says):
        CausalLm(str(copy)).load()


def test_damaged_files_are_refused(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ConfigError, match="cannot be loaded as a causal language model"):
        CausalLm(str(copy)).load()
    (copy / "config.json").write_text("{cut")
    with pytest.raises(ConfigError, match=r"config\.json is damaged"):
        CausalLm(str(copy)).load()


def test_a_missing_model_says_where_it_was_looked_for(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=f"there is no folder {tmp_path}/none"):
        CausalLm(str(tmp_path / "none")).load()
    with pytest.raises(ConfigError, match=r"owner/none at revision v2 .*neither as a folder .*owner/none nor in the cache .*network was not asked.*online=true"):  # fmt: skip
        CausalLm("owner/none", revision="v2").load()
    with pytest.raises(ConfigError, match=r"needs model.name"):
        CausalLm(" ")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"HF_HUB_OFFLINE .* forbids the network"):
        CausalLm("owner/none", online=True)


def test_a_repository_of_the_hub_is_taken_from_the_local_cache(copy, tmp_path, monkeypatch):
    """As the hub's own client lays it out; nothing is asked of the network."""
    home, commit = tmp_path / "cache/models--owner--name", "a" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(commit)
    shutil.copytree(copy, home / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert CausalLm("owner/name").load()[2] == CausalLm(str(copy)).load()[2]
    assert CausalLm("owner/name", revision=commit).load()[1].end == 1
    with pytest.raises(ConfigError, match="owner/name at revision v2 was found neither"):
        CausalLm("owner/name", revision="v2").load()


def test_what_a_tokenizer_lacks_is_told(copy):
    hub_models.tokenizer(chat=None).save_pretrained(copy)
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"no chat template: take model.prompt_format=dialogue"):
        CausalLm(str(copy)).load()
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": None}))
    with pytest.raises(ConfigError, match="no end-of-sequence token"):
        CausalLm(str(copy), prompt_format="plain").load()
    hub_models.model("qwen2", words=100).save_pretrained(copy)
    hub_models.tokenizer().save_pretrained(copy)
    with pytest.raises(ConfigError, match=r"knows 25\d tokens, its model 100"):
        CausalLm(str(copy)).load()
