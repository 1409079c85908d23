"""Deterministic kernels are asked for on GPUs alone, and what they change can be read back."""

import subprocess
import sys

SAID = """
import os, torch
from fedalign.federation.runtimes.determinism import fix
print(fix({device!r}, {wanted}), torch.are_deterministic_algorithms_enabled(),
      os.environ.get("CUBLAS_WORKSPACE_CONFIG"), torch.backends.cuda.matmul.allow_tf32,
      torch.get_deterministic_debug_mode())
"""


def said(device, wanted):
    code = SAID.format(device=device, wanted=wanted)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return answer.stdout.split()


def test_only_a_gpu_is_bound_to_deterministic_kernels():
    """In processes of their own: the switches are those of a whole process."""
    assert said("cuda:1", True) == ["True", "True", ":4096:8", "False", "2"]
    assert said("cpu", True)[:2] == ["False", "False"]
