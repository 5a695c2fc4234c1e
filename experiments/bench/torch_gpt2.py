"""A plain dense GPT-2 in PyTorch, to be timed as a baseline."""

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
