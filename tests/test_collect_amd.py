"""AMD GPUs without one: a stand-in for the Python package `amdsmi`, which comes with ROCm.

No AMD hardware was at hand when this was written. The dictionaries are in the form of FORMATS.md §6.2 and of the source of
amdsmi 7.0: "N/A" where a chip has no such field, lists with a value per die or link, bytes in MiB and kilobytes.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collectors.samplers import amd
from collectors.sampling import Sample
from rca.capture.metrics import METRICS

FAKE = '''
"""Two GPUs: an MI300X, which has current values and lists, and an MI100, which has averages and no links.

AMDSMI_FAULTS: JSON, from "call gpu" to [status code, first call that fails]; one of a few calls only: [code, first, last].
"""

import enum
import json
import os

FAULTS = json.loads(os.environ.get("AMDSMI_FAULTS", "{}"))
CALLS = {}


class AmdSmiException(Exception):
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, err_code):
        super().__init__(err_code)
        self.err_code = err_code

    def __str__(self):
        return f"Error code:\\n\\t{self.err_code} | AMDSMI_STATUS - of the stand-in"


class AmdSmiClkType(enum.IntEnum):
    SYS = 0
    GFX = 0
    MEM = 4


class Handle:
    def __init__(self, index):
        self.index = index


HANDLES = [Handle(0), Handle(1)]


def fail(call, handle=None):
    key = call if handle is None else f"{call} {handle.index}"
    CALLS[key] = CALLS.get(key, 0) + 1
    code, first, last = (*FAULTS.get(key, (0, 1)), 10**9)[:3]
    if code and first <= CALLS[key] <= last:
        raise AmdSmiLibraryException(code)


def amdsmi_init():
    fail("amdsmi_init")


def amdsmi_shut_down():
    CALLS["amdsmi_shut_down"] = CALLS.get("amdsmi_shut_down", 0) + 1
    raise AmdSmiLibraryException(32)


def amdsmi_get_processor_handles():
    return HANDLES


def amdsmi_get_gpu_asic_info(handle):
    return [{"market_name": "AMD Instinct MI300X", "vendor_id": "0x1002"}, {"market_name": "N/A"}][handle.index]


def amdsmi_get_gpu_device_uuid(handle):
    fail("amdsmi_get_gpu_device_uuid", handle)
    return ["74ff74a1-0000-1000-8011-c8f2a1b2c3d4", "N/A"][handle.index]


def amdsmi_get_gpu_device_bdf(handle):
    return ["0000:0c:00.0", "0000:22:00.0"][handle.index]


def amdsmi_get_power_cap_info(handle):
    return {"power_cap": [750000000, 290][handle.index], "dpm_cap": 0}


def amdsmi_get_clock_info(handle, kind):
    assert kind is AmdSmiClkType.GFX
    return {"clk": 132, "min_clk": 132, "max_clk": [2100, "N/A"][handle.index], "clk_locked": False}


def amdsmi_get_gpu_vram_usage(handle):
    fail("amdsmi_get_gpu_vram_usage", handle)
    return {"vram_total": 196592, "vram_used": [150000, 512][handle.index]}


def amdsmi_get_gpu_metrics_info(handle):
    fail("amdsmi_get_gpu_metrics_info", handle)
    calls = CALLS[f"amdsmi_get_gpu_metrics_info {handle.index}"]
    nothing = dict.fromkeys(("average_socket_power", "average_gfxclk_frequency", "temperature_edge"), "N/A")
    return [
        nothing
        | {
            "average_gfx_activity": 97,
            "average_umc_activity": 41,
            "current_socket_power": 612,
            "current_gfxclk": "N/A",
            "current_gfxclks": [2100, 2090, 2080, 2070, "N/A", "N/A", 65535, "N/A"],
            "current_uclk": 1300,
            "temperature_hotspot": 71,
            "temperature_mem": 58,
            "throttle_status": "N/A",
            "indep_throttle_status": True,
            "pcie_link_width": 16,
            "xgmi_read_data_acc": [1000 * calls, 500 * calls, "N/A", 18446744073709551615],
            "xgmi_write_data_acc": [250 * calls, 250 * calls, "N/A", "N/A"],
        },
        {
            "average_gfx_activity": 3,
            "average_umc_activity": "N/A",
            "average_socket_power": 38,
            "current_socket_power": "N/A",
            "average_gfxclk_frequency": 501,
            "average_uclk_frequency": 1200,
            "temperature_hotspot": 34,
            "temperature_mem": 65535,
            "throttle_status": False,
            "pcie_link_width": "N/A",
            "xgmi_read_data_acc": "N/A",
            "xgmi_write_data_acc": ["N/A", "N/A"],
        },
    ][handle.index]
'''

NOT_SUPPORTED, NO_PERMISSION, FILE_ERROR, BUSY, NOT_FOUND, DRIVER_NOT_LOADED = 2, 10, 14, 30, 31, 34
METRICS_CALL, MEMORY_CALL = "amdsmi_get_gpu_metrics_info", "amdsmi_get_gpu_vram_usage"


class Recorded:
    """The sampler of the stand-in's GPUs, and what was noted of them."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.notes: list[tuple[str, str]] = []
        self.sampler = amd.Amd(20.0, library, lambda kind, text: self.notes.append((kind, text)))

    def at(self, second: float) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for one in self.sampler.sample(round(second * 1e9)):
            assert one == Sample(one.ts_ns, one.metric, one.device, one.value, METRICS[one.metric].unit)
            found.setdefault(one.device, {})[one.metric] = one.value
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the stand-in, as it is put on the path."""
    (tmp_path / "amdsmi.py").write_text(FAKE)
    return tmp_path


@pytest.fixture
def recorded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Start the sampler with some faults."""

    def start(**faults: list[int]) -> Recorded:
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
        keys = {name.replace("__", " "): fault for name, fault in faults.items()}
        monkeypatch.setenv("AMDSMI_FAULTS", json.dumps(keys))
        library = amd.open_amdsmi()
        assert not isinstance(library, str), library
        return Recorded(library)

    yield start
    sys.modules.pop("amdsmi", None)


