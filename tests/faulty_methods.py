"""Two good methods, and many that do something wrong, as a user may write them."""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from explainers.conformance import probes


def good(model, images, targets):
    """Grey values and the target's score, to depend on both."""
    return images.mean(dim=1) + model(images).gather(1, targets[:, None]).detach()[:, :, None]


class Learning:
    """One that learns, and takes a parameter."""

    def __init__(self, *, factor: float = 2.0) -> None:
        self.factor, self.mean = factor, None

    def fit(self, model, loader):
        self.mean = torch.cat([images for images, _ in loader]).mean(dim=(0, 1))
        return self

    def __call__(self, model, images, targets):
        return good(model, images, targets) - self.factor * self.mean


def raises(model, images, targets):
    raise KeyError("no such\nthing")


def exits(model, images, targets):
    sys.exit(3)


def gives_nan(model, images, targets):
    return good(model, images, targets).index_fill(2, torch.tensor([4]), float("nan"))


def gives_wrong_shape(model, images, targets):
    return good(model, images, targets)[:, None]


def gives_numpy(model, images, targets):
    return good(model, images, targets).numpy()[:, ::-1]


def gives_negative_strides(model, images, targets):
    return torch.from_numpy(good(model, images, targets).numpy()[:, ::-1])


def gives_nothing(model, images, targets):
    pass


def gives_graph(model, images, targets):
    return good(model, images, targets) * torch.ones(1, requires_grad=True)


def gives_float64(model, images, targets):
    return good(model, images, targets).double()


def changes_weights(model, images, targets):
    with torch.no_grad():
        model.conv1.weight.mul_(1.01)
    return good(model, images, targets)


def changes_a_buffer(model, images, targets):
    model.norm.running_mean += 1
    return good(model, images, targets)


def changes_weights_behind_the_back(model, images, targets):
    model.conv1.weight.data.mul_(1.01)
    return good(model, images, targets)


def leaves_a_note_if_it_raises(model, images, targets):
    model.note = "explaining"
    maps = good(model, images, targets)
    del model.note
    return maps


def leaves_a_hook(model, images, targets):
    model.relu1.register_forward_hook(lambda module, given, output: None)
    return good(model, images, targets)


def sets_train_mode(model, images, targets):
    model.train()
    return good(model, images, targets)


def leaves_gradients(model, images, targets):
    model.requires_grad_()
    model(images).sum().backward()
    return good(model, images, targets)


def leaves_an_attribute(model, images, targets):
    model.note = "explained"
    return good(model, images, targets)


def writes_into_the_images(model, images, targets):
    return images.clamp_(max=0.5).mean(dim=1)


def writes_behind_the_back(model, images, targets):
    images.numpy()[:, :, 0] = 0
    return good(model, images, targets)


def prints(model, images, targets):
    sys.stdout.write("explaining 4 images\nstill explaining\n")
    return good(model, images, targets)


def hangs(model, images, targets):
    while True:
        pass


def hangs_and_catches(model, images, targets):
    while True:
        try:
            time.sleep(30)
        except Exception:
            continue


def catches_the_alarm_and_ends(model, images, targets):
    try:
        time.sleep(30)
    except BaseException:
        return good(model, images, targets)


def fills_memory(model, images, targets):
    kept = []
    while True:
        kept.append(torch.ones(2**22))


def fills_memory_with_lists(model, images, targets):
    kept = []
    while True:
        kept.append([0] * 2**20)


def depends_on_global_seed(model, images, targets):
    return good(model, images, targets) + torch.rand(images.shape[-2:])


def depends_on_numpys_seed(model, images, targets):
    noise = np.random.rand(*images.shape[-2:])  # noqa: NPY002
    return good(model, images, targets) + torch.from_numpy(noise).float()


def normalises_over_the_batch(model, images, targets):
    maps = good(model, images, targets)
    return maps / maps.max()


def first_is_special(model, images, targets):
    maps = good(model, images, targets)
    return torch.cat([maps[:1] * 2, maps[1:]])


def ignores_the_target(model, images, targets):
    return images.mean(dim=1)


def needs_modules(model, images, targets):
    grey = images.mean(dim=1)

    def keep(module, given, output):
        nonlocal grey
        grey = grey + output.mean()

    handle = model.relu2.register_forward_hook(keep)
    maps = good(model, images[:1], targets[:1])
    handle.remove()
    return grey + maps.mean() * targets[:, None, None]


def refuses_reused(model, images, targets):
    if isinstance(model, probes.ReUsed):
        raise ValueError("a ReLU is used twice; write two")
    return good(model, images, targets)
