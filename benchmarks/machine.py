"""The machine a run happens on: which cores carry what, and the facts a reader needs beside the figures."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run. `shared` says that there was no second core to keep the load away from the contender."""

    contender: int
    upstream: int
    load: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Machine:
    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    load_average: float
    """Of the last minute, when the run began. Above about 0.3 somebody else was using the machine."""
    started_at: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_gb:.0f} GB, {self.system}, Python {self.python}; "
            f"load average at the start {self.load_average:.2f}; {self.started_at}"
        )


def cores() -> Cores:
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        return Cores(usable[0], usable[0], usable[0], shared=True)
    if len(usable) == 2:
        return Cores(usable[0], usable[1], usable[1], shared=False)
    return Cores(usable[0], usable[1], usable[2], shared=False)


def describe() -> Machine:
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_average=os.getloadavg()[0],
        started_at=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
