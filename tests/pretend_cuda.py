"""A device that is CUDA to PyTorch and computes on the CPU, for what only CUDA refuses.

The CPU's kernels are lenient: many take inputs of one dtype and weights of another, autocast has
other lists there, and every tensor is on the one device. Tensors of `PretendCuda` say that they are
on ``cuda:0``, so that PyTorch applies CUDA's autocast rules; each operation on them is checked by
CUDA's rules and then computed on the CPU with real numbers. 16-bit matmuls and convolutions sum in
float32, as tensor cores do.

What is checked (`CudaRefusesError` is raised):

- operands, weights and biases of one dtype in matmuls, convolutions, layer and group normalisation
  and attention; 16 bits and float32 together in batch normalisation only as CUDA has it;
- the same for concatenations, which would silently promote, and for writes by index;
- no matmuls of integers, no bilinear interpolation of them;
- all operands on the device; only single numbers and indices may be on the CPU.

Speed, Triton's kernels and the rounding of CUDA's own kernels are not imitated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vots_hqtrack import frame
from vots_hqtrack.ops import resize

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")

MATMULS = {
    "mm", "bmm", "mv", "dot", "vdot", "addmm", "addmv", "addbmm", "baddbmm", "matmul", "linear",
    "einsum", "bilinear", "_addmm_activation",
    "convolution", "_convolution", "convolution_backward", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "scaled_dot_product_attention", "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
}  # fmt: skip
NORMS = {
    "layer_norm", "native_layer_norm", "group_norm", "native_group_norm",
    "instance_norm", "rms_norm",
}  # fmt: skip
BATCH_NORMS = {
    "batch_norm", "native_batch_norm", "cudnn_batch_norm", "_batch_norm_impl_index",
    "_native_batch_norm_legit", "_batch_norm_with_update", "_native_batch_norm_legit_no_training",
}  # fmt: skip
JOINS = {"cat", "concat", "concatenate", "stack", "hstack", "vstack"}
WRITES = {
    "index_put", "index_put_", "_index_put_impl_", "scatter", "scatter_", "scatter_add",
    "scatter_add_", "index_copy", "index_copy_", "index_add", "index_add_", "masked_scatter",
    "masked_scatter_", "lerp", "lerp_", "embedding_bag", "_embedding_bag",
    "_embedding_bag_forward_only",
}  # fmt: skip
ONE_DTYPE = MATMULS | NORMS | JOINS | WRITES
RESIZES = ("upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa")
IN_FULL_PRECISION = {
    "layer_norm", "group_norm", "softmax", "log_softmax", "cross_entropy", "nll_loss", "pow", "exp",
    "log", "sum", "prod", "cumsum", "norm", "softplus", "binary_cross_entropy_with_logits",
}  # fmt: skip
BETWEEN_DEVICES = {"to", "_to_copy", "copy_", "copy", "lift_fresh", "lift", "detach", "alias"}
TAKES_CPU_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class CudaRefusesError(RuntimeError):
    """CUDA would refuse the operation, or it mixes dtypes unseen."""


class PretendCuda(Tensor):
    """A tensor that says it is on ``cuda:0``.

    Args:
        inner: The numbers, on the CPU; shared, not copied.
    """

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendCuda:
        # A view of a tensor that was made before inference mode is not an inference tensor.
        with torch.inference_mode(inner.is_inference()):
            made: PretendCuda = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=CUDA,
            )
        return made

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"PretendCuda({self.dtype}, {tuple(self.shape)})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    """Sees operations with all arguments on the CPU, but with a result that shall not be."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Makes tensors on the device where PyTorch would look for the real one first."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        kwargs.pop("pin_memory", None)
        if name == "tolist" and isinstance(args[0], PretendCuda):
            return args[0].inner.tolist()
        if name == "to":
            moved = _move(args[0], args[1:], kwargs)
            return func(*args, **kwargs) if moved is None else moved
        if name == "__getitem__" and isinstance(args[1], tuple):
            # PyTorch would bring lists to the device itself.
            index = [torch.tensor(item) if isinstance(item, list) else item for item in args[1]]
            return func(args[0], tuple(index))
        if func is F.embedding_bag:
            # It makes offsets of its own, out of sight of this mode.
            return _dispatch(func, args, kwargs)
        is_made_like = name.startswith("new_") or name.endswith("_like")
        if is_made_like and args and isinstance(args[0], PretendCuda):
            target = kwargs.pop("device", CUDA)
            made = func(args[0].inner, *args[1:], **kwargs)
            return PretendCuda(made) if _is_cuda(target) else made
        if _is_cuda(kwargs.get("device")):
            return PretendCuda(func(*args, **{**kwargs, "device": CPU}))
        return func(*args, **kwargs)


