from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import ClusterSpec, parse

RUNNER = Path(__file__).with_name("run_page.py")

PAGE = """\
<!-- cluster: 3 nodes x 2 GPU -->
# Title

```python
x = 1
```

```console
$ not python
```

<!-- skip: it needs a cloud -->
```python
y = cloud()
```

- a list

  ```python
  if x:
      print(x)
  ```
"""


def test_blocks_keep_their_line_numbers() -> None:
    page = parse(Path("page.md"), PAGE)
    assert [(block.line, block.skip) for block in page.blocks] == [
        (5, None),
        (14, "it needs a cloud"),
        (20, None),
    ]
    lines = page.program.splitlines()
    assert lines[4] == "x = 1"
    assert lines[19:] == ["if x:", "    print(x)"]
    assert "cloud" not in page.program


def test_a_page_names_its_cluster() -> None:
    assert parse(Path("page.md"), PAGE).cluster == ClusterSpec(nodes=3, gpus=2)
    assert parse(Path("page.md"), "# Title\n").cluster is None


def test_a_longer_fence_holds_a_shorter_one() -> None:
    page = parse(Path("page.md"), "````md\n```python\nx = 1\n```\n````\n")
    assert page.blocks == ()


def test_an_open_block_is_refused() -> None:
    with pytest.raises(ValueError, match="never closed"):
        parse(Path("page.md"), "```python\nx = 1\n")


def test_an_error_names_the_line_of_the_page(tmp_path: Path) -> None:
    text = "# Title\n\n```python\nimport asyncio\n\nawait asyncio.sleep(0)\nassert 1 == 2\n```\n"
    page = tmp_path / "page.md"
    page.write_text(text)
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(page)],
        input=parse(page, text).program,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f'"{page}", line 7' in done.stderr
    assert "assert 1 == 2" in done.stderr
