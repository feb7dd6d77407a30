"""The tests. They fetch nothing; several workers have their share of the cores each.

Both are said before the libraries are imported that read it then.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

if _workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    _share = max(1, (os.cpu_count() or 1) // _workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(_share))
