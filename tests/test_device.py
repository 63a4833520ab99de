"""Where models run, and how many images at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark import device
from benchmark.device import batch_that_fits, bytes_an_image, device_holding, device_of, halving

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Give the machine so many CUDA devices, and MPS or not."""

    def have(*, cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return have


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """Say how much memory the machine has free, in KiB, and a container its limit, use and files read."""

    def have(machine_kib=None, container=None):
        monkeypatch.setattr(device, "_MEMINFO", tmp_path / "meminfo")
        monkeypatch.setattr(device, "_CGROUP", tmp_path)
        if machine_kib is not None:
            (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {machine_kib} kB\n")
        if container is not None:
            limit, used, read = container
            (tmp_path / "memory.max").write_text(f"{limit}\n")
            (tmp_path / "memory.current").write_text(f"{used}\n")
            (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {read}\nactive_file 0\n")

    return have


@pytest.mark.parametrize(
    ("there", "name"),
    [({"cuda": 1, "mps": True}, "cuda"), ({"mps": True}, "mps"), ({}, "cpu")],
)
def test_auto_is_the_best_there_is(machine, there, name):
    machine(**there)
    assert device_of("auto") == torch.device(name)


def test_a_named_device_is_taken_at_its_word(machine):
    machine(cuda=2)
    assert device_of("cpu") == CPU
    assert device_of(CPU) == CPU
    assert device_of("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "mps", "cuda:2", torch.device("cuda")])
def test_a_device_that_is_not_there_is_one_clear_line(machine, name):
    machine()
    with pytest.raises(ValueError, match=f"device '{name}' is not available here; available: cpu$"):
        device_of(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "tpu:0"])
def test_an_unknown_device_is_told_what_is_known(name):
    with pytest.raises(ValueError, match=f"unknown device '{name}'; known are auto, cpu, cuda, mps"):
        device_of(name)


def test_finds_where_a_model_is():
    assert device_holding(nn.Linear(2, 2, device="meta")) == torch.device("meta")
    assert device_holding(nn.ReLU()) == CPU


def test_half_of_the_free_memory_is_filled(memory):
    memory(machine_kib=1000)
    assert batch_that_fits(CPU, 1024 * 10) == 50
    assert batch_that_fits(CPU, 1024 * 10, most=20) == 20
    assert batch_that_fits(CPU, 1024 * 10_000) == 1


def test_a_container_has_what_its_limit_leaves(memory):
    memory(machine_kib=1000, container=(1024 * 500, 1024 * 400, 1024 * 100))
    assert batch_that_fits(CPU, 1024 * 10) == 10
    memory(container=("max", 0, 0))
    assert batch_that_fits(CPU, 1024 * 10) == 50


def test_full_memory_still_gives_one_image(memory):
    memory(machine_kib=1000, container=(1024, 4096, 0))
    assert batch_that_fits(CPU, 10) == 1


def test_the_most_where_nobody_tells(memory):
    memory()
    assert batch_that_fits(CPU, 10**15, most=7) == 7


def test_cuda_is_asked_for_its_own_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (800, 10**12))
    assert batch_that_fits(torch.device("cuda"), 10) == 40


def test_an_image_takes_what_is_kept_for_going_back():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten())
    image = torch.zeros(1, 3, 10, 10)
    convolved, logits = 8 * 8 * 8 * 4, 4 * 6 * 6 * 4
    # The convolutions keep their inputs, the ReLU its output, which is the second's input; no weights.
    kept = image.nbytes + convolved
    assert bytes_an_image(model, image) == device.HELD * (kept + image.nbytes + logits)
    assert image.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
)
def test_halves_until_it_fits(error):
    tried = []

    def run(size):
        tried.append(size)
        if size > 12:
            raise error
        return size

    assert halving(100, run) == (12, 12)
    assert tried == [100, 50, 25, 12]


def test_one_image_too_many_is_the_error_itself():
    def run(size):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        halving(3, run)


def test_other_errors_are_not_tried_again():
    tried = []

    def run(size):
        tried.append(size)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        halving(8, run)
    assert tried == [8]
