"""Install Chromium for `make browser` where that can be done, else say what to install: python tools/get_chromium.py"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "browser"))

from chromium import find


def main() -> None:
    """End with 0 if there is a Chromium."""
    if find() is None and shutil.which("apt-get") and os.geteuid() == 0:
        for command in ("update", "install --yes --no-install-recommends chromium"):
            subprocess.run(["apt-get", "-qq", *command.split()], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    if find() is None:
        sys.exit("There is no Chromium: install it (Debian: `apt-get install chromium`), or set CHROMIUM to its path.")
    print(f"Chromium: {find()}")


if __name__ == "__main__":
    main()