@contextlib.contextmanager
def pretend_cuda() -> Iterator[torch.device]:
    """Give the device; inside, tensors can be made on it and moved to it and back."""
    torch._C._ensureCUDADeviceGuardSet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        # Modules that are moved get new parameters, because their type changes.
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        _forget_tables()
        with _Functions(), _Dispatch():
            yield CUDA
        _forget_tables()


def _forget_tables() -> None:
    """Drop tables that the package keeps by device: this device has the name of a real one."""
    tables = (frame._pixel_statistics, frame._aligned_levels, frame._nearest, frame._bilinear)
    for table in (*tables, resize._interpolation):
        table.cache_clear()


@contextlib.contextmanager
def cuda_dtypes() -> Iterator[None]:
    """Check dtypes of tensors that are on the CPU, backward passes included.

    Autocast on the CPU takes what CUDA's computes in float32 in float32 too. PyTorch's backward
    pass wants the real driver for tensors of `PretendCuda`, hence this second way.
    """
    with _FullPrecision(), _Check():
        yield


class SumInFloat32(TorchDispatchMode):
    """Computes 16-bit matmuls and convolutions on the CPU as tensor cores do.

    Processors without instructions for them take forty times as long to give the same, up to the
    order of the sums.
    """

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in MATMULS:
            tensors = [item for item in _leaves((args, kwargs)) if isinstance(item, Tensor)]
            kinds = {(item.dtype, item.device) for item in tensors}
            # PyTorch itself refuses mixtures.
            if kinds in ({(torch.bfloat16, CPU)}, {(torch.float16, CPU)}):
                return _in_float32(func, args, dict(kwargs))
        return func(*args, **kwargs)


class _FullPrecision(TorchFunctionMode):
    """Brings what CUDA's autocast computes in float32 to float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu") and getattr(func, "__name__", "") in IN_FULL_PRECISION:
            args, kwargs = _map(_widen, args), _map(_widen, kwargs)
        return func(*args, **kwargs)


class _Check(TorchDispatchMode):
    """Checks the dtypes of every operation."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tensors = [item for item in _leaves((args, kwargs or {})) if isinstance(item, Tensor)]
        check_dtypes(func.overloadpacket.__name__, tensors)
        return func(*args, **(kwargs or {}))