def test_a_chip_with_current_values_and_dies_is_read(recorded) -> None:
    assert recorded().at(0)["GPU 0"] == {
        "gpu_usage": 97,
        "gpu_mem_util": 41,
        "gpu_frequency": 2085,  # mean of the dies that have a clock
        "gpu_mem_frequency": 1300,
        "gpu_power": 612,
        "gpu_temp": 71,
        "gpu_mem_temp": 58,
        "gpu_pcie_width": 16,
        "gpu_mem_used": 150_000 * 1024**2,
    }


def test_a_chip_with_averages_is_read_and_what_it_lacks_left_out(recorded) -> None:
    assert recorded().at(0)["GPU 1"] == {
        "gpu_usage": 3,
        "gpu_frequency": 501,
        "gpu_mem_frequency": 1200,
        "gpu_power": 38,
        "gpu_temp": 34,
        "gpu_mem_used": 512 * 1024**2,
    }


def test_kilobytes_over_the_links_become_a_rate_of_all_of_them(recorded) -> None:
    run = recorded()
    first, second = run.at(0), run.at(0.5)
    links = {"gpu_link_receive": 3_000_000, "gpu_link_transmit": 1_000_000}  # 1500 and 500 KB in half a second
    assert not first["GPU 0"].keys() & links.keys()
    assert {metric: second["GPU 0"][metric] for metric in links} == pytest.approx(links)
    assert not second["GPU 1"].keys() & links.keys()


def test_whether_it_throttles_is_not_taken_for_the_reasons_of_nvml(recorded) -> None:
    """True would be the bit of an idle GPU."""
    assert "gpu_throttle_reasons" not in recorded().at(0)["GPU 0"]


def test_what_only_one_chip_lacks_is_not_called_unavailable(recorded) -> None:
    run = recorded()
    run.at(0)
    assert run.sampler.unavailable == {}
    del run.library.HANDLES[0]
    alone = Recorded(run.library)
    alone.library.HANDLES[0].index = 1
    alone.at(0)
    lacking = ("gpu_mem_util", "gpu_mem_temp", "gpu_pcie_width", "gpu_link_receive", "gpu_link_transmit")
    assert alone.sampler.unavailable == dict.fromkeys(lacking, "this GPU's driver does not report it")


def test_a_lost_gpu_is_noted_once_and_the_other_goes_on(recorded) -> None:
    run = recorded(**{f"{METRICS_CALL}__1": [NOT_FOUND, 2]})
    assert run.at(0).keys() == {"GPU 0", "GPU 1"}
    assert run.at(1).keys() == {"GPU 0"}
    assert run.at(2)["GPU 0"]["gpu_usage"] == 97
    assert run.notes == [("gpu_lost", "GPU 1: Error code: 31 | AMDSMI_STATUS - of the stand-in")]


