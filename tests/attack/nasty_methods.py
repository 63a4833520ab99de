"""Methods that try to change more than their own row. They are not registered when this is imported."""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import os
import resource
import signal
import sys
import threading
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import explainers

SPECS: dict[str, explainers.ExplainerSpec] = {}
EXPECTED: dict[str, str] = {}  # cause that the record of each method must have; "" if it is measured


def nasty(cause, **spec):
    """Note a method, and the cause that is expected in its record."""

    def noted(function):
        name = function.__name__
        EXPECTED[name], SPECS[name] = cause, explainers.ExplainerSpec(name, function, "an attack", **spec)
        return function

    return noted


def grey(images):
    return images.mean(1)


# Inputs and truth


@nasty("input", needs_masks=True)
def writes_into_masks(model, images, targets, *, masks):
    maps = masks.float()
    masks.fill_(True)
    return maps


@nasty("input", needs_masks=True)
def writes_into_masks_as_numpy(model, images, targets, *, masks):
    masks.numpy()[:] = False
    return grey(images)


@nasty("input", needs_masks=True)
def writes_into_object_masks(model, images, targets, *, object_masks):
    object_masks.logical_not_()
    return grey(images)


@nasty("input")
def writes_into_images(model, images, targets):
    maps = grey(images)
    images.zero_()
    return maps


@nasty("input")
def writes_into_images_data(model, images, targets):
    maps = grey(images)
    images.data.mul_(0.5)
    return maps


@nasty("input")
def writes_into_images_as_numpy(model, images, targets):
    maps = grey(images)
    images.numpy()[:, 0] = 1
    return maps


@nasty("input")
def writes_into_targets(model, images, targets):
    targets.zero_()
    return grey(images)


# The model


@nasty("model")
def scales_the_weights(model, images, targets):
    next(model.parameters()).data.mul_(2)
    return grey(images)


@nasty("model")
def changes_a_stride(model, images, targets):
    next(module for module in model.modules() if isinstance(module, nn.Conv2d)).stride = (7, 7)
    return grey(images)


@nasty("model")
def changes_a_padding(model, images, targets):
    next(module for module in model.modules() if isinstance(module, nn.Conv2d)).padding = (9, 9)
    return grey(images)


@nasty("model")
def replaces_a_forward(model, images, targets):
    next(module for module in model.modules() if isinstance(module, nn.Conv2d)).forward = lambda x: x
    return grey(images)


@nasty("model")
def changes_the_class_of_a_module(model, images, targets):
    class Other(nn.ReLU):
        def forward(self, x):
            return x

    next(module for module in model.modules() if isinstance(module, nn.ReLU)).__class__ = Other
    return grey(images)


@nasty("model")
def leaves_a_hook(model, images, targets):
    model.register_forward_hook(lambda module, given, output: output * 0)
    return grey(images)


# The process: PyTorch


