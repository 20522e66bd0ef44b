"""What distributions of this repository depend on, for a layer without their code: `requirements.py 'shared[s3]' services/gateway`."""

import re
import sys
import tomllib
from pathlib import Path

for asked in sys.argv[1:]:
    folder, _, extras = asked.rstrip("]").partition("[")
    project = tomllib.loads(Path(folder, "pyproject.toml").read_text())["project"]
    lines = [*project.get("dependencies", [])]
    for extra in filter(None, extras.split(",")):
        lines += project["optional-dependencies"][extra]
    sys.stdout.writelines(f"{line}\n" for line in lines if not re.match(r"overproof-", line))
