"""An environment of its own for LlamaIndex's engines, and running them in it.

The engines pin older integrations than ours, so they cannot share `.venv`. Everything that both
can share (torch, sentence-transformers, llama-index-core) is read from `.venv` by a path file, so
both sides run the same builds and the environment takes 80 MB.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from ragft_pipeline.errors import RagftError

REQUIREMENTS = ("llama-index-finetuning==0.4.2", "mistralai<2")
ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-llamaindex"
SCRIPT = Path(__file__).parent / "llamaindex_engines.py"


class Engines:
    """LlamaIndex's engines, installed, with a scratch folder for their jobs.

    Raises RagftError where they cannot be installed.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder.resolve()
        self._python = installed_python()

    def run(self, task: str, job: dict[str, Any]) -> dict[str, Any]:
        """Run a task of `llamaindex_engines` in its environment and return what it wrote.

        Raises CalledProcessError where it fails; its standard error stands above.
        """
        print(f"LlamaIndex: {task}", flush=True)
        file = self.folder / f"{task}.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        quiet = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "WANDB_DISABLED": "true"}
        subprocess.run(
            [self._python, "-W", "ignore", SCRIPT, task, file],
            check=True,
            cwd=self.folder,
            env={**os.environ, **quiet},
            stdout=subprocess.DEVNULL,
        )
        result: dict[str, Any] = json.loads(file.with_suffix(".result.json").read_text("utf-8"))
        return result


def installed_python() -> Path:
    """Return the environment's Python, installing the engines on first use."""
    python, mark = ENVIRONMENT / "bin/python", ENVIRONMENT / "installed.txt"
    wanted = "\n".join((sys.version, *REQUIREMENTS))
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return python
    print(f"installing LlamaIndex's engines into {ENVIRONMENT.name} (once)", flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    _call(sys.executable, "-m", "venv", ENVIRONMENT)
    shared = sysconfig.get_path("purelib")
    own = _call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(own) / "shared.pth").write_text(shared + "\n", encoding="utf-8")
    constraints = ENVIRONMENT / "constraints.txt"
    constraints.write_text(_shared_constraints(), encoding="utf-8")
    _call(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "-c", constraints, *REQUIREMENTS,
    )  # fmt: skip
    mark.write_text(wanted, encoding="utf-8")
    return python


def _shared_constraints() -> str:
    """Return our pins, less those of LlamaIndex's integrations, which the engines want older."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(
        line
        for line in lines
        if line.startswith("llama-index-core==") or not line.startswith("llama-index-")
    )


def _call(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RagftError(f"{' '.join(map(str, command[:4]))} …: {last[0]}")
    return done.stdout
