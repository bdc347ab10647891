"""An autoregressive prior over the indices of discrete codes, which is fitted after the autoencoder."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.nn.index_layout import IndexLayout

HEADS = 4
"""Attention heads, of which the width is a multiple."""

AT_ONCE = 2**26
"""Maximum number of logits, or of keys and values, in memory at once: 256 MiB."""


class IndexTransformer(nn.Module):
    """p(i) = prod_t p(i_t | i_1, ..., i_(t-1)) of sequences of T indices, by a transformer with causal attention.

    As the prior of van den Oord et al. (2017) over a map of indices in raster order, with attention in place of masked
    convolutions. Its last layers are 0, so that before training it is the uniform distribution.

    Args:
        layout: the codebook of each place of a sequence.
        width: features of a position, a multiple of ``HEADS``; layers: number of blocks.
    """

    def __init__(self, layout: IndexLayout, *, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.layout, self.length = layout, layout.length
        self.books, self.starts = [0] * self.length, [0] * self.length
        """Of each place: the number of its codebook, and of the first row of the embedding that is for this."""
        for number, book in enumerate(layout.codebooks):
            for place in range(self.length)[book.places]:
                self.books[place], self.starts[place] = number, sum(layout.sizes[:number])
        self.embedding = nn.Embedding(sum(layout.sizes) + 1, width)  # the last one begins every sequence
        self.places = nn.Parameter(0.02 * torch.randn(self.length, width))
        block = nn.TransformerEncoderLayer(
            width, HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.last_norm = nn.LayerNorm(width)
        self.body = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in layout.sizes)
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)

    @property
    def rows(self) -> int:
        """Number of sequences whose logits fit into memory at once."""
        return max(1, AT_ONCE // (self.length * max(self.layout.sizes)))

    def log_probs(self, sequence: Tensor) -> Tensor:
        """log p(i_t | i_1, ..., i_(t-1)) of each index, in nats: int64 (B, T) -> (B, T)."""
        hidden = self._hidden(sequence)
        found = torch.zeros_like(sequence, dtype=hidden.dtype)
        for book, head in zip(self.layout.codebooks, self.heads, strict=True):
            logits = head(hidden[:, book.places]).movedim(-1, 1)
            found[:, book.places] = -F.cross_entropy(logits, sequence[:, book.places], reduction="none")
        return found

    def _hidden(self, sequence: Tensor) -> Tensor:
        """Features of each place, which depend on the indices before it: (B, T) -> (B, T, W)."""
        shift = torch.tensor(self.starts, device=sequence.device)
        tokens = torch.cat([self._first(len(sequence))[:, None], (sequence + shift)[:, :-1]], 1)
        mask = nn.Transformer.generate_square_subsequent_mask(self.length, device=sequence.device)
        hidden: Tensor = self.last_norm(self.body(self.embedding(tokens) + self.places, mask=mask, is_causal=True))
        return hidden

    def _first(self, count: int) -> Tensor:
        return torch.full((count,), self.embedding.num_embeddings - 1, device=self.places.device)

    @torch.no_grad()
    def sample(self, noise: Tensor) -> Tensor:
        """Sequences from uniform noise in [0, 1), one number for each index: (B, T) -> int64 (B, T).

        Keys and values of earlier places are kept, so that each place is computed once.
        """
        count = len(noise)
        memory = [self.places.new_zeros(2, count, self.length, self.places.shape[1]) for _ in self.body.layers]
        token, found = self._first(count), torch.empty_like(noise, dtype=torch.int64)
        for place in range(self.length):
            hidden = self.embedding(token) + self.places[place]
            for block, kept in zip(self.body.layers, memory, strict=True):
                hidden = _step(block, hidden, kept, place)
            logits = self.heads[self.books[place]](self.last_norm(hidden))
            found[:, place] = _chosen(logits, noise[:, place])
            token = found[:, place] + self.starts[place]
        return found


def _step(block: nn.Module, hidden: Tensor, kept: Tensor, place: int) -> Tensor:
    """A block at one place, (B, W) -> (B, W), which adds its key and value to those ``kept``, (2, B, T, W)."""
    attention: nn.MultiheadAttention = block.self_attn  # type: ignore[assignment]
    query, *new = F.linear(block.norm1(hidden), attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)  # type: ignore[operator]
    kept[:, :, place] = torch.stack(new)
    query, keys, values = (
        part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in (query[:, None], kept[0, :, : place + 1], kept[1, :, : place + 1])
    )
    seen = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(1)
    hidden = hidden + attention.out_proj(seen)
    return hidden + block.linear2(F.gelu(block.linear1(block.norm2(hidden))))  # type: ignore[operator]


def _chosen(logits: Tensor, noise: Tensor) -> Tensor:
    """The index at which the cumulative probability exceeds the noise: (B, K) and (B,) -> (B,)."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    at = torch.searchsorted(cumulative, (noise * cumulative[:, -1])[:, None], right=True)
    return at[:, 0].clamp(max=logits.shape[-1] - 1)


class IndexPrior:
    """p(i) of the indices of an image: a network over their sequences.

    It is no module, so that it does not belong to the weights of the autoencoder whose indices it models.
    """

    def __init__(self, network: IndexTransformer) -> None:
        self.network = network.eval().requires_grad_(False)
        self.layout = network.layout

    def to(self, device: torch.device) -> Self:
        """Move the network to ``device``; returns itself."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def log_prob(self, indices: Tensor) -> Tensor:
        """log p(i) in nats: (B, *index_shape) -> (B,), float64."""
        parts = self.layout.sequences(indices).split(self.network.rows)
        return torch.cat([self.network.log_probs(part).double().sum(1) for part in parts])

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws on the device of the network, whatever that of the generator: int64 (count, *index_shape)."""
        device = self.network.places.device
        where = device if generator is None else generator.device
        noise = torch.rand(count, self.network.length, generator=generator, device=where, dtype=torch.double)
        at_once = max(1, AT_ONCE // (2 * self.network.places.numel() * len(self.network.body.layers)))
        drawn = torch.cat([self.network.sample(part) for part in noise.to(device).split(at_once)])
        return self.layout.from_sequences(drawn)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())
