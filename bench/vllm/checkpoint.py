# SPDX-License-Identifier: Apache-2.0
"""A tiny Qwen3-MoE checkpoint of random weights: replicas of one expert are equal, which dummy weights are not."""

import pathlib

import models


def write_checkpoint(folder):
    """Writes config.json and model.safetensors of models.TINY, two layers, into `folder`."""
    import torch
    from safetensors.torch import save_file

    shape, layers = models.TINY, 2
    models.qwen3_moe(folder, shape, layers)
    hidden, heads, kv, dim = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"], shape["head_dim"]
    inner, vocab = shape["moe_intermediate_size"], shape["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    weights = {}

    def add(name, *size):
        scale = 1.0 if len(size) == 1 else size[1] ** -0.5
        value = torch.randn(size, generator=generator) * scale
        weights[f"{name}.weight"] = (torch.ones(size) if len(size) == 1 else value).to(torch.bfloat16)

    add("model.embed_tokens", vocab, hidden)
    add("model.norm", hidden)
    add("lm_head", vocab, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            add(f"{at}.{norm}", hidden)
        for part, rows in (("q", heads), ("k", kv), ("v", kv)):
            add(f"{at}.self_attn.{part}_proj", rows * dim, hidden)
        add(f"{at}.self_attn.o_proj", hidden, heads * dim)
        add(f"{at}.self_attn.q_norm", dim)
        add(f"{at}.self_attn.k_norm", dim)
        add(f"{at}.mlp.gate", shape["num_experts"], hidden)
        for expert in range(shape["num_experts"]):
            for part in ("gate", "up"):
                add(f"{at}.mlp.experts.{expert}.{part}_proj", inner, hidden)
            add(f"{at}.mlp.experts.{expert}.down_proj", hidden, inner)
    save_file(weights, pathlib.Path(folder) / "model.safetensors", metadata={"format": "pt"})