def test_a_gpu_that_is_busy_for_a_moment_is_not_lost(recorded) -> None:
    run = recorded(**{f"{METRICS_CALL}__0": [BUSY, 2, 2]})
    run.at(0)
    assert run.at(1)["GPU 0"].keys() == {"gpu_mem_used"}
    assert run.at(2)["GPU 0"]["gpu_link_receive"] == pytest.approx(1_500_000)  # two calls' worth in two seconds
    assert run.notes == []
    assert run.sampler.unavailable == {}


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, FILE_ERROR])
def test_a_call_that_never_worked_is_missing_and_no_lost_gpu(recorded, code: int) -> None:
    run = recorded(**{f"{MEMORY_CALL}__0": [code, 1], f"{MEMORY_CALL}__1": [code, 1]})
    for second in range(3):
        assert run.at(second)["GPU 0"]["gpu_power"] == 612
    assert run.notes == []
    assert run.sampler.unavailable == {"gpu_mem_used": f"Error code: {code} | AMDSMI_STATUS - of the stand-in"}
    assert run.library.CALLS[f"{MEMORY_CALL} 0"] == 1, "asked again for what it refused"


def test_the_manifest_states_the_gpus(recorded) -> None:
    first, second = amd.describe(recorded(amdsmi_get_gpu_device_uuid__0=[NOT_SUPPORTED, 2]).library)
    assert (first.index, first.name, first.pci) == (0, "AMD Instinct MI300X", "0000:0c:00.0")
    assert (first.uuid, first.max_sm_mhz, first.power_limit_w) == ("74ff74a1-0000-1000-8011-c8f2a1b2c3d4", 2100, 750)
    assert (second.index, second.name, second.uuid, second.max_sm_mhz, second.power_limit_w) == (1, "", "", None, 290)
    assert amd.describe(sys.modules["amdsmi"])[0].uuid == ""


def test_the_session_is_ended_even_if_the_library_complains(recorded) -> None:
    run = recorded()
    run.sampler.close()
    assert run.library.CALLS["amdsmi_shut_down"] == 1


def opened(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch, faults: str = "{}") -> object:
    (folder / "amdsmi.py").write_text(module)
    importlib.invalidate_caches()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.setenv("AMDSMI_FAULTS", faults)
    found = amd.open_amdsmi()
    sys.modules.pop("amdsmi", None)
    return found


def test_without_the_package_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    assert amd.open_amdsmi() == "the package amdsmi is not installed"


@pytest.mark.parametrize(
    "error", ["KeyError('libamd_smi.so')", "OSError('no such file')", "AttributeError('undefined symbol')"]
)
def test_without_rocm_the_reason_is_told_and_nothing_printed(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package prints, and fails in one way or another, as it is imported where ROCm's library is not."""
    found = opened(f"print('Unable to find libamd_smi.so')\nraise {error}\n", tmp_path, monkeypatch)
    assert found == "no ROCm on this machine, or one of another version than the package amdsmi"
    assert capsys.readouterr().out == ""


def test_a_driver_that_does_not_start_and_one_without_gpus_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = json.dumps({"amdsmi_init": [DRIVER_NOT_LOADED, 1]})
    assert opened(FAKE, tmp_path, monkeypatch, faults) == "amdsmi: Error code: 34 | AMDSMI_STATUS - of the stand-in"
    assert opened(f"{FAKE}\nHANDLES.clear()\n", tmp_path, monkeypatch) == "the AMD driver lists no GPU"


def test_a_capture_holds_the_gpus_and_what_happened_to_them(folder: Path) -> None:
    import polars as pl

    faults = json.dumps({f"{METRICS_CALL} 1": [NOT_FOUND, 4]})
    env = os.environ | {"PYTHONPATH": str(folder), "AMDSMI_FAULTS": faults}
    command = [sys.executable, "-m", "rca.cli", "collect", "-o", str(folder / "run"), "--duration", "1.2"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    facts = json.loads((folder / "run" / "capture.json").read_text())
    ours = [gpu for gpu in facts["gpus"] if "NVIDIA" not in gpu["name"]]
    assert [(gpu["index"], gpu["name"], gpu["pci"]) for gpu in ours] == [
        (0, "AMD Instinct MI300X", "0000:0c:00.0"),
        (1, "", "0000:22:00.0"),
    ]
    assert [event["text"] for event in facts["events"] if event["kind"] == "gpu_lost"] == [
        "GPU 1: Error code: 31 | AMDSMI_STATUS - of the stand-in"
    ]
    samples = pl.read_parquet(folder / "run" / "counters" / "amd.parquet")
    power = (
        samples.filter(pl.col("metric") == "gpu_power")
        .group_by(pl.col("device").cast(str))
        .agg(pl.len(), pl.col("value").max())
    )
    counts = {device: (count, watts) for device, count, watts in power.rows()}
    assert counts["GPU 1"] == (3, 38)
    assert counts["GPU 0"][0] > 3
    assert counts["GPU 0"][1] == 612
