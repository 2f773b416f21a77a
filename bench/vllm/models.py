# SPDX-License-Identifier: Apache-2.0
"""Model folders that hold a config.json alone: vLLM fills the weights itself (load_format=dummy)."""

import json
import pathlib

# Published shapes; the layer count is the caller's, since timings are per layer.
QWEN3_30B_A3B = dict(
    hidden_size=2048, intermediate_size=6144, moe_intermediate_size=768,
    num_experts=128, num_experts_per_tok=8,
    num_attention_heads=32, num_key_value_heads=4, head_dim=128, vocab_size=151936,
)  # fmt: skip
# DeepSeek-V3's routed experts and widths under Qwen3's attention and router: no latent attention, no shared expert.
DEEPSEEK_V3_MOE = dict(
    hidden_size=7168, intermediate_size=18432, moe_intermediate_size=2048,
    num_experts=256, num_experts_per_tok=8,
    num_attention_heads=64, num_key_value_heads=8, head_dim=128, vocab_size=129280,
)  # fmt: skip
TINY = dict(
    hidden_size=256, intermediate_size=512, moe_intermediate_size=128,
    num_experts=16, num_experts_per_tok=4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=64, vocab_size=1024,
)  # fmt: skip


def qwen3_moe(folder, shape, num_layers):
    """Writes `folder`/config.json of a Qwen3-MoE model and returns the folder's name."""
    config = dict(
        architectures=["Qwen3MoeForCausalLM"],
        model_type="qwen3_moe",
        num_hidden_layers=num_layers,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        norm_topk_prob=True,
        hidden_act="silu",
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        attention_bias=False,
        attention_dropout=0.0,
        use_sliding_window=False,
        bos_token_id=0,
        eos_token_id=1,
        torch_dtype="bfloat16",
        **shape,
    )
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return str(folder)


SHAPES = {"tiny": TINY, "30b": QWEN3_30B_A3B, "deepseek": DEEPSEEK_V3_MOE}


def write_config(parent, name, num_layers):
    """(folder with the config.json of SHAPES[name], the shape)."""
    return qwen3_moe(pathlib.Path(parent) / name, SHAPES[name], num_layers), SHAPES[name]


def toy_tokenizer(folder, vocab_size):
    """Adds a word-level tokenizer with one word per id, which `vllm serve` asks for."""
    vocab = {f"w{i}": i for i in range(vocab_size)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    }
    folder = pathlib.Path(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "w0", "eos_token": "w1"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
