"""The machine that was measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def machine() -> dict[str, str]:
    """What a reader must know of it to compare."""
    return {
        "CPU": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "Dagster": version("dagster"),
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "date (UTC)": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _memory() -> str:
    kilobytes = (_field("/proc/meminfo", "MemTotal") or "").partition(" ")[0]
    return f"{int(kilobytes) * 1024 / 1e9:.0f} GB" if kilobytes else "unknown"


def _field(file: str, name: str) -> str | None:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith(name)]
    return found[0] if found else None
