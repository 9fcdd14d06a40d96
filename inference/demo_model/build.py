"""Build tiny models without any download.

  python -m inference.demo_model.build demo DIRECTORY [--steps N]   the trained chat model (torch, transformers, tokenizers, gguf)
  python -m inference.demo_model.build random FILE [--dim N ...]    random weights for tests (numpy and gguf; the same bits each time)

`demo` writes demo-f16.gguf, demo-q8_0.gguf, hf/ (a transformers directory) and report.json. The architecture is llama, the
tokenizer byte-level BPE (llama.cpp: model "gpt2", pre "gpt-2"), the chat template ChatML.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import time

import numpy as np

from inference.demo_model import corpus

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE, in byte order (the usual GPT-2 table)."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + extra)
            extra += 1
    return [table[b] for b in range(256)]


def write_gguf(path, *, name, tokens, merges, cfg, tensors, quant="f16", pooling=None, shard_tensors=0):
    """Return the files' size. `tensors` maps llama.cpp's names to float32 arrays of shape (out, in), as in torch.

    With `shard_tensors` the model is split into files of so many tensors, `NAME-00001-of-0000N.gguf` and so on.
    """
    import gguf

    w = gguf.GGUFWriter(str(path), "llama", split_max_tensors=shard_tensors)
    w.add_name(name)
    w.add_license("mit")
    w.add_context_length(cfg["ctx"])
    w.add_embedding_length(cfg["dim"])
    w.add_block_count(cfg["layers"])
    w.add_feed_forward_length(cfg["ff"])
    w.add_head_count(cfg["heads"])
    w.add_head_count_kv(cfg["kv_heads"])
    w.add_rope_dimension_count(cfg["dim"] // cfg["heads"])
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    if pooling is not None:
        w.add_pooling_type(pooling)
    w.add_file_type({"f32": 0, "f16": 1, "q8_0": 7}[quant])
    w.add_quantization_version(2)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges(merges)
    ids = {t: i for i, t in enumerate(tokens)}
    w.add_bos_token_id(ids["<|endoftext|>"])
    w.add_eos_token_id(ids["<|im_end|>"])
    w.add_pad_token_id(ids["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)
    for key, value in tensors.items():
        value = np.ascontiguousarray(value, dtype=np.float32)
        if value.ndim == 1 or quant == "f32":
            w.add_tensor(key, value)
        elif quant == "f16":
            w.add_tensor(key, value.astype(np.float16))
        else:
            q = gguf.GGMLQuantizationType.Q8_0
            w.add_tensor(key, gguf.quants.quantize(value, q), raw_dtype=q)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    path = pathlib.Path(path)
    files = path.parent.glob(f"{path.stem}-*-of-*.gguf") if shard_tensors else [path]
    return sum(file.stat().st_size for file in files)


def random_model(
    path,
    *,
    dim=64,
    layers=2,
    heads=4,
    kv_heads=None,
    ff=192,
    ctx=2048,
    extra_vocab=0,
    quant="f16",
    seed=0,
    name="random-tiny",
    pooling=None,
    shard_tensors=0,
):
    """Return the file's size and its number of weights. numpy has frozen `RandomState`, so the file is the same everywhere."""
    rng = np.random.RandomState(seed)
    kv_heads = kv_heads or heads
    # llama.cpp refuses a BPE vocabulary with an empty merge list, hence the one merge (two spaces)
    tokens = byte_alphabet() + ["\u0120\u0120"] + [f"<extra_{i}>" for i in range(extra_vocab)] + SPECIAL
    v, hd = len(tokens), dim // heads

    def mat(o, i):
        if o * i > 4_000_000:  # big synthetic models: quick, repetitive noise is good enough
            block = rng.standard_normal(1_000_003).astype(np.float32)
            return np.resize(block, (o, i)) * (0.5 / math.sqrt(i))
        return rng.standard_normal((o, i)).astype(np.float32) * (0.5 / math.sqrt(i))

    # greedy output stays printable ASCII: llama-cpp-python overruns max_tokens when lead bytes of UTF-8 repeat without end
    embd = mat(v, dim)
    printable = np.array([(len(x) == 1 and 33 <= ord(x) < 127) or x == "\u0120" for x in tokens])
    embd[~printable] *= 0.01
    t = {"token_embd.weight": embd, "output_norm.weight": np.ones(dim, np.float32)}
    for n in range(layers):
        p = f"blk.{n}."
        t[p + "attn_norm.weight"] = np.ones(dim, np.float32)
        t[p + "attn_q.weight"] = mat(dim, dim)
        t[p + "attn_k.weight"] = mat(hd * kv_heads, dim)
        t[p + "attn_v.weight"] = mat(hd * kv_heads, dim)
        t[p + "attn_output.weight"] = mat(dim, dim)
        t[p + "ffn_norm.weight"] = np.ones(dim, np.float32)
        t[p + "ffn_gate.weight"] = mat(ff, dim)
        t[p + "ffn_up.weight"] = mat(ff, dim)
        t[p + "ffn_down.weight"] = mat(dim, ff)
    cfg = {"dim": dim, "layers": layers, "heads": heads, "kv_heads": kv_heads, "ff": ff, "ctx": ctx}
    size = write_gguf(
        path,
        name=name,
        tokens=tokens,
        merges=["\u0120 \u0120"],
        cfg=cfg,
        tensors=t,
        quant=quant,
        pooling=pooling,
        shard_tensors=shard_tensors,
    )
    return size, sum(a.size for a in t.values())