def _move(tensor: Tensor, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
    """Move a tensor to the device as ``tensor.to(*args, **kwargs)``; None if it stays where it is.

    What is there already changes its dtype and layout only.
    """
    rest = {key: value for key, value in kwargs.items() if key != "copy"}
    device, dtype, _, layout = torch._C._nn._parse_to(*args, **rest)
    if not _is_cuda(device):
        return None
    moved = tensor.to(dtype or tensor.dtype)
    if layout is not None:
        moved = moved.contiguous(memory_format=layout)
    if isinstance(moved, PretendCuda):
        return moved
    # On the device it has memory of its own.
    return PretendCuda(moved.detach().clone() if moved is tensor else moved)


def _is_cuda(device: object) -> bool:
    return isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda"


def _dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "overloadpacket", func).__name__
    leaves = list(_leaves((args, kwargs)))
    tensors = [item for item in leaves if isinstance(item, Tensor)]
    targets = [item for item in leaves if isinstance(item, torch.device)]
    on_device = [item for item in tensors if isinstance(item, PretendCuda)]
    if not on_device and not any(_is_cuda(item) for item in targets):
        return func(*args, **kwargs)
    _check_devices(name, args, tensors)
    check_dtypes(name, tensors)
    inner_args, inner_kwargs = _map(_unwrap, args), _map(_unwrap, kwargs)
    if name in ("_softmax", "_log_softmax") and args[2]:
        # CUDA goes from 16 bits to float32 in the same pass.
        inner_args = (inner_args[0].float(), inner_args[1], False)
    if name in MATMULS and any(item.dtype.itemsize == 2 for item in on_device):
        found = _in_float32(func, inner_args, inner_kwargs)
    else:
        found = func(*inner_args, **inner_kwargs)
    if targets and not any(_is_cuda(item) for item in targets):
        return found
    if name == "copy_" and not isinstance(args[0], PretendCuda):
        return args[0]
    # What is written in place stays the tensor that it was.
    owners = {id(item.inner): item for item in on_device}

    def wrap(item: object) -> object:
        if not isinstance(item, Tensor):
            return item
        known = owners.get(id(item))
        return PretendCuda(item) if known is None else known

    return _map(wrap, found)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)([_map(change, item) for item in value])
    if isinstance(value, dict):
        return {key: _map(change, item) for key, item in value.items()}
    return change(value)


def _unwrap(item: object) -> object:
    if isinstance(item, PretendCuda):
        return item.inner
    return CPU if isinstance(item, torch.device) else item


def _widen(item: object) -> object:
    return item.float() if isinstance(item, Tensor) and item.is_floating_point() else item


def _in_float32(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute in float32 and round the results, as tensor cores do."""
    out = kwargs.pop("out", None)
    tensors = [item for item in _leaves((args, kwargs)) if isinstance(item, Tensor)]
    dtype = next(item.dtype for item in tensors if item.dtype.itemsize == 2)

    def narrow(item: object) -> object:
        return item.to(dtype) if isinstance(item, Tensor) else item

    overload = func if out is None else func.overloadpacket.default
    found = _map(narrow, overload(*_map(_widen, args), **_map(_widen, kwargs)))
    return found if out is None else out.copy_(found)


def _check_devices(name: str, args: Any, tensors: list[Tensor]) -> None:
    if name in BETWEEN_DEVICES:
        return
    if name in TAKES_CPU_INDICES and isinstance(args[0], PretendCuda):
        tensors = [args[0], *(item for item in args[2:3] if isinstance(item, Tensor))]
    strangers = [item for item in tensors if not isinstance(item, PretendCuda) and item.ndim > 0]
    if strangers and len(strangers) < len(tensors):
        shapes = ", ".join(f"{_name(item)} {tuple(item.shape)}" for item in strangers)
        raise CudaRefusesError(f"{name}: tensors on the CPU among those on CUDA: {shapes}")


def check_dtypes(name: str, tensors: Sequence[Tensor]) -> None:
    """Check the dtypes of what an operation is given.

    Args:
        name: Name of the operation in ``torch.ops.aten``, without its overload.
        tensors: Its arguments, what it writes to among them.

    Raises:
        CudaRefusesError: CUDA has no kernel for them, or 16 bits would be promoted unseen.
    """
    got = ", ".join(_name(item) for item in tensors)
    floats = [item for item in tensors if item.is_floating_point()]
    if (name in MATMULS and len(floats) < len(tensors)) or (name in RESIZES and not floats):
        raise CudaRefusesError(f"{name}: CUDA has no such kernel for {got}")
    if name in BATCH_NORMS:
        rest = {item.dtype for item in floats[1:]}
        if rest and rest != {torch.float32} and rest != {floats[0].dtype}:
            raise CudaRefusesError(
                f"{name}: weights must be float32 or of the input's dtype, got {got}"
            )
    elif name in ONE_DTYPE and len({item.dtype for item in floats}) > 1:
        raise CudaRefusesError(f"{name}: dtypes must be one, got {got}")


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
