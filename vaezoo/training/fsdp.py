"""Fully sharded training (FSDP2): sharding a model, loading weights into it and using it unsharded.

Each layer of encoder and decoder gathers its weights when it is called and frees them afterwards. Other parameters,
such as the scale of a likelihood, are replicated, and their gradients are averaged.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from vaezoo.config.errors import ConfigError
from vaezoo.training.lightning_internals import AllDevicesShard

FUSED_WHEN_SHARDED = ("Adam", "AdamW")
"""Optimisers of torch whose fused implementation supports sharded weights, if all are sharded."""


class FullyShardedStrategy(AllDevicesShard):
    """Lightning's ModelParallelStrategy with weights sharded over all devices and each checkpoint in a single file.

    Args:
        process_group_backend: by default NCCL on GPUs and gloo on CPUs.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )

    def setup_environment(self) -> None:
        super().setup_environment()
        model: Any = self.lightning_module
        model.configure_model = partial(shard, model, self.device_mesh["data_parallel"])


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Shard encoder and decoder over a mesh, unless already sharded; average the gradients of other parameters."""
    if is_sharded(model):
        return
    for name, parameter in model.named_parameters():
        if not name.startswith(("encoder.", "decoder.")):
            parameter.register_hook(partial(_average, mesh=mesh))
    for network in (model.encoder, model.decoder):
        network.to(memory_format=torch.contiguous_format)  # FSDP2 shards contiguous weights only
        for layer in network.children():
            if any(True for _ in layer.parameters()):
                fully_shard(layer, mesh=mesh)
        fully_shard(network, mesh=mesh)


def _average(gradient: Tensor, mesh: DeviceMesh) -> Tensor:
    """The mean of a gradient over the devices of a mesh. Collective."""
    total = gradient.clone()
    torch.distributed.all_reduce(total, group=mesh.get_group())
    return total / mesh.size()


def check(trainer: Any, model: Any, *, compiled: bool) -> None:
    """ConfigError for settings, models, or a torch, that do not support sharded weights."""
    if not isinstance(trainer.strategy, FullyShardedStrategy):
        return
    reasons = {
        "has its weights averaged (callbacks=ema), which needs unsharded weights": any(
            isinstance(callback, WeightAveraging) for callback in trainer.callbacks
        ),
        "has a critic, which is used with and without gradients in the same step": bool(model.critics),
        "is compiled as a whole (compile=true), because it gathers weights layer by layer": compiled,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(f"trainer=fsdp2 cannot train a model that {reason}; use trainer=ddp")
    if not supported():
        raise ConfigError(
            f"trainer=fsdp2 needs torch 2.9 or newer, and this is torch {torch.__version__}; use trainer=ddp"
        )


def supported() -> bool:
    """Whether the installed torch computes with sharded weights what it should.

    On two CPUs, torch 2.6 fails at the first step and torch 2.8 doubles gradients without a word; 2.6 and 2.7 lack what
    ``gathered`` needs on any device.
    """
    return torch.__version__ >= "2.9"  # compared as a version, not as a text


def is_sharded(module: nn.Module) -> bool:
    """Whether any parameter of a module is sharded."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def can_be_fused(module: nn.Module, optimizer: str) -> bool:
    """Whether the fused implementation of this class of ``torch.optim`` takes the module's parameters as they are."""
    if not is_sharded(module):
        return True
    everywhere = all(isinstance(parameter, DTensor) for parameter in module.parameters())
    return everywhere and optimizer in FUSED_WHEN_SHARDED


def whole(value: Tensor) -> Tensor:
    """The full tensor of a sharded one; any other tensor as it is. Collective."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load an unsharded state dict into a model, sharded or not."""
    if is_sharded(model):
        set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        model.load_state_dict(weights)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within the block, every rank has all weights, so that a single rank can use the model. Collective."""
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