def train_tokenizer(vocab_size: int):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    gen = corpus.chats(seed=7)
    texts = [m["content"] for _ in range(6000) for m in next(gen)] + ["system\n", "user\n", "assistant\n"] * 50
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=SPECIAL,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return tok


def encode_chat(tok, messages):
    """Token ids and a weight per token: 1 for what the assistant says, 0.1 for the rest."""
    s, e = tok.token_to_id("<|im_start|>"), tok.token_to_id("<|im_end|>")
    ids, wts = [], []
    for m in messages:
        body = tok.encode(m["content"]).ids
        head = [s, *tok.encode(m["role"] + "\n").ids]
        nl = tok.encode("\n").ids
        good = 1.0 if m["role"] == "assistant" else 0.1
        ids += head + body + [e] + nl
        wts += [0.0] * len(head) + [good] * (len(body) + 1) + [0.0] * len(nl)
    return ids, wts


def batches(tok, rows, width, seed):
    import torch

    gen, end = corpus.chats(seed), tok.token_to_id("<|endoftext|>")
    ids, wts = [], []
    while True:
        while len(ids) < rows * (width + 1):
            i, w = encode_chat(tok, next(gen))
            ids += [*i, end]
            wts += [*w, 0.0]
        n = rows * (width + 1)
        x = torch.tensor(ids[:n]).view(rows, width + 1)
        y = torch.tensor(wts[:n]).view(rows, width + 1)
        ids, wts = ids[n:], wts[n:]
        yield x[:, :-1], x[:, 1:], y[:, 1:]


def reply(model, tok, messages, limit=80):
    import torch

    ids, _ = encode_chat(tok, messages)
    ids += [tok.token_to_id("<|im_start|>"), *tok.encode("assistant\n").ids]
    out = model.generate(
        torch.tensor([ids]),
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=tok.token_to_id("<|im_end|>"),
        pad_token_id=tok.token_to_id("<|endoftext|>"),
    )
    return tok.decode(out[0, len(ids) :].tolist(), skip_special_tokens=True)


def demo(out, *, steps, vocab, dim, layers, heads, ff, rows, width, lr, threads, evaluate=1, seed=1):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    t0 = time.time()
    tok = train_tokenizer(vocab)
    cfg = LlamaConfig(
        vocab_size=tok.get_vocab_size(),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=ff,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=tok.token_to_id("<|endoftext|>"),
        eos_token_id=tok.token_to_id("<|im_end|>"),
        pad_token_id=tok.token_to_id("<|endoftext|>"),
    )
    model = LlamaForCausalLM(cfg)
    params = sum(p.numel() for p in model.parameters())
    opt = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.05)
    feed = batches(tok, rows, width, seed)
    model.train()
    for step in range(steps):
        for g in opt.param_groups:
            g["lr"] = lr * min(1.0, (step + 1) / 60) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        x, y, w = next(feed)
        logits = model(input_ids=x, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.size(-1)), y.reshape(-1), reduction="none")
        loss = (loss * w.reshape(-1)).sum() / w.sum()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.3f} {time.time() - t0:.0f}s", flush=True)
    trained = time.time() - t0
    model.eval()

    held = corpus.held_out() if evaluate else []
    with torch.no_grad():
        hits = sum(reply(model, tok, [{"role": "user", "content": q.capitalize() + "?"}]) == a for q, a in held)
        seen = [(q, a) for qs, a in corpus.TRAIN for q in qs] if evaluate else []
        hits_seen = sum(reply(model, tok, [{"role": "user", "content": q.capitalize() + "?"}]) == a for q, a in seen)

    hf = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=SPECIAL[0], eos_token=SPECIAL[2], pad_token=SPECIAL[0])
    hf.chat_template = TEMPLATE
    hf.save_pretrained(out / "hf")
    model.to(torch.float16).save_pretrained(out / "hf")
    model.float()
    sizes = export(out, model, tok, dim, layers, heads, ff)
    report = {
        "params": params,
        "vocab": tok.get_vocab_size(),
        "steps": steps,
        "train_s": round(trained),
        "last_loss": round(loss.item(), 4),
        "seen_exact": f"{hits_seen}/{len(seen)}",
        "held_out_exact": f"{hits}/{len(held)}",
        "sizes": sizes,
    }
    (out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report))


