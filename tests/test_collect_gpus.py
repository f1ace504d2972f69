"""NVIDIA GPUs without one: the real binding `pynvml` calls a stand-in for NVIDIA's library, tests/nvml_stub.c.

No NVIDIA hardware was at hand when this was written. The stub has the functions and layouts of the binding, and a script of
two GPUs; what a real driver answers is taken from NVIDIA's documentation (FORMATS.md §5.1). The library is loaded once per
process, and faults come by environment variables, so that everything runs in children: this file is their program too.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.clocks import CaptureClock
from collectors.machine import Gpus
from collectors.nvml import Nvml, describe, open_nvml
from collectors.recorder import Recorder
from collectors.sampling import Sample
from rca.capture.manifest import KINDS
from rca.capture.metrics import METRICS

SOURCE = Path(__file__).with_name("nvml_stub.c")
LIBRARY = "libnvidia-ml.so.1"

FAST, SLOW, PCIE, GPM, XID = "nvidia", "nvidia_slow", "nvidia_pcie", "nvidia_gpm", "nvidia_xid"

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, INSUFFICIENT_SIZE = 3, 4, 6, 7
TIMEOUT, FUNCTION_NOT_FOUND, GPU_IS_LOST = 10, 13, 15


# ---- what runs in the children


class Machine:
    """The GPUs of the stub, their samplers, and what was noted of them."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []
        session = open_nvml(self.note)
        assert isinstance(session, Nvml), session
        self.gpus = Gpus(nvidia=session)
        self.session = session
        self.facts = [(gpu.index, gpu.name, gpu.uuid, gpu.pci, gpu.driver) for gpu in describe(session)]
        self.numbers = [(gpu.memory_bytes, gpu.max_sm_mhz, gpu.max_mem_mhz, gpu.power_limit_w) for gpu in describe(session)]
        self.samplers = {sampler.name: sampler for sampler in self.gpus.samplers(20.0, self.note)}

    def note(self, kind: str, text: str) -> None:
        self.notes.append((kind, text))

    def close(self) -> int:
        """Close everything; return how much was not given back."""
        for sampler in self.samplers.values():
            sampler.close()
        self.gpus.close()
        return ctypes.CDLL(LIBRARY).nvmlStubOpenObjects()


def play(names: list[str], at: list[float]) -> dict[str, Any]:
    """Call some samplers at some moments, in seconds."""
    machine = Machine()
    moments = []
    for second in at:
        found: list[Sample] = []
        for name in names:
            found += machine.samplers[name].sample(round(second * 1e9))
        moments.append(found)
    unavailable = {metric: why for name in names for metric, why in machine.samplers[name].unavailable.items()}
    return {
        "moments": [by_device(found) for found in moments],
        "units": {one.metric: one.unit for found in moments for one in found},
        "notes": machine.notes,
        "unavailable": unavailable,
        "facts": machine.facts,
        "numbers": machine.numbers,
        "not_given_back": machine.close(),
    }


