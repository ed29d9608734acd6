"""Make the golden folders anew: `python -m canary_pipeline_tests.golden [PROGRAMS]`.

Plays every scenario with the `canary-rollout` of the folder PROGRAMS, such as the `.venv/bin` of an
earlier version's checkout (by default with the one of this virtual environment), and keeps what
it leaves, as it is, in `folders`.

Golden folders are yesterday's word: make them anew only for a change that is meant to break with
it, and read the difference. What a version only adds belongs into `comparison.ADDED_SINCE`.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import PROGRAMS
from canary_pipeline_tests.golden.scenarios import NEUTRAL, NEW_FROM

if __name__ == "__main__":
    NEUTRAL.mkdir()  # refuses to touch what is somebody else's
    os.environ[NEW_FROM] = str(Path(*sys.argv[1:] or [str(PROGRAMS)]).absolute())
    try:
        sys.exit(pytest.main([str(Path(__file__).with_name("test_golden.py")), "-k", "writes"]))
    finally:
        shutil.rmtree(NEUTRAL)
