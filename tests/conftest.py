"""One thread per process, as in every worker; Ctrl-C works in what tests start."""

import os
import signal
import threading

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)

# in the background of a shell, tests and whatever they start would inherit an ignored SIGINT
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)