def export(out, model, tok, dim, layers, heads, ff):
    def rope_order(m):  # torch keeps the two rotary halves apart, llama.cpp interleaves them
        return m.reshape(heads, 2, m.shape[0] // heads // 2, m.shape[1]).swapaxes(1, 2).reshape(m.shape)

    sd = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    t = {"token_embd.weight": sd["model.embed_tokens.weight"], "output_norm.weight": sd["model.norm.weight"]}
    for n in range(layers):
        h, g = f"model.layers.{n}.", f"blk.{n}."
        t[g + "attn_norm.weight"] = sd[h + "input_layernorm.weight"]
        t[g + "attn_q.weight"] = rope_order(sd[h + "self_attn.q_proj.weight"])
        t[g + "attn_k.weight"] = rope_order(sd[h + "self_attn.k_proj.weight"])
        t[g + "attn_v.weight"] = sd[h + "self_attn.v_proj.weight"]
        t[g + "attn_output.weight"] = sd[h + "self_attn.o_proj.weight"]
        t[g + "ffn_norm.weight"] = sd[h + "post_attention_layernorm.weight"]
        t[g + "ffn_gate.weight"] = sd[h + "mlp.gate_proj.weight"]
        t[g + "ffn_up.weight"] = sd[h + "mlp.up_proj.weight"]
        t[g + "ffn_down.weight"] = sd[h + "mlp.down_proj.weight"]
    state = json.loads(tok.to_str())["model"]
    tokens = [k for k, _ in sorted(state["vocab"].items(), key=lambda kv: kv[1])]
    merges = [m if isinstance(m, str) else " ".join(m) for m in state["merges"]]
    cfg = {"dim": dim, "layers": layers, "heads": heads, "kv_heads": heads, "ff": ff, "ctx": 2048}
    return {
        q: write_gguf(
            out / f"demo-{q}.gguf", name="gateway-demo", tokens=tokens, merges=merges, cfg=cfg, tensors=t, quant=q
        )
        for q in ("f16", "q8_0")
    }


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="cmd", required=True)
    d = sub.add_parser("demo")
    d.add_argument("out")
    for flag, kind, default in [
        ("steps", int, 2000),
        ("vocab", int, 768),
        ("dim", int, 128),
        ("layers", int, 3),
        ("heads", int, 4),
        ("ff", int, 352),
        ("rows", int, 16),
        ("width", int, 256),
        ("lr", float, 3e-3),
        ("threads", int, 2),
        ("evaluate", int, 1),
    ]:
        d.add_argument("--" + flag, type=kind, default=default)
    r = sub.add_parser("random")
    r.add_argument("out")
    for flag, kind, default in [
        ("dim", int, 64),
        ("layers", int, 2),
        ("heads", int, 4),
        ("kv-heads", int, None),
        ("ff", int, 192),
        ("ctx", int, 2048),
        ("extra-vocab", int, 0),
        ("quant", str, "f16"),
        ("seed", int, 0),
        ("pooling", int, None),
        ("shard-tensors", int, 0),
    ]:
        r.add_argument("--" + flag, type=kind, default=default)
    a = vars(ap.parse_args())
    cmd, target = a.pop("cmd"), a.pop("out")
    if cmd == "demo":
        demo(target, **a)
    else:
        print("bytes, parameters:", random_model(target, **a))


if __name__ == "__main__":
    main()
