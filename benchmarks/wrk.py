"""A closed loop at full speed: wrk where there is one, else the client beside this module."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import uvloop

from benchmarks.client import Target, closed_loop
from benchmarks.samples import Load

TIMEOUT = 60
_SCRIPT = """
wrk.method = "POST"
wrk.body = io.open({body}, "rb"):read("*a")
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("\\nRESULT %d %d %d %d %d %d\\n", summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


def has_wrk() -> bool:
    """Tell whether wrk is installed."""
    return shutil.which("wrk") is not None


def keep_busy(target: Target, connections: int, seconds: float, folder: Path) -> Load:
    """Keep so many connections busy for a while; RuntimeError if nothing was answered."""
    if not has_wrk():
        return uvloop.run(closed_loop(target, connections, seconds))
    body, script = folder / "wrk.body", folder / "wrk.lua"
    body.write_bytes(target.body)
    headers = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in target.fields())
    script.write_text(_SCRIPT.format(body=json.dumps(str(body)), headers=headers))
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{max(round(seconds), 1)}s"]
    command += ["--timeout", f"{TIMEOUT}s", "--latency", "--script", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{target.port}{target.path}"], capture_output=True, text=True, check=True
    )
    return parsed(done.stdout)


def parsed(text: str) -> Load:
    """Read what the script wrote; RuntimeError if nothing was answered."""
    line = next((line for line in text.splitlines() if line.startswith("RESULT ")), None)
    if line is None or line.split()[1] == "0":
        raise RuntimeError(f"nothing was answered: {line or text[-500:]}")
    answers, volume, duration, p50, p99, failed = map(int, line.split()[1:])
    seconds = duration / 1e6
    return Load(max(answers - failed, 0) / seconds, volume / seconds, p50 / 1e6, p99 / 1e6, failed, answers)
