"""The smallest run of training that has everything: two sources, sparse weights, checkpoints."""

import copy

MAPPING = {
    "model": {
        "vocab_size": 300,
        "context": 16,
        "n_layers": 2,
        "d_model": 16,
        "d_head": 8,
        "bigram": "none",
        "unroll": False,
        "activation_fraction": None,
    },
    "sparsity": {"fraction": 0.5},
    "optimizer": {"learning_rate": 0.02},
    "data": {
        "tokenizer_bytes": 20_000,
        "sources": {
            "simple": {"kind": "simple_python", "examples": 60},
            "mine": {"kind": "text", "weight": 0.5},
        },
    },
    "training": {
        "steps": 8,
        "batch_size": 4,
        "log_every": 1,
        "evaluate_every": 4,
        "evaluation_windows": 4,
        "checkpoint_every": 4,
    },
}


def tiny(directory):
    """A run that takes seconds, as nested dicts, with its data in `directory`."""
    text = directory / "mine.txt"
    if not text.exists():
        text.write_text("\n\n".join(f"line {i} of {i * i} words" for i in range(400)))
    mapping = copy.deepcopy(MAPPING)
    mapping["data"]["directory"] = str(directory)
    mapping["data"]["sources"]["mine"]["paths"] = (str(text),)
    return mapping


def lean(directory):
    """`tiny` without biases and sinks, where all leaves are alike: compiling takes time for each of them."""
    mapping = tiny(directory)
    mapping["model"] |= {"bias": False, "attention_sink": False}
    return mapping