class Identity(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return args[0] if func is F.relu else func(*args, **(kwargs or {}))


class Zeros(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        return output * 0 if isinstance(output, torch.Tensor) else output


@nasty("process")
def leaves_saved_tensors_hooks(model, images, targets):
    torch.autograd.graph.saved_tensors_hooks(lambda x: x * 0, lambda x: x).__enter__()
    return grey(images)


@nasty("process")
def leaves_a_function_mode(model, images, targets):
    Identity().__enter__()
    return grey(images)


@nasty("process")
def leaves_a_dispatch_mode(model, images, targets):
    maps = grey(images)
    Zeros().__enter__()
    return maps


@nasty("process")
def replaces_relu(model, images, targets):
    F.relu = lambda x, inplace=False: x
    return grey(images)


@nasty("process")
def replaces_the_forward_of_relus(model, images, targets):
    nn.ReLU.forward = lambda self, x: x
    return grey(images)


@nasty("process")
def replaces_the_forward_of_convolutions(model, images, targets):
    nn.Conv2d.forward = lambda self, x: x
    return grey(images)


@nasty("process")
def replaces_grad(model, images, targets):
    torch.autograd.grad = lambda *given, **more: None
    return grey(images)


@nasty("process")
def replaces_a_tensor_method(model, images, targets):
    torch.Tensor.clamp = lambda self, *given, **more: self
    return grey(images)


@nasty("process")
def leaves_hooks_on_all_modules(model, images, targets):
    torch.nn.modules.module.register_module_forward_hook(lambda module, given, output: output * 0)
    return grey(images)


@nasty("process")
def turns_mkldnn_off(model, images, targets):
    torch.backends.mkldnn.enabled = False
    return grey(images)


@nasty("process")
def sets_the_default_dtype(model, images, targets):
    torch.set_default_dtype(torch.float64)
    return grey(images)


@nasty("process")
def sets_the_threads(model, images, targets):
    torch.set_num_threads(torch.get_num_threads() + 3)
    return grey(images)


# The process: the benchmark


@nasty("process")
def replaces_a_metric(model, images, targets):
    import benchmark.metrics.iou

    benchmark.metrics.iou.iou_auc = lambda maps, masks: np.ones(len(maps))
    return grey(images)


@nasty("process")
def replaces_the_check_of_heatmaps(model, images, targets):
    explainers.Explainer._checked = lambda self, maps, images: maps + 1
    return grey(images)


@nasty("")
def replaces_a_registered_method(model, images, targets):
    explainers.registry._entries["grad_cam"] = explainers.registry.get("random")
    return grey(images)


@nasty("")  # in its process nothing else has loaded the module
def replaces_a_module(model, images, targets):
    import benchmark.metrics.iou

    sys.modules["benchmark.metrics.iou"] = benchmark
    return grey(images)


# The process: Python and the system


@nasty("process")
def replaces_a_builtin(model, images, targets):
    usual = builtins.sum
    builtins.sum = lambda *given, **more: usual(*given, **more) * 2
    return grey(images)


@nasty("process")
def replaces_a_numpy_function(model, images, targets):
    np.nan_to_num = lambda x, *given, **more: x * 0
    return grey(images)


@nasty("process")
def lowers_the_recursion_limit(model, images, targets):
    sys.setrecursionlimit(120)
    return grey(images)


@nasty("process")
def limits_the_size_of_files(model, images, targets):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return grey(images)


@nasty("process")
def limits_open_files(model, images, targets):
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return grey(images)


@nasty("process")
def changes_the_folder(model, images, targets):
    os.chdir("/")
    return grey(images)


@nasty("process")
def changes_the_umask(model, images, targets):
    os.umask(0o777)
    return grey(images)


@nasty("process")
def makes_floating_point_errors_raise(model, images, targets):
    np.seterr(all="raise")
    return grey(images)


@nasty("process")
def takes_the_signals(model, images, targets):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return grey(images)


@nasty("process")
def stops_the_garbage_collector(model, images, targets):
    gc.disable()
    return grey(images)


@nasty("")
def leaves_something_for_the_exit(model, images, targets):
    atexit.register(os._exit, 7)
    return grey(images)


@nasty("process")
def patches_from_a_thread(model, images, targets):
    def patch():
        while True:
            F.relu = lambda x, inplace=False: x

    threading.Thread(target=patch, daemon=True).start()
    time.sleep(0.1)
    return grey(images)


# Ends


@nasty("killed")
def leaves_at_once(model, images, targets):
    os._exit(0)


@nasty("killed")
def kills_itself(model, images, targets):
    os.kill(os.getpid(), signal.SIGKILL)


@nasty("killed")
def crashes(model, images, targets):
    ctypes.string_at(0)


@nasty("killed")
def closes_all_files(model, images, targets):
    os.closerange(3, 256)
    return grey(images)


@nasty("process")
def writes_to_all_files(model, images, targets):
    for number in range(3, 64):
        try:
            os.write(number, (12).to_bytes(4, "big") + b'{"kind":"?"}')
        except OSError:
            continue
    return grey(images)


@nasty("exit")
def exits(model, images, targets):
    sys.exit("bye")


@nasty("fork")
def forks(model, images, targets):
    if os.fork() == 0:
        os._exit(0)
    return grey(images)


@nasty("time")
def hangs(model, images, targets):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        time.sleep(1)


# What it raises and returns


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no")


@nasty("raised")
def raises_what_has_no_text(model, images, targets):
    raise UnspeakableError


@nasty("raised")
def raises_surrogates(model, images, targets):
    raise ValueError("\ud800 half a character")


@nasty("raised")
def raises_ten_megabytes(model, images, targets):
    raise ValueError("x" * 10_000_000)


@nasty("raised")
def raises_terminal_escapes(model, images, targets):
    raise ValueError("\x1b[31mred\x1b]0;title\x07 <script>alert(1)</script> | =1+1")


@nasty("raised")
def raises_an_interrupt(model, images, targets):
    raise KeyboardInterrupt


@nasty("raised")
def overflows_the_stack(model, images, targets):
    return overflows_the_stack(model, images, targets)


class Loud(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("leave me alone")


@nasty("raised")
def returns_a_tensor_of_its_own(model, images, targets):
    return grey(images).as_subclass(Loud)


@nasty("shape")
def returns_too_much(model, images, targets):
    return grey(images).repeat(1, 40, 1)


@nasty("")
def prints_without_end(model, images, targets):
    sys.stdout.write("\x1b[2J" + "x" * 1_000_000 + "\n")
    os.write(1, b"y" * 100_000)
    return grey(images)
