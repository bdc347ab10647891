"""Models divided between devices, weight by weight (FSDP2): made so, loaded and drawn with. It knows no variant.

Each layer of encoder and decoder gathers its weights when it is called, and frees them afterwards. Other parameters,
such as the scale of a likelihood, are whole on every device, and their gradients are averaged.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from vaezoo.config.errors import ConfigError

FUSED_WHEN_SHARDED = ("Adam", "AdamW")
"""Optimisers of torch whose one-kernel step can handle weights that lie in pieces on several devices."""


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's ModelParallelStrategy with all devices sharing the weights, and whole checkpoints in one file.

    Args:
        process_group_backend: what processes talk by; by default NCCL between GPUs and gloo between processors.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
        model: Any = self.lightning_module
        model.configure_model = partial(shard, model, self.device_mesh["data_parallel"])


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Divide encoder and decoder between the devices of a mesh, once, and average the gradients of everything else."""
    if is_sharded(model):
        return
    for name, parameter in model.named_parameters():
        if not name.startswith(("encoder.", "decoder.")):
            parameter.register_hook(partial(_average, mesh=mesh))
    for network in (model.encoder, model.decoder):
        network.to(memory_format=torch.contiguous_format)  # weights in any other order cannot be divided
        for layer in network.children():
            if any(True for _ in layer.parameters()):
                fully_shard(layer, mesh=mesh)
        fully_shard(network, mesh=mesh)


def _average(gradient: Tensor, mesh: DeviceMesh) -> Tensor:
    """The mean of the gradients that the devices of a mesh have for a parameter, of the same shape."""
    total = gradient.clone()
    torch.distributed.all_reduce(total, group=mesh.get_group())
    return total / mesh.size()


def check(trainer: Any, *, compiled: bool) -> None:
    """ConfigError for what does not go together with divided weights."""
    if not isinstance(trainer.strategy, FullyShardedStrategy):
        return
    reasons = {
        "has its weights averaged (callbacks=ema), which needs unsharded weights": any(
            isinstance(callback, WeightAveraging) for callback in trainer.callbacks
        ),
        "is compiled as a whole (compile=true), because it gathers weights layer by layer": compiled,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(f"trainer=fsdp2 cannot train a model that {reason}; use trainer=ddp")


def is_sharded(module: nn.Module) -> bool:
    """Whether some weights of a model lie in pieces on several devices."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole(value: Tensor) -> Tensor:
    """A number or tensor gathered from the devices that have it in pieces, for which all of them must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put whole weights into a model, be it divided or not."""
    if is_sharded(model):
        set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        model.load_state_dict(weights)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Every device has all weights meanwhile, so that one alone can use the model; all must come here together."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True)
            part.reshard()
