"""A plain dense GPT-2 in PyTorch, to be timed as a baseline of our dense step.

Untied embeddings, RMSNorm, exact GELU, fused causal attention, gradients clipped to 1, fused AdamW, float32.
Weights and tokens are random.
"""

from collections.abc import Callable

from experiments.bench.train_steps import Size
from sparse_jax.inputs import InputError

D_HEAD = 16


def gpt2(vocabulary: int, context: int, layers: int, width: int):
    """A module from tokens [B, T] to logits [B, T, V]; needs PyTorch."""
    import torch
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x):
            heads = self.qkv(self.attn_norm(x)).unflatten(-1, (3, -1, D_HEAD)).permute(2, 0, 3, 1, 4)
            read = scaled_dot_product_attention(*heads, is_causal=True)
            x = x + self.out(read.transpose(1, 2).flatten(2))
            return x + self.mlp(self.mlp_norm(x))

    class Gpt2(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.unembed = nn.RMSNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, tokens):
            places = torch.arange(tokens.shape[1], device=tokens.device)
            return self.unembed(self.norm(self.blocks(self.embed(tokens) + self.position(places))))

    return Gpt2()


def training_step(size: Size) -> Callable[[], float]:
    """A function that makes one update. Raises InputError if PyTorch is missing."""
    try:
        import torch
    except ImportError:
        raise InputError("--torch needs PyTorch; valid: pip install -e '.[torch]'") from None
    torch.manual_seed(0)
    model = gpt2(size.vocab_size, size.context, size.n_layers, size.d_model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    tokens = torch.randint(size.vocab_size, (size.batch_size, size.context + 1))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = model(tokens[:, :-1]).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step
