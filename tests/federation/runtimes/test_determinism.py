"""Deterministic kernels are asked for on GPUs alone, and what they change can be read back."""

import subprocess
import sys

SAID = """
import os, torch
from fedalign.federation.runtimes.determinism import fix
for device, wanted in (("cpu", True), ("cuda:1", False), ("cuda:1", True)):
    print(fix(device, wanted), torch.get_deterministic_debug_mode(),
          os.environ.get("CUBLAS_WORKSPACE_CONFIG"), torch.backends.cudnn.allow_tf32)
"""


def test_only_a_gpu_is_bound_to_deterministic_kernels():
    """In a process of its own: the switches are those of a whole process."""
    answer = subprocess.run([sys.executable, "-c", SAID], capture_output=True, text=True)
    untouched = "False 0 None True"
    assert answer.stdout.splitlines() == [untouched, untouched, "True 2 :4096:8 False"]
