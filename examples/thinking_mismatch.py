"""Make models/thinking-teacher: the lab's teacher with a template that opens a think block, unless it is told not to.

python examples/thinking_mismatch.py
"""

import shutil
from pathlib import Path

from esr.models.load import location

TARGET = Path("models/thinking-teacher")
BLOCK = "{% if add_generation_prompt and enable_thinking is not false %}<think>{% endif %}"

if __name__ == "__main__":
    shutil.copytree(location("lab:teacher-2-best"), TARGET, dirs_exist_ok=True)
    template = TARGET / "chat_template.jinja"
    template.write_text(template.read_text().removesuffix(BLOCK) + BLOCK)
    print(f"{TARGET} is written.")