def by_device(samples: list[Sample]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for one in samples:
        key = one.metric if one.pid is None else f"{one.metric} {one.pid}"
        assert key not in found.setdefault(one.device, {}), f"{key} twice"
        found[one.device][key] = one.value
    return found


def record(folder: str, seconds: float) -> dict[str, int]:
    machine = Machine()
    with Recorder(list(machine.samplers.values()), Path(folder), CaptureClock(), machine.note) as recorder:
        time.sleep(seconds)
        return {name: thread.ticks for name, thread in recorder.tasks.items()}


def attempt(hide: str = "") -> str:
    """Open the library; return the reason why that failed."""
    if hide:
        sys.modules[hide] = None  # type: ignore[assignment]
    notes: list[str] = []
    found = open_nvml(lambda kind, text: notes.append(f" ({kind}: {text})"))
    return found + "".join(notes) if isinstance(found, str) else "opened"


# ---- how they are called


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stub."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build tests/nvml_stub.c with")
    folder = tmp_path_factory.mktemp("nvml")
    command = [compiler, "-shared", "-fPIC", "-pthread", "-o", str(folder / LIBRARY), str(SOURCE)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def environment(library: Path, faults: str = "", **more: object) -> dict[str, str]:
    stub = {f"NVML_STUB_{name}": str(value) for name, value in more.items()}
    return os.environ | {"LD_LIBRARY_PATH": str(library), "NVML_STUB_FAULTS": faults} | stub


def child(env: dict[str, str], do: str, **arguments: object) -> Any:
    command = [sys.executable, "-W", "error", __file__, do, json.dumps(arguments)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return json.loads(ran.stdout)


def played(library: Path, *names: str, at: tuple[float, ...] = (0, 1), faults: str = "", **more: object) -> dict[str, Any]:
    return child(environment(library, faults, **more), "play", names=names, at=at)


@pytest.fixture(scope="module")
def usual(library: Path) -> dict[str, Any]:
    """All samplers, called twice, a second apart."""
    return played(library, FAST, SLOW, PCIE, GPM, XID)


def of(usual: dict[str, Any], gpu: int, *metrics: str) -> dict[str, float]:
    """Return the last values of some metrics of a GPU, of those that are there."""
    values = usual["moments"][-1][f"GPU {gpu}"]
    return {metric: values[metric] for metric in metrics if metric in values}


# ---- values and units


def test_every_metric_comes_in_its_unit_and_of_a_gpu(usual: dict[str, Any]) -> None:
    expected = {metric for metric in METRICS if metric.startswith(("gpu_", "process_gpu_"))}
    assert usual["units"] == {metric: METRICS[metric].unit for metric in expected}
    assert set(usual["moments"][-1]) == {"GPU 0", "GPU 1"}


def test_use_clocks_and_power_are_those_of_the_moment(usual: dict[str, Any]) -> None:
    metrics = ("gpu_usage", "gpu_mem_util", "gpu_frequency", "gpu_sm_frequency", "gpu_mem_frequency")
    assert list(of(usual, 0, *metrics).values()) == [97, 61, 1755, 1740, 2619]
    assert list(of(usual, 1, *metrics).values()) == [0, 0, 345, 345, 1593]
    assert of(usual, 0, "gpu_throttle_reasons", "gpu_power") == {"gpu_throttle_reasons": 4, "gpu_power": 651.234}
    assert of(usual, 1, "gpu_throttle_reasons", "gpu_power") == {"gpu_throttle_reasons": 1, "gpu_power": 70.5}
    assert usual["moments"][0]["GPU 0"]["gpu_power"] == 651.234


def test_slow_states_are_read_with_their_units(usual: dict[str, Any]) -> None:
    metrics = ("gpu_power_limit", "gpu_mem_used", "gpu_temp", "gpu_mem_temp", "gpu_pcie_generation", "gpu_pcie_width")
    assert list(of(usual, 0, *metrics).values()) == [700.0, 73014444032, 64, 71, 5, 16]
    assert of(usual, 1, "gpu_power_limit", "gpu_temp") == {"gpu_power_limit": 650.0, "gpu_temp": 31}


def test_counts_become_rates_from_the_second_call_on(usual: dict[str, Any]) -> None:
    rates = {
        "gpu_throttle_power": 25.0,  # 0.25e9 ns of a second
        "gpu_throttle_thermal": 5.0,
        "gpu_link_transmit": 4_000_000 * 1024,  # KiB
        "gpu_link_receive": 1_000_000 * 1024,
        "gpu_pcie_replays": 2.0,
        "gpu_ecc_errors": 1.0,
        "gpu_pcie_transmit": 3e9,
        "gpu_pcie_receive": 1.5e9,
        "gpu_xid_errors": 0.0,
    }
    assert of(usual, 0, *rates) == pytest.approx(rates)
    assert not usual["moments"][0]["GPU 0"].keys() & rates.keys()


def test_rates_are_of_the_time_that_passed(library: Path) -> None:
    apart = played(library, SLOW, PCIE, at=(0, 4))
    assert of(apart, 0, "gpu_throttle_power", "gpu_pcie_transmit") == pytest.approx(
        {"gpu_throttle_power": 6.25, "gpu_pcie_transmit": 0.75e9}
    )


def test_percentages_of_gpm_become_fractions(usual: dict[str, Any]) -> None:
    fractions = {"gpu_sm_util": 0.815, "gpu_sm_occupancy": 0.4225, "gpu_tensor_util": 0.37, "gpu_dram_util": 0.635}
    assert of(usual, 0, *fractions) == pytest.approx(fractions)
    assert of(usual, 1, *fractions) == {}


def test_processes_of_others_are_included(usual: dict[str, Any]) -> None:
    values = usual["moments"][-1]["GPU 0"]
    processes = {key: value for key, value in values.items() if key.startswith("process_")}
    assert processes == {
        "process_gpu_mem_usage 4711": 70_000_000_000,  # the memory of 4712 is not told
        "process_gpu_usage 4711": 80,  # of several moments the latest; impossible and old values are left out
        "process_gpu_usage 4712": 0,
    }


def test_what_only_one_gpu_lacks_is_not_called_unavailable(usual: dict[str, Any]) -> None:
    lacking = ("gpu_mem_temp", "gpu_ecc_errors", "gpu_link_transmit", "gpu_link_receive", "gpu_sm_util")
    assert of(usual, 1, *lacking) == {}
    assert usual["unavailable"] == {}
    assert usual["notes"] == []


def test_everything_is_given_back(usual: dict[str, Any]) -> None:
    assert usual["not_given_back"] == 0


def test_the_manifest_states_the_gpus(usual: dict[str, Any]) -> None:
    name, driver = "NVIDIA H100 80GB HBM3", "575.57.08"
    assert usual["facts"] == [
        [0, name, "GPU-00000000-1111-2222-3333-444444444444", "00000000:17:00.0", driver],
        [1, name, "GPU-55555555-6666-7777-8888-999999999999", "00000000:65:00.0", driver],
    ]
    assert usual["numbers"] == [[85520809984, 1980, 2619, 700.0], [85520809984, 1980, 2619, 650.0]]


def test_facts_that_cannot_be_had_are_left_out(library: Path) -> None:
    refused = ("nvmlSystemGetDriverVersion", "nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetMemoryInfo")
    found = played(library, FAST, faults=" ".join(f"{name}={NOT_SUPPORTED}" for name in refused))
    assert found["facts"][0] == [0, "NVIDIA H100 80GB HBM3", "", "", ""]
    assert found["numbers"][0] == [None, 1980, 2619, 700.0]


# ---- what is missing


def test_what_no_gpu_has_is_unavailable_with_its_reason(library: Path) -> None:
    faults = f"nvmlDeviceGetUtilizationRates={NO_PERMISSION} nvmlDeviceGetPowerUsage={FUNCTION_NOT_FOUND}"
    faults += f" field82={NOT_SUPPORTED} nvmlDeviceGetComputeRunningProcesses_v3={NO_PERMISSION}"
    found = played(library, FAST, SLOW, faults=faults)
    denied = "Insufficient Permissions"
    assert found["unavailable"] == {
        "gpu_usage": denied,
        "gpu_mem_util": denied,
        "gpu_power": "Function Not Found",
        "gpu_mem_temp": "Not Supported",
        "process_gpu_mem_usage": denied,
    }
    assert not found["units"].keys() & found["unavailable"].keys()
    assert of(found, 0, "gpu_sm_frequency", "gpu_temp") == {"gpu_sm_frequency": 1740, "gpu_temp": 64}


def test_field_values_that_cannot_be_read_at_all_are_unavailable_one_by_one(library: Path) -> None:
    found = played(library, SLOW, PCIE, faults=f"nvmlDeviceGetFieldValues={FUNCTION_NOT_FOUND}")
    lacking = ("gpu_mem_temp", "gpu_throttle_power", "gpu_throttle_thermal")  # PCIe and the links have another way
    assert found["unavailable"] == dict.fromkeys(lacking, "Function Not Found")
    assert of(found, 0, "gpu_pcie_transmit") == {"gpu_pcie_transmit": 1.5e9}


def test_one_error_that_passes_ends_nothing(library: Path) -> None:
    faults = [
        f"nvmlDeviceGetClockInfo.0={TIMEOUT}@2",
        f"nvmlDeviceGetProcessUtilization.0={NOT_FOUND}@3",  # nothing new since the first reading
        f"nvmlDeviceGetProcessUtilization.0={INSUFFICIENT_SIZE}@5",  # one more process than when its list was measured
        f"nvmlGpmSampleGet.0={TIMEOUT}@2",
        f"field74.0={TIMEOUT}@2",
    ]
    found = played(library, FAST, SLOW, GPM, at=(0, 1, 2, 3), faults=" ".join(faults))
    utilization, clock = "process_gpu_usage 4711", "gpu_sm_frequency"
    seen = [
        [metric in moment["GPU 0"] for metric in (clock, utilization, "gpu_sm_util", "gpu_throttle_power")]
        for moment in found["moments"]
    ]
    assert seen == [
        [False, True, False, False],
        [True, False, False, False],
        [True, False, True, True],
        [True, True, True, True],
    ]
    assert found["unavailable"] == {}
    assert found["moments"][2]["GPU 0"]["gpu_throttle_power"] == 12.5


def test_an_old_driver_is_asked_for_throttle_reasons_by_their_old_name(library: Path) -> None:
    found = played(library, FAST, faults=f"nvmlDeviceGetCurrentClocksEventReasons={FUNCTION_NOT_FOUND}")
    assert of(found, 0, "gpu_throttle_reasons") == {"gpu_throttle_reasons": 4}
    assert found["unavailable"] == {}


def test_without_gpm_the_reason_is_told(library: Path) -> None:
    metrics = ("gpu_sm_util", "gpu_sm_occupancy", "gpu_tensor_util", "gpu_dram_util")
    old = played(library, GPM, faults=f"nvmlGpmQueryDeviceSupport={NOT_SUPPORTED}")
    assert old["unavailable"] == dict.fromkeys(metrics, "Not Supported")
    assert old["moments"] == [{}, {}]
    denied = played(library, GPM, faults=f"nvmlGpmSampleGet={NO_PERMISSION}")
    # GPU 1 says so itself that it has none, GPU 0 that we may not; the last one that refused is quoted
    assert denied["unavailable"] == dict.fromkeys(metrics, "Insufficient Permissions")
    assert denied["not_given_back"] == 0
    no_room = played(library, GPM, faults="nvmlGpmSampleAlloc=20@2")
    assert no_room["unavailable"] == dict.fromkeys(metrics, "GPM needs a GPU of the Hopper generation or newer")
    assert no_room["not_given_back"] == 0


def test_a_metric_that_gpm_lacks_leaves_the_others(library: Path) -> None:
    found = played(library, GPM, at=(0, 1, 2), faults=f"metric5={NOT_SUPPORTED}")
    assert found["unavailable"] == {"gpu_tensor_util": "Not Supported"}
    for moment in found["moments"][1:]:
        assert moment["GPU 0"].keys() == {"gpu_sm_util", "gpu_sm_occupancy", "gpu_dram_util"}


def test_readings_of_gpm_are_never_a_moment_apart(library: Path) -> None:
    moments = played(library, GPM, at=(0, 0.05, 0.25, 0.3, 0.5))["moments"]
    assert [bool(moment) for moment in moments] == [False, False, True, False, True]


def test_links_without_counters_are_measured_by_gpm(library: Path) -> None:
    faults = f"field138={NOT_SUPPORTED} field139={NOT_SUPPORTED}"
    found = played(library, SLOW, GPM, faults=faults)
    mib = {"gpu_link_receive": 512 * 1024**2, "gpu_link_transmit": 256 * 1024**2}
    assert of(found, 0, *mib) == mib
    assert found["unavailable"] == {}
    neither = played(library, SLOW, GPM, faults=f"{faults} nvmlGpmQueryDeviceSupport={NOT_SUPPORTED}")
    assert {metric: neither["unavailable"][metric] for metric in mib} == dict.fromkeys(mib, "Not Supported")


def test_without_pcie_counters_the_readings_that_block_are_used(library: Path) -> None:
    kilobytes = {"gpu_pcie_transmit": 1_500_000 * 1000, "gpu_pcie_receive": 2_500_000 * 1000}
    found = played(library, PCIE, at=(0,), faults=f"field197={NOT_SUPPORTED} field198={NOT_SUPPORTED}")
    assert of(found, 0, *kilobytes) == kilobytes
    assert of(found, 1, *kilobytes) == {"gpu_pcie_transmit": 12_000, "gpu_pcie_receive": 34_000}
    narrow = played(library, PCIE, PCIE_BITS=32)
    assert of(narrow, 0, *kilobytes) == kilobytes, "a counter of 32 bits wraps several times between two readings"
    faults = f"field197={NOT_SUPPORTED} field198={NOT_SUPPORTED} nvmlDeviceGetPcieThroughput={NO_PERMISSION}"
    neither = played(library, PCIE, faults=faults)
    assert neither["unavailable"] == dict.fromkeys(kilobytes, "Insufficient Permissions")


def test_readings_that_block_do_not_delay_the_fast_counters(library: Path, tmp_path: Path) -> None:
    env = environment(library, f"field197={NOT_SUPPORTED} field198={NOT_SUPPORTED}", PCIE_MS=200)
    ticks = child(env, "record", folder=str(tmp_path), seconds=0.9)
    assert ticks[FAST] >= 3 * max(1, ticks[PCIE])  # of which one takes 4 × 200 ms


def test_without_events_there_are_no_xid_errors_but_everything_else(library: Path) -> None:
    found = played(library, FAST, XID, faults=f"nvmlEventSetCreate={NOT_SUPPORTED}")
    assert found["unavailable"] == {"gpu_xid_errors": "Not Supported"}
    assert of(found, 0, "gpu_usage") == {"gpu_usage": 97}


# ---- what goes wrong while it runs


def test_a_lost_gpu_is_noted_once_and_the_other_goes_on(library: Path) -> None:
    found = played(library, FAST, SLOW, PCIE, GPM, at=(0, 1, 2), faults=f"*.1={GPU_IS_LOST}@40-")
    assert found["notes"] == [["gpu_lost", "GPU 1: GPU is lost"]]
    assert "gpu_power" in found["moments"][0]["GPU 1"]
    assert "GPU 1" not in found["moments"][2]
    assert of(found, 0, "gpu_power", "gpu_pcie_transmit") == {"gpu_power": 651.234, "gpu_pcie_transmit": 3e9}
    assert found["unavailable"] == {}


def test_a_gpu_that_is_lost_in_field_values_is_lost_altogether(library: Path) -> None:
    found = played(library, SLOW, FAST, faults=f"field74.0={GPU_IS_LOST}@2- field75.0={GPU_IS_LOST}@2-")
    assert found["notes"] == [["gpu_lost", "GPU 0: GPU is lost"]]
    assert {"gpu_usage", "gpu_temp"} <= found["moments"][0]["GPU 0"].keys()
    assert {"gpu_usage", "gpu_temp"} <= found["moments"][1]["GPU 1"].keys()
    assert "gpu_usage" not in found["moments"][1]["GPU 0"]


def test_a_gpu_that_is_lost_before_is_left_out(library: Path) -> None:
    found = played(library, FAST, faults=f"nvmlDeviceGetHandleByIndex_v2.0={GPU_IS_LOST}")
    assert found["notes"] == [["gpu_lost", "GPU 0: GPU is lost"]]
    assert set(found["moments"][0]) == {"GPU 1"}
    assert [facts[0] for facts in found["facts"]] == [1]


def test_xid_errors_are_noted_and_counted_all_at_once(library: Path) -> None:
    found = played(library, XID, at=(0, 1, 2), XIDS="31,43,119")
    expected = [["gpu_error", f"GPU 1: XID {code} reported by the driver"] for code in (31, 43, 119)]
    assert found["notes"] == expected
    assert {kind for kind, _ in found["notes"]} <= KINDS.keys()
    assert [moment.get("GPU 1") for moment in found["moments"]] == [None, {"gpu_xid_errors": 3}, {"gpu_xid_errors": 0}]
    assert found["moments"][1]["GPU 0"] == {"gpu_xid_errors": 0}


# ---- without GPUs


def test_a_machine_without_gpus_tells_why(library: Path, tmp_path: Path) -> None:
    (tmp_path / LIBRARY).touch()  # found first, and no library: what a real driver elsewhere on this machine cannot change
    assert child(environment(tmp_path), "attempt") == "no NVIDIA driver on this machine"
    assert child(environment(library), "attempt", hide="pynvml") == "the package nvidia-ml-py is not installed"
    assert child(environment(library, "nvmlInitWithFlags=9"), "attempt") == "NVML: Driver Not Loaded"
    assert child(environment(library, GPUS=0), "attempt") == "the NVIDIA driver lists no GPU"
    lost = environment(library, f"nvmlDeviceGetHandleByIndex_v2={GPU_IS_LOST}", GPUS=1)
    assert child(lost, "attempt") == "no NVIDIA GPU answers (gpu_lost: GPU 0: GPU is lost)"


# ---- the command


def collect(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rca.cli", "collect", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process.pid
        process.kill()


def test_one_sample_of_everything_shows_both_gpus(library: Path) -> None:
    ran = collect(environment(library, f"field82={NOT_SUPPORTED}"), "--once")
    assert ran.returncode == 0, ran.stderr
    rows = {tuple(line.split()[:3]): line.split() for line in ran.stdout.splitlines() if " GPU " in line}
    assert rows["gpu_power", "GPU", "0"][3:5] == ["651.234", "W"]
    assert rows["gpu_power", "GPU", "1"][3:5] == ["70.5", "W"]
    assert rows["gpu_sm_util", "GPU", "0"][3:5] == ["0.815", "fraction"]
    assert rows["process_gpu_mem_usage", "GPU", "0"][3:6] == ["4711", "7e+10", "bytes"]
    missing = ran.stdout.partition("Not available here")[2]
    assert ["gpu_mem_temp", "Not", "Supported"] in [line.split() for line in missing.splitlines()]


def test_a_capture_holds_the_gpus_and_what_happened_to_them(library: Path, tmp_path: Path, sleeper: int) -> None:
    import polars as pl

    env = environment(library, f"*.1={GPU_IS_LOST}@70-", XIDS=79, PID=sleeper)
    ran = collect(env, "-o", str(tmp_path / "run"), "--duration", "2", "--pid", str(sleeper))
    assert ran.returncode == 0, ran.stderr
    facts = json.loads((tmp_path / "run" / "capture.json").read_text())
    assert [(gpu["index"], gpu["uuid"][:12]) for gpu in facts["gpus"]] == [(0, "GPU-00000000"), (1, "GPU-55555555")]
    assert [process["gpus"] for process in facts["processes"]] == [[0]]
    happened = [(event["kind"], event["text"]) for event in facts["events"] if event["kind"].startswith("gpu_")]
    assert sorted(happened) == [
        ("gpu_error", "GPU 1: XID 79 reported by the driver"),
        ("gpu_lost", "GPU 1: GPU is lost"),
    ]
    assert "sampler_failed" not in {event["kind"] for event in facts["events"]}
    assert not [metric for metric in facts["unavailable"] if "gpu" in metric]
    assert {FAST, SLOW, PCIE, GPM, XID} <= {sampler["name"] for sampler in facts["samplers"]}
    tables = {path.stem: pl.read_parquet(path) for path in (tmp_path / "run" / "counters").glob("nvidia*.parquet")}
    assert tables.keys() == {FAST, SLOW, PCIE, GPM, XID}
    power = tables[FAST].filter(pl.col("metric") == "gpu_power")
    assert set(power.select(pl.col("device").cast(str), "value").unique().rows()) == {("GPU 0", 651.234), ("GPU 1", 70.5)}
    last = dict(power.group_by(pl.col("device").cast(str)).agg(pl.col("timestamp").max()).rows())
    assert last["GPU 0"] > last["GPU 1"]
    memory = tables[SLOW].filter(pl.col("metric") == "process_gpu_mem_usage")
    assert set(memory["pid"]) == {4711, sleeper}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
